"""Messages to be sent later."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from busway.app.worker import Worker
from busway.bus.layer import ChannelLayer
from busway.bus.memory import MemoryChannelLayer
from busway.bus.operations import Send
from busway.django import Channel, route
from busway.django.delay import delay
from busway.django.routing import Router
from busway_django.consuming import Consumption

pytestmark = pytest.mark.django_db


@pytest.fixture
def layer() -> Iterator[ChannelLayer]:
    layer = MemoryChannelLayer()
    yield layer
    layer.close()


MALFORMED: list[dict[str, Any]] = [
    {},
    {"channel": "later", "content": {}},
    {"channel": "later", "delay": "5", "content": {}},
    {"channel": "later", "delay": True, "content": {}},
    {"channel": "later", "delay": -1, "content": {}},
    {"channel": "later", "delay": 5},
    {"channel": "later", "delay": 5, "content": "text"},
    {"channel": "no name", "delay": 5, "content": {}},
    {"channel": 7, "delay": 5, "content": {}},
    {"delay": 5, "content": {}},
]


def test_milliseconds_become_seconds(layer: ChannelLayer) -> None:
    consume = Consumption(layer, [route("asgi.delay", delay)])
    sent = consume("asgi.delay", channel="later", delay=1500, content={"n": 1})
    assert sent == [Send("later", {"n": 1}, 1.5, checked=True)]


@pytest.mark.parametrize("message", MALFORMED)
def test_a_malformed_message_is_logged_and_counted(
    layer: ChannelLayer, message: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    consume = Consumption(layer, [route("asgi.delay", delay)])
    assert consume("asgi.delay", **message) == []
    assert consume.counts.failed == 1
    assert "busway.django.delay.delay on asgi.delay" in caplog.text


def test_every_worker_delays_and_malformed_messages_do_not_end_it(layer: ChannelLayer) -> None:
    router = Router([])
    router.check_default()
    assert "asgi.delay" in router.channels
    worker = Worker(layer, router, only_channels=["asgi.*"])
    thread = threading.Thread(target=worker.run)
    for message in MALFORMED:
        layer.send("asgi.delay", message)
    layer.send("asgi.delay", {"channel": "later", "delay": 1, "content": {"n": 1}})
    thread.start()
    try:
        assert layer.receive(["later"], 20) == ("later", {"n": 1})
    finally:
        worker.stop()
        thread.join(20)
    assert worker.statistics().failed == len(MALFORMED)
    assert worker.statistics().consumed == len(MALFORMED) + 1


def test_a_routing_may_delay_in_its_own_way() -> None:
    router = Router([route("asgi.delay", "busway_django.test_delay.own")])
    router.check_default()
    targets = router.targets("asgi.delay")
    assert targets is not None
    assert [target.name for target in targets] == ["busway_django.test_delay.own"]


def own(message: Any) -> None:
    """Do nothing."""


def test_channels_delay_by_themselves(layer: ChannelLayer) -> None:
    Channel("later", channel_layer=layer).send({"n": 1}, delay=0.05)
    assert layer.receive(["later"]) == (None, None)
    assert layer.receive(["later"], 20) == ("later", {"n": 1})
