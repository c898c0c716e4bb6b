"""Looking at what waits on a channel, and replacing it in one step."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from busway.bus.errors import InvalidName, UsageError
from busway.bus.ipc import IPCChannelLayer
from busway.bus.layer import ChannelLayer
from busway.bus.memory import MemoryChannelLayer
from busway.bus.operations import GroupAdd, Send


@pytest.fixture(params=["memory", "ipc"])
def layer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ChannelLayer]:
    """Return a layer of each kind."""
    layer: ChannelLayer = (
        MemoryChannelLayer(policies={"short": {"expiry": 0.000001}})
        if request.param == "memory"
        else IPCChannelLayer(
            name="peek",
            directory=str(tmp_path),
            size=4 * 1024 * 1024,
            policies={"short": {"expiry": 0.000001}},
        )
    )
    yield layer
    layer.close()


@pytest.mark.parametrize("channel", ["jobs", "state?one"])
async def test_the_first_message_is_shown_and_stays(layer: ChannelLayer, channel: str) -> None:
    for n in range(3):
        layer.send(channel, {"n": n})
    assert [layer.peek(channel) for _ in range(2)] == [{"n": 0}, {"n": 0}]
    assert await layer.apeek(channel) == {"n": 0}
    assert layer.receive([channel]) == (channel, {"n": 0})
    assert layer.peek(channel) == {"n": 1}


def test_an_empty_channel_shows_nothing(layer: ChannelLayer) -> None:
    assert layer.peek("state?none") is None


def test_what_has_expired_is_not_shown(layer: ChannelLayer) -> None:
    layer.send("short", {"n": 0})
    while layer.peek("short"):
        pass
    assert layer.receive(["short"]) == (None, None)


@pytest.mark.parametrize("name", ["web.x!", "web.x!1", "state?", "ä"])
def test_only_channels_that_are_read_by_their_name_can_be_looked_at(
    layer: ChannelLayer, name: str
) -> None:
    with pytest.raises(InvalidName):
        layer.peek(name)


async def test_an_exchange_replaces_a_message_by_another(layer: ChannelLayer) -> None:
    layer.send("state?one", {"n": 0})
    taken = layer.exchange([Send("state?one", {"n": 1})], ["state?one"], 1)
    assert [delivery.message for delivery in taken.deliveries] == [{"n": 0}]
    taken = await layer.aexchange([Send("state?one", {"n": 2})], ["state?one"], 1)
    assert [delivery.message for delivery in taken.deliveries] == [{"n": 1}]
    assert layer.peek("state?one") == {"n": 2}


def test_an_exchange_does_any_operation(layer: ChannelLayer) -> None:
    layer.exchange([GroupAdd("room", "state?one")])
    assert layer.group_channels("room") == ["state?one"]


def test_a_layer_that_cannot_says_so() -> None:
    class Other(MemoryChannelLayer):
        peek = ChannelLayer.peek

    layer = Other()
    with pytest.raises(UsageError, match="Other cannot show a message"):
        layer.peek("jobs")
    layer.close()
