"""Channels and groups outside of consumers. Inside: see test_worker.py."""

import math
from collections.abc import Iterator

import pytest

from busway import Channel, Group
from busway.app.context import Outbox, outbox, set_layer
from busway.bus.errors import ChannelFull, InvalidMessage, InvalidName, UsageError
from busway.bus.layer import ChannelLayer
from busway.bus.memory import MemoryChannelLayer
from busway.bus.operations import GroupAdd, GroupDiscard, GroupSend, Send


def test_a_channel_sends_at_once(layer: ChannelLayer) -> None:
    Channel("jobs", channel_layer=layer).send({"n": 1})
    assert layer.receive(["jobs"]) == ("jobs", {"n": 1})


async def test_a_channel_sends_at_once_from_async_code(layer: ChannelLayer) -> None:
    await Channel("jobs", channel_layer=layer).asend({"n": 1})
    assert await layer.areceive(["jobs"]) == ("jobs", {"n": 1})


def test_a_delayed_send_comes_later(layer: ChannelLayer) -> None:
    Channel("jobs", channel_layer=layer).send({"n": 1}, delay=0.05)
    assert layer.receive(["jobs"]) == (None, None)
    assert layer.receive(["jobs"], 20.0) == ("jobs", {"n": 1})


def test_a_full_channel_is_an_error() -> None:
    layer = MemoryChannelLayer(capacity=1)
    channel = Channel("jobs", channel_layer=layer)
    channel.send({})
    with pytest.raises(ChannelFull):
        channel.send({})
    layer.close()


def test_a_group_sends_to_its_members(layer: ChannelLayer) -> None:
    group = Group("room", channel_layer=layer)
    group.add("jobs?one")
    group.add(Channel("jobs?two"))
    group.add("jobs?three")
    group.discard(Channel("jobs?three"))
    assert sorted(group.channels()) == ["jobs?one", "jobs?two"]
    group.send({"n": 1})
    assert layer.receive(["jobs?one"]) == ("jobs?one", {"n": 1})
    assert layer.receive(["jobs?two"]) == ("jobs?two", {"n": 1})
    assert layer.receive(["jobs?three"]) == (None, None)


async def test_a_group_sends_to_its_members_from_async_code(layer: ChannelLayer) -> None:
    group = Group("room", channel_layer=layer)
    await group.aadd("jobs?one")
    await group.aadd("jobs?two")
    await group.adiscard("jobs?two")
    assert await group.achannels() == ["jobs?one"]
    await group.asend({"n": 1})
    assert layer.receive(["jobs?one"]) == ("jobs?one", {"n": 1})


def test_names_are_checked() -> None:
    with pytest.raises(InvalidName):
        Channel("a b")
    with pytest.raises(InvalidName):
        Channel("prefix!")
    with pytest.raises(InvalidName):
        Group("room?")
    with pytest.raises(InvalidName):
        Group("room").add("a b")


def test_the_same_name_is_the_same_channel_or_group() -> None:
    assert Channel("a") == Channel("a") != Channel("b")
    assert Group("a") == Group("a") != Group("b")
    assert len({Channel("a"), Channel("a"), Group("a"), Group("a")}) == 2
    assert (str(Channel("a")), repr(Channel("a"))) == ("a", "Channel('a')")
    assert (str(Group("a")), repr(Group("a"))) == ("a", "Group('a')")


def test_the_current_layer_is_used_unless_another_is_given(layer: ChannelLayer) -> None:
    before = set_layer(layer)
    try:
        channel = Channel("jobs")
        channel.send({"n": 1})
    finally:
        set_layer(before)
    assert layer.receive(["jobs"]) == ("jobs", {"n": 1})


class TestWithAnOutbox:
    @pytest.fixture
    def held(self, layer: ChannelLayer) -> Iterator[Outbox]:
        held = Outbox(layer)
        outbox.set(held)
        yield held
        outbox.set(None)

    async def test_everything_is_held_in_its_order(self, held: Outbox) -> None:
        group = Group("room")
        group.add("a!1")
        group.send({"n": 1})
        group.discard("a!1")
        Channel("jobs").send({"n": 2}, delay=3.0)
        await group.aadd("a!2")
        await group.asend({"n": 3})
        await group.adiscard("a!2")
        await Channel("jobs").asend({"n": 4})
        assert held.operations == [
            GroupAdd("room", "a!1"),
            GroupSend("room", {"n": 1}, checked=True),
            GroupDiscard("room", "a!1"),
            Send("jobs", {"n": 2}, 3.0, checked=True),
            GroupAdd("room", "a!2"),
            GroupSend("room", {"n": 3}, checked=True),
            GroupDiscard("room", "a!2"),
            Send("jobs", {"n": 4}, checked=True),
        ]

    async def test_immediately_opts_out(self, held: Outbox, layer: ChannelLayer) -> None:
        group = Group("room")
        group.add("jobs?1", immediately=True)
        group.send({"n": 1}, immediately=True)
        group.discard("jobs?1", immediately=True)
        Channel("jobs?1").send({"n": 2}, immediately=True)
        await group.aadd("jobs?1", immediately=True)
        await group.asend({"n": 3}, immediately=True)
        await group.adiscard("jobs?1", immediately=True)
        await Channel("jobs?1").asend({"n": 4}, immediately=True)
        assert held.operations == []
        assert [layer.receive(["jobs?1"])[1] for _ in range(4)] == [{"n": n} for n in (1, 2, 3, 4)]
        assert group.channels() == []

    def test_changing_content_after_a_send_changes_nothing(self, held: Outbox) -> None:
        content = {"text": "a", "list": [1, {"deep": [2]}]}
        Channel("jobs").send(content)
        Group("room").send(content)
        content["text"] = "b"
        content["list"][1]["deep"].append(3)  # type: ignore[index]
        expected = {"text": "a", "list": [1, {"deep": [2]}]}
        assert held.operations == [
            Send("jobs", expected, checked=True),
            GroupSend("room", expected, checked=True),
        ]

    def test_bad_content_is_refused_where_it_is_sent(self, held: Outbox) -> None:
        with pytest.raises(InvalidMessage, match="message\\['when'\\]"):
            Channel("jobs").send({"when": object()})
        with pytest.raises(InvalidMessage):
            Group("room").send({"nan": math.nan})
        with pytest.raises(InvalidName):
            Group("room").add("a b")
        assert held.operations == []

    @pytest.mark.parametrize("delay", [-1.0, math.inf, math.nan])
    def test_a_bad_delay_is_refused_where_it_is_sent(self, held: Outbox, delay: float) -> None:
        with pytest.raises(UsageError, match="expected seconds"):
            Channel("jobs").send({}, delay=delay)
        assert held.operations == []

    def test_other_layers_are_not_held(self, held: Outbox, layer: ChannelLayer) -> None:
        other = MemoryChannelLayer()
        Channel("jobs", channel_layer=other).send({"n": 1})
        Channel("jobs", channel_layer=layer).send({"n": 2})
        assert other.receive(["jobs"]) == ("jobs", {"n": 1})
        assert held.operations == [Send("jobs", {"n": 2}, checked=True)]
        other.close()

    def test_a_closed_outbox_holds_nothing(self, held: Outbox, layer: ChannelLayer) -> None:
        held.open = False
        Channel("jobs").send({"n": 1})
        assert held.operations == []
        assert layer.receive(["jobs"]) == ("jobs", {"n": 1})
