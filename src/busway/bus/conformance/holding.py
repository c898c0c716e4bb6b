"""What receivers hold: done, given back, begun; and the atomic step of an exchange."""

from functools import partial
from typing import Any

import pytest

from busway.bus.conformance.harness import Bus, Task, Topic, label
from busway.bus.errors import InvalidMessage, InvalidName, LayerClosed, MessageTooLarge, UsageError
from busway.bus.operations import Delivery, GroupAdd, GroupDiscard, GroupSend, Leave, Return, Send


def numbers(deliveries: list[Delivery]) -> list[int]:
    """Return the numbers in messages."""
    return [each.message["n"] for each in deliveries]


MISTAKES: list[tuple[Any, type[Exception]]] = [
    (Send("bad name", {}), InvalidName),
    (Send("proc.x!", {}), InvalidName),
    (Send("fine", {"n": {1}}), InvalidMessage),
    (Send("fine", {"n": "\ud800"}), InvalidMessage),
    (Send("fine", {"n": bytes(2000)}), MessageTooLarge),
    (GroupAdd("bad group", "fine"), InvalidName),
    (GroupAdd("group", "bad name"), InvalidName),
    (GroupDiscard("group", "bad name"), InvalidName),
    (GroupSend("group!", {}), InvalidName),
    (GroupSend("group", {"n": object()}), InvalidMessage),
    (GroupSend("group", {"n": bytes(2000)}), MessageTooLarge),
    (Leave("bad name"), InvalidName),
]


class Holding(Topic):
    """A message in one receiver's hands is in nobody else's."""

    def test_what_is_held_is_given_to_nobody_else(self, bus: Bus) -> None:
        layer = bus.layer()
        reader, other = layer.reader(), layer.reader()
        layer.send("work", {"n": 1})
        assert numbers(reader.take("work")) == [1]
        assert other.take("work") == reader.take("work") == []

    def test_returned_messages_are_in_front_and_in_order(self, bus: Bus) -> None:
        layer = bus.layer()
        reader = layer.reader()
        reader.exchange([Send("work", {"n": n}) for n in range(6)])
        held = reader.take("work", limit=4)
        outcome = reader.exchange([Return(each) for each in held[1:]], held[:1])
        assert outcome.refused == []
        assert numbers(layer.reader().take("work")) == [1, 2, 3, 4, 5]

    def test_messages_returned_one_by_one_end_up_in_order(self, bus: Bus) -> None:
        layer = bus.layer()
        reader = layer.reader()
        reader.exchange([Send("work", {"n": n}) for n in range(4)])
        held = reader.take("work", limit=3)
        for each in reversed(held):
            reader.exchange([Return(each)])
        assert numbers(layer.reader().take("work")) == [0, 1, 2, 3]

    def test_a_return_finds_room_in_a_full_channel(self, bus: Bus) -> None:
        layer = bus.layer(capacity=2)
        reader = layer.reader()
        reader.exchange([Send("work", {"n": n}) for n in range(2)])
        held = reader.take("work")
        reader.exchange([Send("work", {"n": n}) for n in (2, 3)])
        assert reader.exchange([Return(each) for each in held]).refused == []
        assert numbers(reader.take("work")) == [0, 1, 2, 3]

    def test_a_return_and_a_receive_fit_in_one_exchange(self, bus: Bus) -> None:
        reader = bus.layer().reader()
        reader.exchange([Send("work", {"n": n}) for n in range(3)])
        held = reader.take("work", limit=2)
        outcome = reader.exchange([Return(held[1])], held[:1], ["work"], 1)
        assert numbers(outcome.deliveries) == [1]

    def test_returned_messages_come_as_they_were(self, bus: Bus) -> None:
        layer = bus.layer()
        layer.send("work", {"n": 1, "b": b"x", "l": [1]})
        reader = layer.reader()
        held = reader.take("work")[0]
        held.message["l"].append("changed")
        reader.exchange([Return(held)])
        again = reader.take("work")[0]
        assert again.message == {"n": 1, "b": b"x", "l": [1]}
        assert (again.channel, again.sent) == (held.channel, held.sent)

    def test_a_return_wakes_a_sleeping_reader(self, bus: Bus) -> None:
        layer = bus.layer()
        reader, sleeper = layer.reader(), layer.reader()
        layer.send("work", {"n": 1})
        held = reader.take("work")
        sleeper.listen("work")
        task = Task(partial(sleeper.fetch, "work"))
        reader.exchange([Return(held[0])])
        assert numbers(task.result()) == [1]

    def test_a_closed_receiver_gives_back_what_was_not_begun(self, bus: Bus) -> None:
        layer = bus.layer()
        reader = layer.reader()
        reader.exchange([Send("work", {"n": n}) for n in range(6)])
        held = reader.take("work", limit=4)
        reader.receiver.begin(held[1])
        reader.close()
        assert numbers(layer.reader().take("work")) == [2, 3, 4, 5]

    def test_a_closed_receiver_gives_back_several_batches_in_order(self, bus: Bus) -> None:
        layer = bus.layer()
        reader = layer.reader()
        reader.exchange([Send("work", {"n": n}) for n in range(7)])
        held = [reader.take("work", limit=2) for _ in range(3)]
        reader.exchange((), [held[0][0], held[1][0]])
        reader.close()
        assert numbers(layer.reader().take("work")) == [1, 3, 4, 5, 6]

    def test_to_begin_a_message_is_to_have_begun_all_that_was_taken_before(self, bus: Bus) -> None:
        layer = bus.layer()
        reader = layer.reader()
        reader.exchange([Send("work", {"n": n}) for n in range(6)])
        reader.take("work", limit=2)
        reader.receiver.begin(reader.take("work", limit=3)[0])
        reader.close()
        assert numbers(layer.reader().take("work")) == [3, 4, 5]

    def test_only_what_is_held_can_be_returned(self, bus: Bus) -> None:
        layer = bus.layer()
        reader, other = layer.reader(), layer.reader()
        reader.exchange([Send("work", {"n": n}) for n in range(2)])
        done, back = reader.take("work")
        reader.exchange([Return(back)], [done])
        loose = other.take("work", hold=False)[0]
        for delivery, owner in ((done, reader), (back, reader), (back, other), (loose, other)):
            with pytest.raises(UsageError):
                owner.exchange([Send("sent", {}), Return(delivery)])
        assert layer.receive("work", "sent") == (None, None)

    def test_what_a_closed_receiver_gives_back_wakes_a_sleeping_reader(self, bus: Bus) -> None:
        layer = bus.layer()
        reader, sleeper = layer.reader(), layer.reader()
        layer.send("work", {"n": 1})
        reader.take("work")
        sleeper.listen("work")
        task = Task(partial(sleeper.fetch, "work"))
        reader.close()
        assert numbers(task.result()) == [1]

    def test_what_is_done_does_not_come_back(self, bus: Bus) -> None:
        layer = bus.layer()
        reader = layer.reader()
        reader.exchange([Send("work", {"n": n}) for n in range(3)])
        held = reader.take("work")
        reader.exchange((), held[:2])
        reader.close()
        assert numbers(layer.reader().take("work")) == [2]

    def test_what_was_not_to_be_held_does_not_come_back(self, bus: Bus) -> None:
        layer = bus.layer()
        reader = layer.reader()
        layer.send("work", {"n": 1})
        reader.take("work", hold=False)
        reader.close()
        assert layer.receive("work") == (None, None)

    def test_closing_twice_is_harmless(self, bus: Bus) -> None:
        layer = bus.layer()
        reader = layer.reader()
        layer.send("work", {"n": 1})
        reader.take("work")
        reader.close()
        reader.close()
        assert layer.drain("work") == [{"n": 1}]

    def test_a_receiver_is_a_context_manager(self, bus: Bus) -> None:
        layer = bus.layer()
        layer.send("work", {"n": 1})
        with layer.layer.receiver() as receiver:
            assert len(receiver.exchange((), (), ["work"], 1).deliveries) == 1
        assert layer.drain("work") == [{"n": 1}]


