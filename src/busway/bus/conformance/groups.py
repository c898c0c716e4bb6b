"""Groups: who is a member, who gets a message, and how a membership ends."""

import time
from collections.abc import Iterable

import pytest

from busway.bus.conformance.harness import MOMENT, Bus, Topic, eventually
from busway.bus.errors import ChannelFull
from busway.bus.operations import Delivery, GroupAdd, GroupDiscard, GroupSend, Leave, Send

KINDS = ["plain", "single?x", "proc.x!a"]
"""One channel of each kind."""


def source(channel: str) -> str:
    """Return the name under which `channel` is received."""
    return channel[: channel.index("!") + 1] if "!" in channel else channel


def addressed(deliveries: Iterable[Delivery]) -> list[tuple[str, list[str], object]]:
    """Return (channel, sorted members, value of "n") of each delivery."""
    return [(each.channel, sorted(each.members), each.message.get("n")) for each in deliveries]


class Members(Topic):
    """`group_add`, `group_discard`, `Leave` and `group_channels`."""

    def test_members_are_listed(self, bus: Bus) -> None:
        layer = bus.layer()
        assert layer.members("group") == []
        for channel in KINDS:
            layer.group_add("group", channel)
            layer.group_add("group", channel)
        layer.group_add("other", "somebody")
        assert layer.members("group") == sorted(KINDS)
        assert bus.layer().members("group") == sorted(KINDS)

    @pytest.mark.parametrize("channel", KINDS)
    def test_a_member_gets_the_groups_messages(self, bus: Bus, channel: str) -> None:
        layer = bus.layer()
        layer.group_add("group", channel)
        layer.group_send("group", {"n": 1})
        layer.group_send("group", {"n": 2})
        assert layer.receive(source(channel)) == (channel, {"n": 1})
        assert layer.receive(source(channel)) == (channel, {"n": 2})
        assert layer.receive(source(channel)) == (None, None)

    @pytest.mark.parametrize("channel", KINDS)
    def test_adding_twice_gives_one_message(self, bus: Bus, channel: str) -> None:
        layer = bus.layer()
        layer.group_add("group", channel)
        layer.group_add("group", channel)
        layer.group_send("group", {"n": 1})
        assert layer.drain(source(channel)) == [{"n": 1}]

    @pytest.mark.parametrize("channel", KINDS)
    def test_who_was_discarded_gets_nothing(self, bus: Bus, channel: str) -> None:
        layer = bus.layer()
        layer.group_add("group", channel)
        layer.group_discard("group", channel)
        layer.group_send("group", {"n": 1})
        assert layer.members("group") == []
        assert layer.receive(source(channel)) == (None, None)

    @pytest.mark.parametrize("channel", KINDS)
    def test_who_was_added_twice_is_discarded_once(self, bus: Bus, channel: str) -> None:
        layer = bus.layer()
        layer.group_add("group", channel)
        layer.group_add("group", channel)
        layer.group_discard("group", channel)
        layer.group_send("group", {"n": 1})
        assert layer.members("group") == []
        assert layer.receive(source(channel)) == (None, None)

    @pytest.mark.parametrize("channel", KINDS)
    def test_discarding_who_is_no_member_does_nothing(self, bus: Bus, channel: str) -> None:
        layer = bus.layer()
        layer.group_add("group", "proc.x!other")
        layer.group_discard("group", channel)
        layer.group_discard("nobody", channel)
        layer.group_send("group", {"n": 1})
        assert layer.receive("proc.x!", channel if "!" not in channel else "x") == (
            "proc.x!other",
            {"n": 1},
        )

    def test_a_message_to_an_empty_group_goes_nowhere(self, bus: Bus) -> None:
        layer = bus.layer()
        layer.group_send("group", {"n": 1})
        layer.group_add("group", "late")
        assert layer.receive("late") == (None, None)
        assert layer.statistics().messages_pending == 0

    def test_groups_know_nothing_of_each_other(self, bus: Bus) -> None:
        layer = bus.layer()
        for group in ("one", "two"):
            layer.group_add(group, f"{group}.plain")
            layer.group_add(group, f"proc.x!{group}")
        layer.group_send("one", {"n": 1})
        assert layer.receive("two.plain") == (None, None)
        assert layer.receive("proc.x!") == ("proc.x!one", {"n": 1})
        assert layer.receive("proc.x!") == (None, None)

    def test_a_channel_in_two_groups_gets_the_messages_of_both(self, bus: Bus) -> None:
        layer = bus.layer()
        for group in ("one", "two"):
            layer.group_add(group, "proc.x!a")
            layer.group_add(group, "plain")
        layer.group_discard("two", "proc.x!a")
        layer.group_add("two", "proc.x!a")
        layer.group_send("one", {"n": 1})
        layer.group_send("two", {"n": 2})
        assert layer.drain("proc.x!") == [{"n": 1}, {"n": 2}]
        assert layer.drain("plain") == [{"n": 1}, {"n": 2}]

    @pytest.mark.parametrize("channel", KINDS)
    def test_who_leaves_is_in_no_group(self, bus: Bus, channel: str) -> None:
        layer = bus.layer()
        for group in ("one", "two"):
            layer.group_add(group, channel)
            layer.group_add(group, f"{channel}-stays")
        layer.reader().exchange([Leave(channel)])
        for group in ("one", "two"):
            assert layer.members(group) == [f"{channel}-stays"]
            layer.group_send(group, {"n": group})
        stays = f"{channel}-stays"
        found = [layer.receive(source(channel), source(stays))[0] for _ in range(3)]
        assert found == [stays, stays, None]

    def test_who_left_may_be_added_again(self, bus: Bus) -> None:
        layer = bus.layer()
        layer.group_add("group", "proc.x!a")
        reader = layer.reader()
        reader.exchange([Leave("proc.x!a"), GroupAdd("group", "proc.x!a")])
        layer.group_send("group", {"n": 1})
        assert addressed(reader.take("proc.x!")) == [("proc.x!", ["proc.x!a"], 1)]

    def test_leaving_while_in_no_group_does_nothing(self, bus: Bus) -> None:
        layer = bus.layer()
        outcome = layer.reader().exchange([Leave("proc.x!a"), Leave("plain")])
        assert outcome.refused == []

    def test_their_owner_is_told_which_channels_have_joined(self, bus: Bus) -> None:
        layer = bus.layer()
        layer.group_add("one", "proc.x!a")
        layer.group_add("one", "plain")
        reader = layer.reader()
        add = GroupAdd("two", "proc.x!b")
        outcome = reader.exchange([add, Send("proc.x!b", {})], (), ["proc.x!"], 10)
        assert [delivery.channel for delivery in outcome.deliveries] == ["proc.x!b"]
        assert list(outcome.joined) == ["proc.x!a", "proc.x!b"]
        outcome = reader.exchange([GroupDiscard("two", "proc.x!b")], (), ["proc.x!"], 10)
        assert list(outcome.joined) == []


