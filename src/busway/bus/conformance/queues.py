"""Channels as queues: order, one reader for each message, prefixes, fairness, new names."""

from itertools import count
from typing import Any

import pytest

from busway.bus.conformance.harness import Bus, Task, Topic, label
from busway.bus.conformance.peers import PATIENCE
from busway.bus.errors import InvalidName
from busway.bus.operations import Send

MISSPELT: list[Any] = ["", "a b", "a\n", "ä", "x" * 100, None, 7, b"a", ["a"]]
"""What is neither a channel's name nor a group's."""


class Queues(Topic):
    """Messages come out as they went in, each to one reader."""

    def test_messages_come_in_the_order_they_were_sent(self, bus: Bus) -> None:
        layer = bus.layer()
        for n in range(60):
            layer.send("numbers", {"n": n})
        assert layer.drain("numbers") == [{"n": n} for n in range(60)]

    def test_a_batch_comes_in_the_order_it_was_sent(self, bus: Bus) -> None:
        reader = bus.layer().reader()
        reader.exchange([Send("numbers", {"n": n}) for n in range(60)])
        found = reader.take("numbers", limit=25) + reader.take("numbers", limit=60)
        assert [delivery.message["n"] for delivery in found] == list(range(60))

    def test_an_empty_channel_gives_nothing_at_once(self, bus: Bus) -> None:
        layer = bus.layer()
        assert layer.receive("empty") == (None, None)
        assert layer.reader().take("empty") == []

    def test_receiving_from_no_channels_gives_nothing(self, bus: Bus) -> None:
        layer = bus.layer()
        reader = layer.reader()
        for _ in range(2):
            layer.send("somewhere", {})
        assert len(reader.take("somewhere", limit=1)) == 1
        assert reader.take(limit=10) == []
        assert layer.receive() == (None, None)

    def test_receive_says_which_channel_a_message_came_on(self, bus: Bus) -> None:
        layer = bus.layer()
        layer.send("a", {"to": "a"})
        layer.send("b", {"to": "b"})
        assert layer.receive("b") == ("b", {"to": "b"})
        assert layer.receive("a", "b") == ("a", {"to": "a"})

    def test_an_exchange_takes_no_more_than_its_limit(self, bus: Bus) -> None:
        reader = bus.layer().reader()
        reader.exchange([Send("many", {"n": n}) for n in range(5)])
        assert reader.take("many", limit=0) == []
        assert len(reader.take("many", limit=2)) == 2
        assert len(reader.take("many", limit=50)) == 3

    def test_an_exchange_can_receive_what_it_sends(self, bus: Bus) -> None:
        reader = bus.layer().reader()
        outcome = reader.exchange([Send("loop", {"n": 1})], (), ["loop"], 5)
        assert [(each.channel, each.message) for each in outcome.deliveries] == [("loop", {"n": 1})]

    def test_a_message_goes_to_one_of_two_readers(self, bus: Bus) -> None:
        layer = bus.layer()
        first, second = layer.reader(), layer.reader()
        first.exchange([Send("shared", {"n": n}) for n in range(10)])
        taken = [reader.take("shared", limit=1) for reader in (first, second) * 6]
        assert [each.message["n"] for batch in taken for each in batch] == list(range(10))

    def test_layers_on_one_bus_share_its_messages(self, bus: Bus) -> None:
        one, other = bus.layer(), bus.layer()
        one.send("shared", {"n": 1})
        assert other.receive("shared") == ("shared", {"n": 1})
        assert one.receive("shared") == (None, None)

    def test_threads_that_share_a_channel_get_each_message_once(self, bus: Bus) -> None:
        layer = bus.layer(capacity=1000)
        for n in range(200):
            layer.send("shared", {"n": n})
        tasks = [Task(lambda: layer.drain("shared")) for _ in range(4)]
        found = [[each["n"] for each in task.result()] for task in tasks]
        assert sorted(n for each in found for n in each) == list(range(200))
        assert all(each == sorted(each) for each in found)

    def test_a_delivery_describes_itself(self, bus: Bus) -> None:
        layer = bus.layer()
        reader = layer.reader()
        layer.send("described", {"n": 1})
        layer.send("described", {"n": 2})
        one, two = reader.take("described")
        assert one.channel == "described"
        assert one.members == ()
        assert one.attempt == 1
        assert one.lane == ""
        assert one.id != two.id
        assert 0 < one.sent <= two.sent


