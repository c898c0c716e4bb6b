"""A hypothesis state machine that drives a layer and the model side by side."""

import select
from functools import partial
from typing import Any, NamedTuple, cast

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from busway.bus.conformance.harness import Topic
from busway.bus.conformance.model import CAPACITY, Item, Model, address, options
from busway.bus.conformance.peers import Factory
from busway.bus.layer import ChannelLayer
from busway.bus.operations import (
    Delivery,
    GroupAdd,
    GroupDiscard,
    GroupSend,
    Leave,
    Operation,
    Return,
    Send,
)
from busway.bus.receiver import Receiver

CHANNELS = ["a", "b", "one?x", "lanes.a", "lanes.b", "p.x!1", "p.x!2", "p.y!1"]
SOURCES = ["a", "b", "one?x", "lanes.a", "lanes.b", "p.x!", "p.y!"]
NORMAL = ["a", "b", "lanes.a", "lanes.b"]
GROUPS = ["g", "h"]
READERS = [0, 1, 2]
OWNERS = [0, 2]
"""Readers on the first layer: prefixes are for one process, so only these read them."""

channels = st.sampled_from(CHANNELS)
groups = st.sampled_from(GROUPS)
# Numbers are filled in when an operation is used, so that each message has its own.
operations = st.lists(
    st.one_of(
        st.tuples(st.just("send"), channels, st.sampled_from(["", "k", "l"])),
        st.tuples(st.just("send"), st.sampled_from(["lanes.a", "lanes.b"]), st.just("k")),
        st.tuples(st.just("add"), groups, channels.filter(lambda name: "lanes" not in name)),
        st.tuples(st.just("discard"), groups, channels),
        st.tuples(st.just("group send"), groups),
        st.tuples(st.just("leave"), channels),
    ),
    max_size=6,
)


class Request(NamedTuple):
    """What to receive, and how."""

    names: list[str]
    limit: int
    hold: bool
    sleepy: bool


# How a layer shares a limit among channels is its own affair, and it may go on from one run to
# the next. So that runs can be repeated, several channels are always emptied.
requests = st.one_of(
    st.builds(
        Request,
        st.lists(st.sampled_from(SOURCES), min_size=1, max_size=1),
        st.integers(0, 4),
        st.booleans(),
        st.booleans(),
    ),
    st.builds(
        Request,
        st.lists(st.sampled_from(SOURCES), unique=True, min_size=1, max_size=4),
        st.just(100),
        st.just(False),
        st.booleans(),
    ),
)


