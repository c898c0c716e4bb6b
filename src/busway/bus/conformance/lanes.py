"""Ordering: messages of one lane are handled in their order and one at a time."""

import random
import threading
import time
from functools import partial

import pytest

from busway.bus.conformance.harness import Bus, Reader, Task, Topic, eventually
from busway.bus.errors import ChannelFull
from busway.bus.operations import Delivery, GroupSend, Operation, Return, Send

POLICIES = {"lanes.*": {"ordering": "key"}, "more.*": {"ordering": "key"}}
TIGHT = {"lanes.*": {"ordering": "key", "lane_capacity": 2}}


def numbers(deliveries: list[Delivery]) -> list[int]:
    """Return the numbers in messages."""
    return [each.message["n"] for each in deliveries]


def by_key(deliveries: list[Delivery]) -> list[Delivery]:
    """Return messages in the order of their lanes' names: a layer may keep lanes apart."""
    return sorted(deliveries, key=lambda each: str(each.message["key"]))


def ordered(n: int, key: str = "k", channel: str = "lanes.a") -> Send:
    """Return the sending of a message of the lane `key`."""
    return Send(channel, {"key": key, "n": n})


class Lanes(Topic):
    """The rules of a lane, one by one."""

    def test_a_lane_gives_one_message_until_it_is_done(self, bus: Bus) -> None:
        layer = bus.layer(policies=POLICIES)
        reader, other = layer.reader(), bus.layer(policies=POLICIES).reader()
        reader.exchange([ordered(n) for n in range(3)])
        held = reader.take("lanes.a")
        assert numbers(held) == [0]
        assert held[0].lane
        assert other.take("lanes.a") == []
        reader.exchange((), held)
        held = other.take("lanes.a")
        assert numbers(held) == [1]
        assert reader.take("lanes.a") == []
        assert numbers(other.exchange((), held, ["lanes.a"], 5).deliveries) == [2]

    def test_other_lanes_go_on(self, bus: Bus) -> None:
        reader = bus.layer(policies=POLICIES).reader()
        reader.exchange([ordered(n, key) for n in range(2) for key in "abc"])
        held = by_key(reader.take("lanes.a"))
        assert [each.message["key"] for each in held] == ["a", "b", "c"]
        found = reader.exchange((), held[1:2], ["lanes.a"], 5).deliveries
        assert [each.message for each in found] == [{"key": "b", "n": 1}]

    def test_messages_without_the_key_are_in_no_lane(self, bus: Bus) -> None:
        reader = bus.layer(policies=POLICIES).reader()
        reader.exchange([Send("lanes.a", {"n": n}) for n in range(3)])
        found = reader.take("lanes.a")
        assert numbers(found) == [0, 1, 2]
        assert {each.lane for each in found} == {""}

    def test_channels_without_ordering_have_no_lanes(self, bus: Bus) -> None:
        reader = bus.layer(policies=POLICIES).reader()
        reader.exchange([Send("plain", {"key": "k", "n": n}) for n in range(3)])
        assert numbers(reader.take("plain")) == [0, 1, 2]

    def test_a_lane_spans_the_channels_of_its_pattern(self, bus: Bus) -> None:
        reader = bus.layer(policies=POLICIES).reader()
        channels = ["lanes.a", "lanes.b", "lanes.c"]
        reader.exchange([ordered(n, channel=channel) for n, channel in enumerate(channels)])
        assert reader.take("lanes.c", "lanes.b") == []
        held = reader.take(*channels)
        assert [each.channel for each in held] == ["lanes.a"]
        assert reader.exchange((), held, ["lanes.c"], 5).deliveries == []
        held = reader.take(*channels)
        assert [each.channel for each in held] == ["lanes.b"]
        assert numbers(reader.exchange((), held, channels, 5).deliveries) == [2]

    def test_patterns_have_lanes_of_their_own(self, bus: Bus) -> None:
        reader = bus.layer(policies=POLICIES).reader()
        reader.exchange([ordered(1), ordered(2, channel="more.a")])
        assert sorted(numbers(reader.take("lanes.a", "more.a"))) == [1, 2]

    def test_websockets_are_ordered_by_reply_channel_by_default(self, bus: Bus) -> None:
        reader = bus.layer().reader()
        events = ["connect", "receive", "disconnect"]
        sends = [
            Send(f"websocket.{event}", {"reply_channel": f"web.x!{socket}"})
            for event in events
            for socket in (1, 2)
        ]
        reader.exchange(sends)
        held: list[Delivery] = []
        for event in events:
            channels = [f"websocket.{each}" for each in events]
            held = reader.exchange((), held, channels, 10).deliveries
            assert [each.channel for each in held] == [f"websocket.{event}"] * 2

    def test_what_is_not_held_is_done_on_delivery(self, bus: Bus) -> None:
        layer = bus.layer(policies=POLICIES)
        reader = layer.reader()
        reader.exchange([ordered(n) for n in range(4)])
        assert layer.next_message("lanes.a")["n"] == 0
        assert layer.next_message("lanes.a")["n"] == 1
        found = reader.take("lanes.a", hold=False) + reader.take("lanes.a", hold=False)
        assert numbers(found)[:2] == [2, 3]

    def test_a_message_sent_while_the_one_before_is_handled_waits(self, bus: Bus) -> None:
        reader = bus.layer(policies=POLICIES).reader()
        reader.exchange([ordered(1)])
        held = reader.take("lanes.a")
        reader.exchange([ordered(2)])
        assert reader.take("lanes.a") == []
        assert numbers(reader.exchange([ordered(3)], held, ["lanes.a"], 5).deliveries) == [2]

    def test_an_idle_lane_starts_again(self, bus: Bus) -> None:
        reader = bus.layer(policies=POLICIES).reader()
        for n in range(3):
            held = reader.exchange([ordered(n)], (), ["lanes.a"], 5).deliveries
            assert numbers(held) == [n]
            assert reader.exchange((), held, ["lanes.a"], 5).deliveries == []

    def test_a_returned_message_is_the_next_of_its_lane(self, bus: Bus) -> None:
        layer = bus.layer(policies=POLICIES)
        reader, other = layer.reader(), layer.reader()
        reader.exchange([ordered(1), ordered(2), ordered(3, "other")])
        held = reader.take("lanes.a", limit=1)
        reader.exchange([Return(held[0])])
        found = other.take("lanes.a")
        assert numbers(found) == [1, 3]
        found = other.exchange((), found[:1], ["lanes.a"], 5).deliveries
        assert numbers(found) == [2]

    def test_a_closed_receiver_lets_its_lanes_go_on(self, bus: Bus) -> None:
        layer = bus.layer(policies=POLICIES)
        reader, other = layer.reader(), layer.reader()
        reader.exchange([ordered(n, key) for n in range(2) for key in "ab"])
        held = reader.take("lanes.a")
        reader.receiver.begin(held[0])
        reader.close()
        found = other.take("lanes.a")
        first, second = (each.message["key"] for each in held)
        assert {each.message["key"]: each.message["n"] for each in found} == {first: 1, second: 0}

    def test_two_values_that_are_alike_as_text_are_no_error(self, bus: Bus) -> None:
        reader = bus.layer(policies=POLICIES).reader()
        keys = ["1", 1, 1.0, True, None, b"1", "", [1], {"a": 1}, "x" * 5000, "\0", "a\0b"]
        reader.exchange([Send("lanes.a", {"key": key}) for key in keys])
        assert len(reader.take("lanes.a")) > 0

    def test_long_keys_are_told_apart_to_the_end(self, bus: Bus) -> None:
        reader = bus.layer(policies=POLICIES).reader()
        reader.exchange([ordered(n, "x" * 5000 + str(n)) for n in range(3)])
        assert sorted(numbers(reader.take("lanes.a"))) == [0, 1, 2]