class Names(Topic):
    """Three kinds of names, and what each may be used for."""

    def test_a_prefix_reads_all_its_local_channels_in_order(self, bus: Bus) -> None:
        layer = bus.layer()
        sent = [("proc.x!b", 1), ("proc.x!a", 2), ("proc.x!b", 3)]
        for channel, n in sent:
            layer.send(channel, {"n": n})
        found = layer.reader().take("proc.x!")
        assert [(each.channel, each.message["n"]) for each in found] == sent

    def test_receive_by_prefix_gives_the_full_name(self, bus: Bus) -> None:
        layer = bus.layer()
        layer.send("proc.x!abc", {"n": 1})
        assert layer.receive("proc.x!") == ("proc.x!abc", {"n": 1})

    def test_a_prefix_reads_nothing_of_another(self, bus: Bus) -> None:
        layer = bus.layer()
        for channel in ("proc.xy!a", "proc!a", "proc", "proc.x"):
            layer.send(channel, {})
        assert layer.receive("proc.x!") == (None, None)

    def test_single_reader_channels_are_read_by_their_full_names(self, bus: Bus) -> None:
        layer = bus.layer()
        layer.send("answer?one", {"n": 1})
        layer.send("answer?two", {"n": 2})
        assert layer.receive("answer?two") == ("answer?two", {"n": 2})
        assert layer.receive("answer?two") == (None, None)
        assert layer.receive("answer?one") == ("answer?one", {"n": 1})

    def test_new_channels_are_new(self, bus: Bus) -> None:
        layer = bus.layer()
        found = {layer.layer.new_channel("reply?") for _ in range(100)}
        assert len(found) == 100
        assert all(name.startswith("reply?") for name in found)
        name = found.pop()
        layer.send(name, {"n": 1})
        assert layer.receive(name) == (name, {"n": 1})

    def test_new_process_specific_channels_keep_their_prefix(self, bus: Bus) -> None:
        layer = bus.layer()
        name = layer.layer.new_channel("proc.x!")
        assert name.startswith("proc.x!")
        layer.send(name, {"n": 1})
        assert layer.receive("proc.x!") == (name, {"n": 1})

    @pytest.mark.parametrize("pattern", ["plain", "", "two??", "a!b", "!", "?", "a?b", "ä?", 7])
    def test_new_channel_refuses_what_is_no_pattern(self, one_bus: Bus, pattern: str) -> None:
        layer = one_bus.layer().layer
        with pytest.raises(InvalidName):
            layer.new_channel(pattern)

    @pytest.mark.parametrize(
        "name", ["a", "Z-9_.x", "x" * 99, "?".join(["x" * 49] * 2), "a?b", "a.b?C-d_e"]
    )
    def test_names_of_the_grammar_work(self, bus: Bus, name: str) -> None:
        layer = bus.layer()
        layer.send(name, {"n": 1})
        assert layer.receive(name) == (name, {"n": 1})

    @pytest.mark.parametrize(
        "name",
        [*MISSPELT, "a/b", "a?b?c", "a!b!c", "a?b!c", "!a", "?a", "a!", "a?"],
        ids=label,
    )
    def test_other_names_cannot_be_sent_to(self, bus: Bus, name: str) -> None:
        layer = bus.layer()
        with pytest.raises(InvalidName):
            layer.send(name, {})
        with pytest.raises(InvalidName):
            layer.group_add("group", name)
        with pytest.raises(InvalidName):
            layer.group_discard("group", name)
        assert layer.members("group") == []

    @pytest.mark.parametrize("name", [*MISSPELT, "a/b", "a?b?c", "a?", "a!b", "?", "!"], ids=label)
    def test_other_names_cannot_be_received_from(self, bus: Bus, name: str) -> None:
        layer = bus.layer()
        layer.send("fine", {"n": 1})
        with pytest.raises(InvalidName):
            layer.receive("fine", name)
        assert layer.receive("fine") == ("fine", {"n": 1})

    @pytest.mark.parametrize("name", [*MISSPELT, "a?b", "a!b", "a?", "a!"], ids=label)
    def test_other_names_are_no_groups(self, bus: Bus, name: str) -> None:
        layer = bus.layer()
        with pytest.raises(InvalidName):
            layer.group_add(name, "channel")
        with pytest.raises(InvalidName):
            layer.group_discard(name, "channel")
        with pytest.raises(InvalidName):
            layer.group_send(name, {})
        with pytest.raises(InvalidName):
            layer.members(name)


class Fairness(Topic):
    """No channel starves another."""

    @pytest.mark.parametrize("channels", [("busy", "quiet"), ("quiet", "busy")])
    def test_a_quiet_channel_is_heard_beside_a_busy_one(
        self, bus: Bus, channels: tuple[str, str]
    ) -> None:
        reader = bus.layer().reader()
        for turn in count(1):
            busy = [Send("busy", {}), Send("busy", {})]
            quiet = [Send("quiet", {})] if turn == 5 else []
            found = reader.exchange([*busy, *quiet], (), channels, 1).deliveries
            if found[0].channel == "quiet":
                break
            assert turn < 25, "the busy channel had 20 turns while the quiet one waited"

    def test_receive_hears_a_quiet_channel_beside_a_busy_one(self, bus: Bus) -> None:
        layer = bus.layer()
        for _ in range(50):
            layer.send("busy", {})
        layer.send("quiet", {})
        found = [layer.receive("busy", "quiet")[0] for _ in range(20)]
        assert "quiet" in found

    def test_a_batch_shares_its_room_among_busy_channels(self, bus: Bus) -> None:
        reader = bus.layer().reader()
        names = ["a", "b", "c"]
        reader.exchange([Send(name, {}) for name in names for _ in range(30)])
        found = [each.channel for _ in range(3) for each in reader.take(*names, limit=10)]
        assert {name: found.count(name) >= 5 for name in names} == dict.fromkeys(names, True)

    def test_a_batch_is_filled_by_a_busy_channel_when_the_others_are_quiet(self, bus: Bus) -> None:
        reader = bus.layer().reader()
        reader.exchange([Send("a", {}) for _ in range(20)])
        reader.exchange([Send("b", {})])
        found = [each.channel for each in reader.take("a", "b", "c", limit=10)]
        assert len(found) == 10
        assert found.count("b") == 1

    def test_readers_that_sleep_on_a_busy_and_a_quiet_channel_hear_both(self, bus: Bus) -> None:
        layer = bus.layer(capacity=1000)

        def read() -> int:
            heard = 0
            while heard < 5:
                channel, _ = layer.receive("busy", "quiet", timeout=PATIENCE)
                assert channel is not None, "nothing came, though the busy channel never rests"
                heard += channel == "quiet"
            return heard

        task = Task(read)
        while task.is_alive():
            if layer.statistics("busy").messages_pending < 50:
                layer.send("busy", {})
                layer.send("quiet", {})
        assert task.result() == 5