class GroupMessages(Topic):
    """One message for each process, however many members it has."""

    def test_a_process_gets_one_delivery_for_all_its_members(self, bus: Bus) -> None:
        layer = bus.layer()
        reader = layer.reader()
        members = [f"proc.x!{n}" for n in range(20)]
        reader.exchange([GroupAdd("group", member) for member in members])
        layer.group_send("group", {"n": 1})
        assert addressed(reader.take("proc.x!")) == [("proc.x!", sorted(members), 1)]

    def test_every_process_gets_one_for_its_own_members(self, bus: Bus) -> None:
        layer, other = bus.layer(), bus.layer()
        names = ["proc.x!a", "proc.x!b", "proc.y!a", "plain"]
        other.reader().exchange([GroupAdd("group", name) for name in names])
        other.group_send("group", {"n": 1})
        reader, second = layer.reader(), other.reader()
        assert addressed(reader.take("proc.x!")) == [("proc.x!", ["proc.x!a", "proc.x!b"], 1)]
        assert addressed(second.take("proc.y!")) == [("proc.y!", ["proc.y!a"], 1)]
        assert addressed(second.take("plain")) == [("plain", [], 1)]

    def test_receive_gives_one_message_for_each_member(self, bus: Bus) -> None:
        layer = bus.layer()
        for name in "abc":
            layer.group_add("group", f"proc.x!{name}")
        layer.group_send("group", {"n": 1})
        layer.send("proc.x!a", {"n": 2})
        found = [layer.receive("proc.x!") for _ in range(3)]
        assert sorted(str(channel) for channel, _ in found) == ["proc.x!a", "proc.x!b", "proc.x!c"]
        assert [message for _, message in found] == [{"n": 1}] * 3
        assert layer.receive("proc.x!") == ("proc.x!a", {"n": 2})
        assert layer.receive("proc.x!") == (None, None)

    def test_group_messages_keep_their_place_among_the_others(self, bus: Bus) -> None:
        layer = bus.layer()
        reader = layer.reader()
        reader.exchange(
            [
                Send("proc.x!a", {"n": 1}),
                GroupAdd("group", "proc.x!a"),
                GroupSend("group", {"n": 2}),
                Send("proc.x!b", {"n": 3}),
                GroupAdd("group", "proc.x!b"),
                GroupSend("group", {"n": 4}),
                GroupDiscard("group", "proc.x!a"),
                GroupSend("group", {"n": 5}),
                Send("proc.x!a", {"n": 6}),
            ]
        )
        assert addressed(reader.take("proc.x!")) == [
            ("proc.x!a", [], 1),
            ("proc.x!", ["proc.x!a"], 2),
            ("proc.x!b", [], 3),
            ("proc.x!", ["proc.x!a", "proc.x!b"], 4),
            ("proc.x!", ["proc.x!b"], 5),
            ("proc.x!a", [], 6),
        ]

    def test_memberships_take_no_turn_of_a_batch(self, bus: Bus) -> None:
        layer = bus.layer()
        reader = layer.reader()
        reader.exchange([GroupAdd("group", f"proc.x!{n}") for n in range(10)])
        layer.group_send("group", {"n": 1})
        assert [len(each.members) for each in reader.take("proc.x!", limit=1)] == [10]
        reader.exchange([GroupDiscard("group", f"proc.x!{n}") for n in range(10)])
        layer.send("proc.x!a", {"n": 2})
        assert addressed(reader.take("proc.x!", limit=1)) == [("proc.x!a", [], 2)]

    def test_memberships_alone_give_no_deliveries(self, bus: Bus) -> None:
        layer = bus.layer()
        layer.group_add("group", "proc.x!a")
        layer.group_discard("group", "proc.x!a")
        assert layer.receive("proc.x!", timeout=MOMENT / 2) == (None, None)

    def test_memberships_find_room_in_a_full_prefix(self, bus: Bus) -> None:
        layer = bus.layer(capacity=1)
        layer.send("proc.x!a", {"n": 1})
        layer.group_add("group", "proc.x!a")
        layer.group_add("group", "proc.x!b")
        layer.group_discard("group", "proc.x!b")
        assert layer.members("group") == ["proc.x!a"]
        assert layer.drain("proc.x!") == [{"n": 1}]
        layer.group_send("group", {"n": 2})
        assert layer.drain("proc.x!") == [{"n": 2}]

    def test_memberships_use_up_no_room(self, bus: Bus) -> None:
        layer = bus.layer(capacity=2)
        for n in range(10):
            layer.group_add("group", f"proc.x!{n}")
        layer.send("proc.x!a", {"n": 1})
        layer.send("proc.x!a", {"n": 2})
        with pytest.raises(ChannelFull):
            layer.send("proc.x!a", {"n": 3})
        assert layer.statistics("proc.x!").messages_pending == 2

    def test_a_full_member_is_skipped_and_counted(self, bus: Bus) -> None:
        layer = bus.layer(capacity=1)
        for channel in (*KINDS, "free"):
            layer.group_add("group", channel)
        for channel in KINDS:
            layer.send(channel, {"n": 1})
        layer.group_send("group", {"n": 2})
        for channel in KINDS:
            assert layer.statistics(source(channel)).dropped == {"full": 1}
            assert layer.drain(source(channel)) == [{"n": 1}]
        assert layer.statistics().dropped == {"full": 3}
        assert layer.drain("free") == [{"n": 2}]
        assert layer.members("group") == sorted([*KINDS, "free"])

    def test_a_group_message_takes_the_room_of_one(self, bus: Bus) -> None:
        layer = bus.layer(capacity=2)
        for n in range(10):
            layer.group_add("group", f"proc.x!{n}")
        layer.group_send("group", {"n": 1})
        layer.send("proc.x!a", {"n": 2})
        with pytest.raises(ChannelFull):
            layer.send("proc.x!a", {"n": 3})

    def test_a_receiver_that_sleeps_on_its_prefix_wakes_for_a_group_message(self, bus: Bus) -> None:
        layer = bus.layer()
        layer.group_add("group", "proc.x!a")
        reader = layer.reader()
        reader.listen("proc.x!")
        bus.layer().group_send("group", {"n": 1})
        assert addressed(reader.fetch("proc.x!")) == [("proc.x!", ["proc.x!a"], 1)]

    def test_two_receivers_of_a_layer_know_the_same_members(self, bus: Bus) -> None:
        layer = bus.layer()
        first, second = layer.reader(), layer.reader()
        layer.group_add("group", "proc.x!a")
        assert first.take("proc.x!") == []
        layer.group_send("group", {"n": 1})
        assert addressed(second.take("proc.x!")) == [("proc.x!", ["proc.x!a"], 1)]


