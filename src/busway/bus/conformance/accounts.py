"""Counts of what went through, what waits and what was dropped; and flush."""

import time

import pytest

from busway.bus.conformance.harness import FOREVER, MOMENT, Bus, Task, Topic
from busway.bus.errors import ChannelFull, InvalidName
from busway.bus.operations import GroupAdd, GroupSend, Return, Send
from busway.bus.statistics import Statistics

ORDERED = {"lanes.*": {"ordering": "key", "lane_capacity": 2}}


class Counts(Topic):
    """`statistics`, of one channel and of all."""

    def test_nothing_happened_on_a_new_bus(self, bus: Bus) -> None:
        layer = bus.layer()
        assert layer.statistics() == Statistics()
        assert layer.statistics("unheard.of") == Statistics()
        assert layer.statistics("proc.x!") == Statistics()

    def test_messages_are_counted_where_they_were_sent(self, bus: Bus) -> None:
        layer = bus.layer()
        for channel in ("a", "a", "b?x", "proc.x!1", "proc.x!2"):
            layer.send(channel, {})
        layer.receive("a")
        for name, count, pending in (("a", 2, 1), ("b?x", 1, 1), ("proc.x!", 2, 2)):
            found = bus.layer().statistics(name)
            assert (found.messages_count, found.messages_pending) == (count, pending)
        found = layer.statistics()
        assert (found.messages_count, found.messages_pending) == (5, 4)

    def test_names_that_begin_alike_are_counted_apart(self, bus: Bus) -> None:
        layer = bus.layer()
        layer.send("name.longer", {})
        assert layer.statistics("name") == Statistics()

    def test_refusals_are_counted(self, bus: Bus) -> None:
        layer = bus.layer(capacity=1)
        layer.send("full", {})
        for _ in range(3):
            with pytest.raises(ChannelFull):
                layer.send("full", {})
        found = layer.statistics("full")
        assert (found.messages_count, found.channel_full_count) == (1, 3)
        assert layer.statistics().channel_full_count == 3
        assert layer.statistics("other").channel_full_count == 0

    def test_messages_behind_a_lane_are_pending(self, bus: Bus) -> None:
        layer = bus.layer(policies=ORDERED)
        reader = layer.reader()
        reader.exchange([Send("lanes.a", {"key": "k"}) for _ in range(3)])
        assert layer.statistics("lanes.a").messages_pending == 3
        held = reader.take("lanes.a")
        assert layer.statistics("lanes.a").messages_pending == 2
        assert layer.statistics().messages_pending == 2
        reader.exchange((), held)
        assert layer.statistics("lanes.a").messages_pending == 2

    def test_delayed_messages_are_pending(self, bus: Bus) -> None:
        layer = bus.layer()
        layer.send("later", {}, delay=FOREVER)
        layer.send("later", {})
        found = layer.statistics("later")
        assert (found.messages_count, found.messages_pending) == (2, 2)
        layer.receive("later")
        assert layer.statistics().messages_pending == 1

    def test_messages_in_hands_are_not_pending_until_they_are_returned(self, bus: Bus) -> None:
        layer = bus.layer()
        reader = layer.reader()
        layer.send("work", {})
        held = reader.take("work")
        assert layer.statistics().messages_pending == 0
        reader.exchange([Return(held[0])])
        found = layer.statistics("work")
        assert (found.messages_count, found.messages_pending) == (1, 1)

    def test_the_age_is_that_of_the_oldest_message(self, bus: Bus) -> None:
        layer = bus.layer()
        start = time.time()
        layer.send("aging", {"n": 1})
        time.sleep(MOMENT)
        layer.send("aging", {"n": 2})
        layer.send("young", {})
        found = layer.statistics("aging").messages_max_age
        assert MOMENT * 0.9 <= found <= time.time() - start
        assert layer.statistics("young").messages_max_age < found
        assert layer.statistics().messages_max_age >= found
        layer.receive("aging")
        assert layer.statistics("aging").messages_max_age < found
        layer.drain("aging")
        assert layer.statistics("aging").messages_max_age == 0

    def test_the_age_counts_what_waits_behind_a_lane(self, bus: Bus) -> None:
        layer = bus.layer(policies=ORDERED)
        reader = layer.reader()
        reader.exchange([Send("lanes.a", {"key": "k"}) for _ in range(2)])
        reader.take("lanes.a")
        time.sleep(MOMENT)
        assert layer.statistics("lanes.a").messages_max_age >= MOMENT * 0.9

    def test_drops_are_counted_by_reason(self, bus: Bus) -> None:
        layer = bus.layer(capacity=1, policies={"short": {"expiry": MOMENT, "capacity": 1}})
        for channel in ("full", "short"):
            layer.group_add("group", channel)
            layer.send(channel, {})
        layer.group_send("group", {})
        time.sleep(MOMENT)
        assert layer.receive("short") == (None, None)
        assert layer.statistics("full").dropped == {"full": 1}
        assert layer.statistics("short").dropped == {"full": 1, "expired": 1}
        assert layer.statistics().dropped == {"full": 2, "expired": 1}

    def test_group_messages_count_where_they_arrive(self, bus: Bus) -> None:
        layer = bus.layer()
        reader = layer.reader()
        members = ["plain", "proc.x!a", "proc.x!b", "proc.y!a"]
        reader.exchange([GroupAdd("group", member) for member in members])
        reader.exchange([GroupSend("group", {})])
        for name in ("plain", "proc.x!", "proc.y!"):
            found = layer.statistics(name)
            assert (found.messages_count, found.messages_pending) == (1, 1)

    @pytest.mark.parametrize("name", ["", "bad name", "x" * 100, 7])
    def test_statistics_of_what_is_no_channel_are_refused(self, bus: Bus, name: str) -> None:
        layer = bus.layer()
        with pytest.raises(InvalidName):
            layer.statistics(name)


