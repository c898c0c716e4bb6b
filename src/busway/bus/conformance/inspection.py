"""What people who look after a layer see of it: its channels, groups and shards."""

import time

import pytest

from busway.bus.conformance.harness import FOREVER, MOMENT, Bus, Topic
from busway.bus.errors import ChannelFull, LayerClosed
from busway.bus.operations import GroupAdd, Send
from busway.bus.statistics import GroupSize

ORDERED = {"lanes.*": {"ordering": "key"}}


class Channels(Topic):
    """`channel_statistics`."""

    def test_a_new_bus_has_no_channel(self, one_bus: Bus) -> None:
        assert one_bus.layer().layer.channel_statistics() == {}

    def test_every_channel_is_listed_with_its_own_counts(self, one_bus: Bus) -> None:
        layer = one_bus.layer(policies=ORDERED, capacity=2)
        reader = layer.reader()
        for channel in ("a", "a.longer", "b?x", "proc.x!1", "proc.x!2", "proc.y!1"):
            layer.send(channel, {})
        layer.send("later", {}, delay=FOREVER)
        layer.send("a", {})
        with pytest.raises(ChannelFull):
            layer.send("a", {})
        reader.exchange([Send("lanes.a", {"key": "k"}) for _ in range(2)])
        layer.receive("a.longer")
        found = one_bus.layer(policies=ORDERED, capacity=2).layer.channel_statistics()
        pending = {
            "a": 2,
            "a.longer": 0,
            "b?x": 1,
            "proc.x!": 2,
            "proc.y!": 1,
            "later": 1,
            "lanes.a": 2,
        }
        assert {name: each.messages_pending for name, each in found.items()} == pending
        for name, each in found.items():
            alone = layer.statistics(name)
            assert (each.messages_count, each.channel_full_count) == (
                alone.messages_count,
                alone.channel_full_count,
            )
        assert found["a"].channel_full_count == 1
        assert sum(each.messages_count for each in found.values()) == (
            layer.statistics().messages_count
        )

    def test_ages_and_drops_are_each_channels_own(self, one_bus: Bus) -> None:
        layer = one_bus.layer(policies={"short": {"expiry": MOMENT}})
        for channel in ("short", "old"):
            layer.send(channel, {})
        time.sleep(MOMENT)
        layer.send("young", {})
        found = layer.layer.channel_statistics()
        assert found["old"].messages_max_age >= MOMENT * 0.9
        assert found["young"].messages_max_age < found["old"].messages_max_age
        assert found["short"].messages_pending == 0
        assert {name: dict(each.dropped) for name, each in found.items()} == {
            "short": {"expired": 1},
            "old": {},
            "young": {},
        }

    def test_nothing_waits_anywhere_after_a_flush(self, one_bus: Bus) -> None:
        layer = one_bus.layer()
        layer.send("a", {})
        layer.send("later", {}, delay=FOREVER)
        layer.flush()
        found = layer.layer.channel_statistics().values()
        assert sum(each.messages_pending + each.messages_count for each in found) == 0


class Groups(Topic):
    """`group_sizes`."""

    def test_a_group_has_members_on_processes(self, one_bus: Bus) -> None:
        layer = one_bus.layer()
        reader = layer.reader()
        members = ["plain", "single?x", "proc.x!1", "proc.x!2", "proc.x!2", "proc.y!1"]
        reader.exchange([GroupAdd("large", member) for member in members])
        layer.group_add("small", "plain")
        assert one_bus.layer().layer.group_sizes() == {
            "large": GroupSize(members=5, processes=2),
            "small": GroupSize(members=1, processes=0),
        }

    def test_a_group_that_all_have_left_is_not_listed(self, one_bus: Bus) -> None:
        layer = one_bus.layer()
        assert layer.layer.group_sizes() == {}
        for member in ("plain", "proc.x!1"):
            layer.group_add("group", member)
        layer.group_discard("group", "plain")
        assert layer.layer.group_sizes() == {"group": GroupSize(members=1, processes=1)}
        layer.group_discard("group", "proc.x!1")
        assert layer.layer.group_sizes() == {}

    def test_members_whose_time_is_over_do_not_count(self, one_bus: Bus) -> None:
        layer = one_bus.layer(group_expiry=MOMENT)
        layer.group_add("group", "proc.x!1")
        layer.group_add("group", "proc.x!2")
        time.sleep(MOMENT)
        layer.group_add("group", "proc.x!2")
        assert layer.layer.group_sizes() == {"group": GroupSize(members=1, processes=1)}


class Shards(Topic):
    """`shards`."""

    def test_a_layer_that_works_has_healthy_shards(self, one_bus: Bus) -> None:
        layer = one_bus.layer()
        layer.send("a", {"text": "x" * 1000})
        found = layer.layer.shards()
        assert found
        assert len({shard.name for shard in found}) == len(found)
        for shard in found:
            assert shard.healthy
            assert shard.name
            assert shard.detail
            assert shard.limit == 0 or 0 < shard.used <= shard.limit

    def test_a_closed_layer_tells_nothing(self, one_bus: Bus) -> None:
        layer = one_bus.layer().layer
        layer.close()
        for look in (layer.shards, layer.group_sizes, layer.channel_statistics):
            with pytest.raises(LayerClosed):
                look()