class Reader:
    """A receiver, what it holds, and what it listens to."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.held: list[tuple[Delivery, Item]] = []
        self.listens: list[str] = []
        self.asked = Request([], 0, False, False)

    def is_woken(self) -> bool:
        """Return whether somebody woke the receiver since it was drained."""
        return bool(select.select([self.receiver.fileno()], [], [], 0)[0])

    def drain(self) -> None:
        """Forget every wake-up so far."""
        while self.is_woken():
            self.receiver.drain()


class LayerMachine(RuleBasedStateMachine):
    """Random exchanges of three receivers, each checked against the model."""

    def __init__(
        self, layers: list[ChannelLayer], lanes_capacity: int, lanes_apart: bool, eager: bool
    ) -> None:
        super().__init__()
        self.layers = layers
        self.eager = eager
        self.new_model = partial(Model, lanes_capacity)
        self.model = self.new_model()
        self.lanes_apart = lanes_apart
        self.count = 0

    @initialize()
    def begin(self) -> None:
        """Start on an empty bus."""
        self.layers[0].flush()
        self.readers = [self.new_reader(place) for place in READERS]

    def new_reader(self, place: int) -> Reader:
        """Return a reader that holds nothing."""
        receiver = self.layers[place % 2].receiver()
        receiver.eager = self.eager
        return Reader(receiver)

    def apply(self, drafts: list[tuple[Any, ...]]) -> tuple[list[Operation], list[Operation]]:
        """Apply operations to the model; returns them, and those that are to be refused."""
        made: list[Operation] = []
        refused: list[Operation] = []
        stopped: set[str] = set()
        for draft in drafts:
            self.count += 1
            operation: Operation
            match draft:
                case "send", channel, key:
                    message = {"n": self.count} | ({"key": key} if key else {})
                    operation = Send(channel, message)
                    lane = key if "lanes" in channel else ""
                    item = Item(channel, self.count, lane)
                    if self.model.send(item, stopped):
                        refused.append(operation)
                case "add", group, channel:
                    operation = GroupAdd(group, channel)
                    self.model.groups.setdefault(group, set()).add(channel)
                case "discard", group, channel:
                    operation = GroupDiscard(group, channel)
                    self.model.groups.setdefault(group, set()).discard(channel)
                case "group send", group:
                    operation = GroupSend(group, {"n": self.count})
                    self.model.group_send(group, self.count)
                case "leave", channel:
                    if self.model.is_addressed(channel):
                        continue  # it may get what was sent to it before, or not
                    operation = Leave(channel)
                    self.model.leave(channel)
            made.append(operation)
        return made, refused

    @rule(
        place=st.sampled_from(READERS),
        drafts=operations,
        finished=st.integers(0, 3),
        returned=st.integers(0, 2),
        request=requests,
    )
    def exchange(
        self,
        place: int,
        drafts: list[tuple[Any, ...]],
        finished: int,
        returned: int,
        request: Request,
    ) -> None:
        """Exchange, and compare what came and what was refused."""
        names, limit, hold, sleepy = request
        if place not in OWNERS:
            names = [name for name in names if "!" not in name] or ["a"]
            drafts = [draft for draft in drafts if draft[0] != "leave"]
        reader = self.readers[place]
        reader.drain()
        made, refused = self.apply(drafts)
        done, reader.held = reader.held[:finished], reader.held[finished:]
        cut = max(0, len(reader.held) - returned)
        back, reader.held = reader.held[cut:], reader.held[:cut]
        made += [Return(delivery) for delivery, _ in back]
        self.model.put_back([item for _, item in back])
        if refused:
            reader.held = [*done, *reader.held]
        else:
            self.model.done([item for _, item in done])

        handled = [each for each, _ in done]
        if self.eager and any(each.listens for each in self.readers if each is not reader):
            # What is sent may be handed to them: they come before this one takes.
            self.ask(reader, Request([], 0, hold, False), made, handled, refused)
            self.let_all_come()
            made, handled, refused = [], [], []
        self.ask(reader, Request(names, limit, hold, sleepy), made, handled, refused)
        self.let_all_come()

    def ask(
        self,
        reader: Reader,
        request: Request,
        operations: list[Operation],
        done: list[Delivery],
        refused: list[Operation],
    ) -> None:
        """Exchange with one reader, and compare."""
        names, limit, hold, sleepy = request
        # Who holds messages is handed some only when it sleeps for want of any.
        wake_below = (1 if self.eager and hold else limit) if sleepy and limit else 0
        outcome = reader.receiver.exchange(
            operations, done, names, limit, wake_below=wake_below, hold=hold
        )
        assert [each.operation for each in outcome.refused] == refused
        taken = self.take(outcome.deliveries, names, limit, hold=hold)
        if hold:
            reader.held += [(each, item) for each, item in taken if item.channel in NORMAL]
        if names:
            reader.asked = request
            reader.listens = names if len(taken) < wake_below else []

    def let_all_come(self) -> None:
        """Have eager readers take what they were woken for, as they have to."""
        while self.eager:
            woken = [each for each in self.readers if each.listens and each.is_woken()]
            if not woken:
                break
            woken[0].drain()
            self.ask(woken[0], woken[0].asked, [], [], [])

    def take(
        self, deliveries: list[Delivery], names: list[str], limit: int, *, hold: bool
    ) -> list[tuple[Delivery, Item]]:
        """Take from the model what the layer gave, message by message, and compare."""
        available = sum(len(self.model.queue(name).items) for name in names)
        # What an eager one was handed may be less than there is by now.
        least = min(limit, available, 1) if self.eager else min(limit, available)
        assert least <= len(deliveries) <= limit
        # Where lanes are apart, one part may go on while another is still looked at.
        goes_on = self.lanes_apart and not hold
        assert goes_on or len(deliveries) <= available
        taken = []
        for delivery in deliveries:
            name = address(delivery.channel)
            assert name in names
            items = self.model.queue(name).items
            if self.lanes_apart and "lanes" in name:
                found = next(i for i in items if i.number == delivery.message["n"])
                items.remove(found)
                items.appendleft(found)
            item = items.popleft()
            assert (delivery.channel, delivery.message["n"]) == (item.channel, item.number)
            assert frozenset(delivery.members) == item.members
            taken.append((delivery, item))
            if goes_on:
                self.model.done([item])
        if not hold and not goes_on:
            self.model.done([item for _, item in taken])
        return taken

    @rule(place=st.sampled_from(READERS))
    def close(self, place: int) -> None:
        """Close a receiver: what it held and had not begun goes back."""
        reader = self.readers[place]
        reader.receiver.close()
        self.model.put_back([item for _, item in reader.held])
        self.readers[place] = self.new_reader(place)
        self.let_all_come()

    @rule(place=st.sampled_from([0, 1]))
    def flush(self, place: int) -> None:
        """Flush the bus, when nobody holds anything."""
        for reader in self.readers:
            reader.receiver.exchange((), [each for each, _ in reader.held], SOURCES)
            reader.held, reader.listens = [], []
        self.layers[place].flush()
        self.model = self.new_model()

    @invariant()
    def statistics_agree(self) -> None:
        """Compare the counts of every channel, and of all."""
        totals = [0, 0, 0, 0]
        for name in SOURCES:
            found = self.layers[1].statistics(name)
            queue = self.model.queue(name)
            counts = [queue.accepted, queue.refused, self.model.pending(name), queue.skipped]
            assert counts == counts_of(found), name
            totals = [a + b for a, b in zip(totals, counts, strict=True)]
        assert totals == counts_of(self.layers[0].statistics()), "the whole bus"

    @invariant()
    def members_agree(self) -> None:
        """Compare the members of every group."""
        for group in GROUPS:
            expected = sorted(self.model.groups.get(group, ()))
            assert sorted(self.layers[0].group_channels(group)) == expected

    @invariant()
    def nobody_sleeps_while_work_waits(self) -> None:
        """Every channel with messages and sleepers has one among them who was woken."""
        for name in SOURCES:
            listeners = [reader for reader in self.readers if name in reader.listens]
            if listeners and self.model.queue(name).items:
                assert any(reader.is_woken() for reader in listeners), (
                    f"{name!r} has messages, and all its receivers sleep"
                )

    def teardown(self) -> None:
        """Close everything."""
        for reader in getattr(self, "readers", ()):
            reader.receiver.close()


def counts_of(found: Any) -> list[int]:
    """Return the counts that the model has, too."""
    return [
        found.messages_count,
        found.channel_full_count,
        found.messages_pending,
        found.dropped.get("full", 0),
    ]


class Machine(Topic):
    """The layer does what the model does."""

    eager: bool = False

    def test_the_layer_behaves_like_the_model(self, layer_factory: Factory) -> None:
        # Where lanes are apart, their capacity is no single number: there it is not reached.
        lanes_capacity = 1000 if self.lanes_apart else CAPACITY
        made_with = options(lanes_capacity)
        layers = [layer_factory(**made_with), layer_factory(**made_with)]
        try:
            run_state_machine_as_test(
                cast(
                    "type[RuleBasedStateMachine]",
                    partial(LayerMachine, layers, lanes_capacity, self.lanes_apart, self.eager),
                ),
                settings=settings(
                    max_examples=60,
                    stateful_step_count=40,
                    deadline=None,
                    # Explaining traces every line, and takes minutes.
                    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            for layer in layers:
                layer.close()