class LaneRoom(Topic):
    """A lane takes so many messages behind the one that is handled."""

    @pytest.mark.parametrize("begun", [True, False], ids=["in hands", "waiting"])
    def test_a_full_lane_refuses(self, bus: Bus, begun: bool) -> None:
        layer = bus.layer(policies=TIGHT)
        reader = layer.reader()
        layer.send("lanes.a", {"key": "k", "n": 0})
        held = reader.take("lanes.a") if begun else []
        layer.send("lanes.a", {"key": "k", "n": 1})
        layer.send("lanes.a", {"key": "k", "n": 2})
        with pytest.raises(ChannelFull) as caught:
            layer.send("lanes.a", {"key": "k", "n": 3})
        assert (caught.value.channel, caught.value.reason, caught.value.limit) == (
            "lanes.a",
            "lane",
            2,
        )
        layer.send("lanes.a", {"key": "other", "n": 4})
        held = held or [each for each in reader.take("lanes.a") if each.message["key"] == "k"]
        reader.exchange([], held)
        layer.send("lanes.a", {"key": "k", "n": 5})
        assert layer.statistics("lanes.a").channel_full_count == 1

    def test_twenty_messages_wait_behind_one_by_default(self, bus: Bus) -> None:
        reader = bus.layer(policies=POLICIES).reader()
        refused = reader.exchange([ordered(n) for n in range(25)]).refused
        assert [each.index for each in refused] == [21, 22, 23, 24]

    def test_nothing_of_a_lane_overtakes_what_was_refused(self, bus: Bus) -> None:
        policies = {"lanes.*": {"ordering": "key", "capacity": 1}}
        layer = bus.layer(policies=policies)
        reader = layer.reader()
        # Where a layer keeps lanes apart, capacity counts for each part: all are filled.
        for n in range(30):
            reader.exchange([ordered(0, f"other {n}")])
        operations: list[Operation] = [
            ordered(1),
            ordered(2, channel="lanes.b"),
            ordered(3, "third", channel="lanes.b"),
            GroupSend("nobody", {}),
            ordered(4, channel="lanes.c"),
        ]
        outcome = reader.exchange(operations, (), ["lanes.a"], 30)
        assert [(each.index, each.operation) for each in outcome.refused] == [
            (index, operations[index]) for index in (0, 1, 4)
        ]
        again = [each.operation for each in outcome.refused]
        assert reader.exchange(again).refused == []
        held = reader.take("lanes.a", "lanes.b", "lanes.c")
        assert sorted(numbers(held)) == [1, 3]
        held = reader.exchange((), held, ["lanes.a", "lanes.b", "lanes.c"], 5).deliveries
        assert numbers(held) == [2]
        held = reader.exchange((), held, ["lanes.a", "lanes.b", "lanes.c"], 5).deliveries
        assert numbers(held) == [4]

    def test_a_refused_lane_does_not_stop_others(self, bus: Bus) -> None:
        reader = bus.layer(policies=TIGHT).reader()
        operations = [ordered(n, key) for n in range(5) for key in "ab"]
        refused = reader.exchange([*operations, ordered(9, "c")]).refused
        assert [each.index for each in refused] == [6, 7, 8, 9]

    def test_a_refused_sender_wakes_when_its_lane_has_room(self, bus: Bus) -> None:
        layer = bus.layer(policies=TIGHT)
        sender, reader = layer.reader(), layer.reader()
        sender.exchange([ordered(n) for n in range(3)])
        held = reader.take("lanes.a")
        assert len(sender.exchange([ordered(3)], wake_below=1).refused) == 1
        task = Task(sender.sleep)
        reader.exchange((), held)
        task.result()
        assert sender.exchange([ordered(3)]).refused == []