class Endings(Topic):
    """Memberships end after a while, or with a channel that nobody reads."""

    def test_a_membership_ends(self, bus: Bus) -> None:
        layer = bus.layer(group_expiry=MOMENT)
        for channel in KINDS:
            layer.group_add("group", channel)
        assert layer.members("group") == sorted(KINDS)
        eventually(lambda: layer.members("group") == [], "memberships end")
        layer.group_send("group", {"n": 1})
        assert layer.receive(*map(source, KINDS)) == (None, None)

    def test_adding_again_renews_a_membership(self, bus: Bus) -> None:
        # Where the machine stalls, the renewed ones may end as well before anybody looks.
        assert any(self._is_renewed(bus, moment) for moment in (MOMENT, 5 * MOMENT, 25 * MOMENT))

    def _is_renewed(self, bus: Bus, moment: float) -> bool:
        layer = bus.layer(group_expiry=2 * moment)
        layer.flush()
        ending = [f"{channel}-ends" for channel in KINDS]
        for channel in (*KINDS, *ending):
            layer.group_add("group", channel)
        time.sleep(moment)
        for channel in KINDS:
            layer.group_add("group", channel)
        left: list[str] = []

        def are_over() -> bool:
            left[:] = layer.members("group")
            return not set(ending) & set(left)

        eventually(are_over, "half the memberships end")
        layer.group_send("group", {"n": 1})
        found = [layer.receive(*map(source, KINDS))[0] for _ in range(4)]
        return left == sorted(KINDS) and set(found[:3]) == set(KINDS) and found[3] is None

    def test_channels_leave_their_groups_when_a_message_to_them_expires_unread(
        self, one_bus: Bus
    ) -> None:
        layer = one_bus.layer(expiry=MOMENT)
        for channel in KINDS:
            layer.group_add("one", channel)
            layer.group_add("two", channel)
            layer.send(channel, {})
        for channel in ("far", "single?far", "proc.y!a", "proc.y!b"):
            layer.group_add("one", channel)
            layer.group_add("far", channel)
        layer.group_send("far", {})
        for channel in ("read", "unwritten"):
            layer.group_add("one", channel)
        layer.send("read", {})
        layer.receive("read")

        def left() -> bool:
            layer.receive("elsewhere")
            return layer.members("one") == ["read", "unwritten"]

        eventually(left, "they leave")
        assert layer.members("two") == layer.members("far") == []
        assert layer.statistics().dropped == {"expired": 6}
        layer.group_send("two", {"n": 1})
        assert layer.receive(*map(source, KINDS)) == (None, None)
        for channel in KINDS:
            layer.group_add("two", channel)
        layer.group_send("two", {"n": 2})
        assert {layer.receive(*map(source, KINDS))[0] for _ in KINDS} == set(KINDS)