class Atomicity(Topic):
    """A mistake in an exchange applies nothing of it."""

    @pytest.mark.parametrize(("mistake", "error"), MISTAKES, ids=label)
    def test_a_mistake_among_the_operations_applies_nothing(
        self, bus: Bus, mistake: Any, error: type[Exception]
    ) -> None:
        layer = bus.layer(message_size=1000, policies={"lanes.*": {"ordering": "key"}})
        reader = layer.reader()
        for n in (1, 2):
            layer.send("lanes.a", {"key": "k", "n": n})
        for member in ("member", "proc.x!member"):
            layer.group_add("group", member)
        held = reader.take("lanes.a")
        assert reader.take("proc.x!") == []
        operations = [
            Send("sent", {}),
            GroupSend("group", {"n": 0}),
            GroupAdd("group", "new"),
            GroupDiscard("group", "member"),
            Leave("proc.x!member"),
            mistake,
        ]
        with pytest.raises(error):
            reader.exchange(operations, held, ["lanes.a"], 5)
        assert layer.receive("sent", "member", "new", "proc.x!") == (None, None)
        assert layer.members("group") == ["member", "proc.x!member"]
        layer.group_send("group", {"n": 9})
        assert layer.drain("proc.x!") == layer.drain("member") == [{"n": 9}]
        assert reader.take("lanes.a") == []
        assert numbers(reader.exchange((), held, ["lanes.a"], 5).deliveries) == [2]

    @pytest.mark.parametrize("name", ["bad name", "half?", "proc.x!full", ""])
    def test_a_mistake_among_the_channels_applies_nothing(self, bus: Bus, name: str) -> None:
        layer = bus.layer()
        reader = layer.reader()
        layer.send("waits", {"n": 1})
        with pytest.raises(InvalidName):
            reader.exchange([Send("sent", {})], (), ["waits", name], 5)
        assert layer.receive("sent") == (None, None)
        assert layer.receive("waits") == ("waits", {"n": 1})


class Closing(Topic):
    """What is closed says so."""

    def test_a_closed_receiver_refuses(self, bus: Bus) -> None:
        reader = bus.layer().reader()
        reader.close()
        with pytest.raises(LayerClosed):
            reader.exchange([Send("work", {})])
        with pytest.raises(LayerClosed):
            reader.exchange((), (), ["work"], 1)
        with pytest.raises(LayerClosed):
            reader.wait(1)

    def test_a_closed_layer_refuses(self, bus: Bus) -> None:
        layer = bus.layer()
        layer.send("work", {})
        layer.layer.close()
        layer.layer.close()
        for call in (
            lambda: layer.send("work", {}),
            lambda: layer.receive("work"),
            lambda: layer.group_add("group", "work"),
            lambda: layer.group_discard("group", "work"),
            lambda: layer.group_send("group", {}),
            lambda: layer.members("group"),
            layer.statistics,
            layer.flush,
            layer.layer.receiver,
        ):
            with pytest.raises(LayerClosed):
                call()