class Flush(Topic):
    """`flush` leaves a bus as new, under the feet of those who use it."""

    def test_flush_drops_messages_groups_and_counts(self, bus: Bus) -> None:
        layer = bus.layer(capacity=2, policies=ORDERED)
        reader = layer.reader()
        for channel in ("plain", "one?x", "proc.x!a"):
            layer.group_add("group", channel)
            layer.send(channel, {})
        layer.send("later", {}, delay=FOREVER)
        layer.send("plain", {})
        layer.group_send("group", {})
        with pytest.raises(ChannelFull):
            layer.send("plain", {})
        reader.exchange([Send("lanes.a", {"key": "k"}) for _ in range(5)])
        layer.flush()
        assert layer.statistics() == Statistics()
        assert layer.members("group") == []
        assert layer.receive("plain", "one?x", "proc.x!", "later", "lanes.a") == (None, None)

    def test_a_flushed_bus_works(self, bus: Bus) -> None:
        layer, other = bus.layer(capacity=2), bus.layer(capacity=2)
        layer.send("work", {"n": 1})
        layer.send("work", {"n": 2})
        other.flush()
        layer.send("work", {"n": 3})
        assert layer.receive("work") == ("work", {"n": 3})
        assert layer.statistics().messages_count == 1

    def test_a_flush_makes_room_in_lanes(self, bus: Bus) -> None:
        layer = bus.layer(policies=ORDERED)
        reader = layer.reader()
        reader.exchange([Send("lanes.a", {"key": "k", "n": n}) for n in range(5)])
        layer.flush()
        reader.exchange([Send("lanes.a", {"key": "k", "n": n}) for n in range(5, 7)])
        held = reader.take("lanes.a")
        assert [each.message["n"] for each in held] == [5]
        held = reader.exchange((), held, ["lanes.a"], 5).deliveries
        assert [each.message["n"] for each in held] == [6]

    def test_what_was_held_through_a_flush_is_done_without_harm(self, bus: Bus) -> None:
        layer = bus.layer(policies=ORDERED)
        reader, other = layer.reader(), layer.reader()
        reader.exchange([Send("lanes.a", {"key": "k", "n": 1}), Send("work", {"n": 2})])
        old = reader.take("lanes.a", "work")
        layer.flush()
        other.exchange([Send("lanes.a", {"key": "k", "n": n}) for n in (3, 4)])
        held = other.take("lanes.a")
        assert [each.message["n"] for each in held] == [3]
        reader.exchange((), old)
        assert other.take("lanes.a", "work") == [], "the old message ended the new one's turn"
        held = other.exchange((), held, ["lanes.a", "work"], 5).deliveries
        assert [each.message["n"] for each in held] == [4]

    def test_waiting_receivers_go_on_waiting_and_are_woken_later(self, bus: Bus) -> None:
        layer = bus.layer()
        readers = [layer.reader() for _ in range(2)]
        for reader in readers:
            reader.listen("work", "proc.x!")
        tasks = [Task(reader.sleep) for reader in readers]
        bus.layer().flush()
        layer.send("work", {"n": 1})
        layer.send("proc.x!a", {"n": 2})
        for task in tasks:
            task.result()
        found = readers[0].take("work", "proc.x!", limit=1)
        found += readers[1].take("work", "proc.x!", limit=1)
        assert sorted(each.message["n"] for each in found) == [1, 2]

    def test_refused_senders_wake_after_a_flush(self, bus: Bus) -> None:
        layer = bus.layer(capacity=1)
        sender = layer.reader()
        assert sender.exchange([Send("full", {})] * 2, wake_below=1).refused != []
        task = Task(sender.sleep)
        layer.flush()
        task.result()
        assert sender.exchange([Send("full", {})]).refused == []

    def test_members_from_before_a_flush_get_nothing(self, bus: Bus) -> None:
        layer, other = bus.layer(), bus.layer()
        reader = layer.reader()
        reader.exchange([GroupAdd("group", f"proc.x!{name}") for name in "ab"])
        layer.group_send("group", {"n": 1})
        assert [sorted(each.members) for each in reader.take("proc.x!")] == [
            ["proc.x!a", "proc.x!b"]
        ]
        other.flush()
        layer.group_add("group", "proc.x!c")
        layer.group_send("group", {"n": 2})
        assert [each.members for each in reader.take("proc.x!")] == [("proc.x!c",)]

    def test_group_messages_half_received_are_dropped_too(self, bus: Bus) -> None:
        layer = bus.layer()
        for name in "ab":
            layer.group_add("group", f"proc.x!{name}")
        layer.group_send("group", {"n": 1})
        assert layer.next_message("proc.x!") == {"n": 1}
        layer.flush()
        assert layer.receive("proc.x!") == (None, None)
