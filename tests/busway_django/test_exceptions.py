"""The exceptions of consumers, under the names of Channels 1."""

from collections.abc import Iterator

import pytest

from busway.app.message import Message
from busway.bus.layer import ChannelLayer
from busway.bus.memory import MemoryChannelLayer
from busway.django import channel_layers, exceptions, route
from busway.django.exceptions import (
    ChannelSocketException,
    InvalidChannelLayerError,
    WebsocketCloseException,
)
from busway_django.consuming import Consumption, contents

pytestmark = pytest.mark.django_db


@pytest.fixture
def layer() -> Iterator[ChannelLayer]:
    layer = MemoryChannelLayer()
    yield layer
    layer.close()


class Redirect(ChannelSocketException):
    """Says where to go."""

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self.where = where

    def run(self, message: Message) -> None:
        """Send it."""
        message.reply_to().send({"text": f'"{self.where}"', "close": True})


def test_every_name_can_be_imported() -> None:
    for name in exceptions.__all__:
        assert issubclass(getattr(exceptions, name), Exception)


def test_an_ending_of_your_own_runs_after_what_was_sent_before(layer: ChannelLayer) -> None:
    def consume(message: Message) -> None:
        message.reply_to().send({"text": '"moving"'})
        raise Redirect("/new/")

    async def aconsume(message: Message) -> None:
        await message.reply_to().asend({"text": '"moving"'})
        raise Redirect("/new/")

    for consumer in (consume, aconsume):
        consumption = Consumption(layer, [route("websocket.receive", consumer)])
        assert contents(consumption("websocket.receive")) == ["moving", "/new/"]
        assert consumption.counts.failed == 0


def test_one_without_run_is_a_failure(
    layer: ChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    def consume(message: Message) -> None:
        raise ChannelSocketException

    consumption = Consumption(layer, [route("websocket.receive", consume)])
    assert consumption("websocket.receive") == []
    assert consumption.counts.failed == 1
    assert "has no run(message)" in caplog.text


@pytest.mark.parametrize("code", [1000, 3000, 4999])
def test_a_socket_is_closed_with_the_codes_of_applications(layer: ChannelLayer, code: int) -> None:
    def consume(message: Message) -> None:
        raise WebsocketCloseException(code)

    consumption = Consumption(layer, [route("websocket.receive", consume)])
    assert contents(consumption("websocket.receive")) == [{"close": code, "reason": ""}]


@pytest.mark.parametrize("code", [0, 999, 1001, 1006, 2999, 5000, True, "4000"])
def test_other_codes_are_refused(code: int) -> None:
    with pytest.raises(ValueError, match="expected 1000, or 3000 to 4999"):
        WebsocketCloseException(code)


def test_a_layer_that_is_not_described_is_an_invalid_one() -> None:
    with pytest.raises(InvalidChannelLayerError, match="there is no channel layer 'other'"):
        channel_layers["other"]
