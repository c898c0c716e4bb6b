"""Capacity, and the policies that set it for patterns of names."""

import re
from typing import Any

import pytest

from busway.bus.conformance.harness import Bus, Client, Topic, label
from busway.bus.errors import BusError, ChannelFull, ConfigurationError
from busway.bus.operations import GroupAdd, GroupSend, Operation, Send
from busway.bus.policy import Policy


def room(layer: Client, channel: str) -> int:
    """Fill `channel`; returns how many messages it took."""
    for n in range(5000):
        try:
            layer.send(channel, {"n": n})
        except ChannelFull:
            return n
    pytest.fail(f"{channel} took 5000 messages")


class Capacity(Topic):
    """A channel takes so many messages and no more, and says so."""

    def test_a_full_channel_says_which_why_and_how_much(self, bus: Bus) -> None:
        layer = bus.layer(capacity=3)
        assert room(layer, "full") == 3
        with pytest.raises(ChannelFull) as caught:
            layer.send("full", {})
        error = caught.value
        assert (error.channel, error.reason, error.limit) == ("full", "capacity", 3)
        assert isinstance(error, BusError)
        assert layer.drain("full") == [{"n": 0}, {"n": 1}, {"n": 2}]

    def test_a_channel_takes_a_hundred_messages_by_default(self, bus: Bus) -> None:
        assert room(bus.layer(), "full") == 100

    def test_there_is_room_again_once_one_was_taken(self, bus: Bus) -> None:
        layer = bus.layer(capacity=2)
        room(layer, "full")
        layer.receive("full")
        layer.send("full", {"n": "new"})
        with pytest.raises(ChannelFull):
            layer.send("full", {})
        assert layer.drain("full") == [{"n": 1}, {"n": "new"}]

    def test_messages_in_hands_take_no_room(self, bus: Bus) -> None:
        layer = bus.layer(capacity=2)
        reader = layer.reader()
        room(layer, "full")
        reader.take("full")
        assert room(layer, "full") == 2

    def test_a_full_channel_leaves_room_in_others(self, bus: Bus) -> None:
        layer = bus.layer(capacity=2)
        room(layer, "full")
        for other in ("fuller", "ful", "full?x", "full!x"):
            assert room(layer, other) == 2

    def test_capacity_counts_on_the_prefix_of_process_specific_channels(self, bus: Bus) -> None:
        layer = bus.layer(capacity=2)
        layer.send("proc.x!a", {"n": 1})
        layer.send("proc.x!b", {"n": 2})
        with pytest.raises(ChannelFull) as caught:
            layer.send("proc.x!c", {"n": 3})
        assert (caught.value.channel, caught.value.limit) == ("proc.x!", 2)
        layer.send("proc.y!a", {"n": 4})
        assert layer.drain("proc.x!") == [{"n": 1}, {"n": 2}]

    def test_single_reader_channels_fill_one_by_one(self, bus: Bus) -> None:
        layer = bus.layer(capacity=2)
        room(layer, "answer?one")
        assert room(layer, "answer?two") == 2

    def test_an_exchange_does_what_finds_room_and_returns_the_rest(self, bus: Bus) -> None:
        layer = bus.layer(capacity=2)
        reader = layer.reader()
        operations: list[Operation] = [
            Send("full", {"n": 1}),
            Send("other", {"n": 2}),
            Send("full", {"n": 3}),
            Send("full", {"n": 4}),
            GroupAdd("group", "other"),
            Send("full", {"n": 5}),
            GroupSend("group", {"n": 6}),
        ]
        refused = reader.exchange(operations).refused
        assert [(each.index, each.operation) for each in refused] == [
            (3, operations[3]),
            (5, operations[5]),
        ]
        assert all(each.error.channel == "full" for each in refused)
        assert layer.drain("full") == [{"n": 1}, {"n": 3}]
        assert layer.drain("other") == [{"n": 2}, {"n": 6}]

    def test_operations_find_the_room_as_it_was_before_the_messages_were_taken(
        self, bus: Bus
    ) -> None:
        layer = bus.layer(capacity=1)
        reader = layer.reader()
        layer.send("full", {"n": 1})
        outcome = reader.exchange([Send("full", {"n": 2})], (), ["full"], 5)
        assert [each.message for each in outcome.deliveries] == [{"n": 1}]
        assert [each.index for each in outcome.refused] == [0]


class Rules(Topic):
    """Policies apply to the channels whose names match their pattern."""

    def test_patterns_set_the_capacity_of_their_channels(self, bus: Bus) -> None:
        layer = bus.layer(capacity=4, policies={"tight.*": {"capacity": 2}})
        assert room(layer, "tight.one") == 2
        assert room(layer, "tight.two") == 2
        assert room(layer, "wide.tight.one") == 4

    def test_the_first_pattern_that_matches_applies(self, bus: Bus) -> None:
        policies: dict[Any, Any] = {
            "a.b.*": Policy(capacity=1),
            re.compile(r"a\.[bc]\."): {"capacity": 2},
            "a.*": {"capacity": 3},
        }
        layer = bus.layer(policies=policies)
        assert [room(layer, name) for name in ("a.b.x", "a.c.x", "a.d.x")] == [1, 2, 3]

    def test_patterns_match_names_up_to_their_random_part(self, bus: Bus) -> None:
        policies = {"a?": {"capacity": 1}, "b.*!": {"capacity": 2}, "*local": {"capacity": 3}}
        layer = bus.layer(policies=policies, capacity=4)
        assert [room(layer, name) for name in ("a?local", "b.x!local", "c!local")] == [1, 2, 4]

    def test_the_chunks_of_a_body_have_a_window_of_eight(self, bus: Bus) -> None:
        assert room(bus.layer(), "http.request.body?x") == 8

    def test_policies_of_ones_own_come_before_the_built_in(self, bus: Bus) -> None:
        layer = bus.layer(policies={"http.request.body*": {"capacity": 3}})
        assert room(layer, "http.request.body?x") == 3

    @pytest.mark.parametrize(
        "options",
        [
            {"capcity": 3},
            {"capacity": 0},
            {"capacity": "many"},
            {"capacity": 1.5},
            {"expiry": 0},
            {"expiry": -1.0},
            {"expiry": float("nan")},
            {"lane_capacity": 0},
            {"delivery": "exactly-once"},
            {"message_size": 0},
            {"message_size": "1 MB"},
            {"group_expiry": 0},
            {"group_expiry": -1.0},
            {"group_expiry": float("nan")},
            {"policies": {"a.*": {"capcity": 3}}},
            {"policies": {"a.*": {"capacity": -1}}},
            {"policies": {"a.*": 7}},
        ],
        ids=label,
    )
    def test_unknown_and_impossible_options_are_refused(
        self, one_bus: Bus, options: dict[str, Any]
    ) -> None:
        with pytest.raises(ConfigurationError):
            one_bus.layer(**options)