class LanesAtWork(Topic):
    """Several readers at once, of random speed."""

    def test_a_sleeping_reader_wakes_when_the_lane_goes_on(self, bus: Bus) -> None:
        layer = bus.layer(policies=POLICIES)
        reader, sleeper = layer.reader(), layer.reader()
        reader.exchange([ordered(1), ordered(2)])
        held = reader.take("lanes.a")
        sleeper.listen("lanes.a")
        task = Task(partial(sleeper.fetch, "lanes.a"))
        reader.exchange((), held)
        assert numbers(task.result()) == [2]

    def test_a_reader_that_holds_nothing_is_woken_for_the_rest_of_a_lane(self, bus: Bus) -> None:
        layer = bus.layer(policies=POLICIES)
        reader = layer.reader()
        reader.exchange([ordered(n) for n in range(3)])
        found: list[Delivery] = []
        while len(found) < 3:
            outcome = reader.exchange((), (), ["lanes.a"], 5, wake_below=5, hold=False)
            found += outcome.deliveries
            if len(found) < 3:
                reader.sleep()
        assert numbers(found) == [0, 1, 2]

    def test_threads_handle_each_lane_in_order_and_one_at_a_time(self, bus: Bus) -> None:
        layer = bus.layer(policies={"lanes.*": {"ordering": "key", "lane_capacity": 50}})
        log = Log()
        readers = [layer.reader() for _ in range(4)]
        tasks = [Task(partial(work, reader, log)) for reader in readers]
        for n in range(25):
            for key in "abc":
                layer.send("lanes.a" if n % 3 else "lanes.b", {"key": key, "n": n})
        eventually(lambda: sum(map(len, log.seen.values())) + log.collisions == 75, "all handled")
        log.stopping = True
        for reader in readers:
            reader.receiver.interrupt()
        for task in tasks:
            task.result()
        assert log.seen == {key: list(range(25)) for key in "abc"}
        assert log.collisions == 0


class Log:
    """What threads handled: the numbers of each lane, and how often two were in one."""

    def __init__(self) -> None:
        self.seen: dict[str, list[int]] = {key: [] for key in "abc"}
        self.collisions = 0
        self.stopping = False
        self._inside = {key: threading.Lock() for key in "abc"}

    def handle(self, key: str, n: int) -> None:
        """Record a message, and take a while."""
        if not self._inside[key].acquire(blocking=False):
            self.collisions += 1
            return
        self.seen[key].append(n)
        time.sleep(random.random() * 0.002)  # noqa: S311
        self._inside[key].release()


def work(reader: Reader, log: Log) -> None:
    """Handle messages, a few at a time, until the log says stop."""
    held: list[Delivery] = []
    while not log.stopping:
        held = reader.exchange((), held, ["lanes.a", "lanes.b"], 3, wake_below=1).deliveries
        for delivery in held:
            log.handle(delivery.message["key"], delivery.message["n"])
        if not held:
            reader.sleep()
