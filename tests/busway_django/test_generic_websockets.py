"""Consumers of WebSockets as classes."""

import datetime
import uuid
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from django.utils.translation import gettext_lazy

from busway.app import ConsumeLater
from busway.app.decorators import enforce_ordering
from busway.app.message import Message
from busway.bus.errors import ConfigurationError
from busway.bus.layer import ChannelLayer
from busway.bus.memory import MemoryChannelLayer
from busway.bus.operations import GroupAdd, Send
from busway.django import Group
from busway.django.exceptions import DenyConnection, SendNotAvailableOnDemultiplexer
from busway.django.generic import BaseConsumer
from busway.django.generic.websockets import (
    AsyncJsonWebsocketConsumer,
    AsyncWebsocketConsumer,
    AsyncWebsocketDemultiplexer,
    JsonWebsocketConsumer,
    WebsocketConsumer,
    WebsocketDemultiplexer,
    WebsocketMultiplexer,
)
from busway_django.consuming import REPLY, Consumption, contents

pytestmark = pytest.mark.django_db

VALUES = {
    "date": datetime.date(2026, 1, 2),
    "price": Decimal("1.50"),
    "id": uuid.UUID(int=1),
    "label": gettext_lazy("Yes"),
}
WRITTEN = {
    "date": "2026-01-02",
    "price": "1.50",
    "id": "00000000-0000-0000-0000-000000000001",
    "label": "Yes",
}


@pytest.fixture
def layer() -> Iterator[ChannelLayer]:
    layer = MemoryChannelLayer()
    yield layer
    layer.close()


class Echo(WebsocketConsumer):
    groups = ("all",)

    def connection_groups(self, room: str = "", **_: Any) -> Sequence[str]:
        return [*self.groups, f"room.{room}"]

    def connect(self, message: Message, **kwargs: Any) -> None:
        self.accept()
        self.send(text=f"{self.path} {self.kwargs['room']}")

    def receive(self, text: str | None = None, bytes: bytes | None = None, **_: Any) -> None:  # noqa: A002
        self.send(text, bytes)
        self.group_send("all", text, bytes)

    def disconnect(self, message: Message, **_: Any) -> None:
        self.close(status=4001)


class AsyncEcho(AsyncWebsocketConsumer):
    async def receive(self, text: str | None = None, **_: Any) -> None:
        await self.send(text)
        await self.close(status=4001)


class Dates(JsonWebsocketConsumer):
    def receive(self, content: Any, **_: Any) -> None:
        self.send(VALUES)
        self.group_send("all", VALUES)


class AsyncDates(AsyncJsonWebsocketConsumer):
    async def receive(self, content: Any, **_: Any) -> None:
        await self.send(VALUES)
        await self.group_send("all", VALUES)


def test_a_socket_joins_its_groups_and_is_answered(layer: ChannelLayer) -> None:
    consume = Consumption(layer, [Echo.as_route(path=r"^/(?P<room>\w+)/$")])
    joined = consume("websocket.connect", path="/x/")
    assert joined[:2] == [GroupAdd("all", REPLY), GroupAdd("room.x", REPLY)]
    assert [getattr(one, "message", None) for one in joined[2:]] == [
        {"accept": True},
        {"text": "/x/ x"},
    ]
    frames = consume("websocket.receive", path="/x/", bytes=b"\0")
    assert contents(frames) == [{"bytes": b"\0"}, {"bytes": b"\0"}]
    assert contents(consume("websocket.disconnect", path="/x/", code=1000)) == [
        {"close": 4001, "reason": ""}
    ]


def test_an_async_consumer_does_the_same(layer: ChannelLayer) -> None:
    consume = Consumption(layer, [AsyncEcho.as_route()])
    assert contents(consume("websocket.connect")) == [{"accept": True}]
    assert contents(consume("websocket.receive", text="1")) == [1, {"close": 4001, "reason": ""}]


@pytest.mark.parametrize("consumer", [Dates, AsyncDates])
def test_json_holds_what_django_models_hold(layer: ChannelLayer, consumer: Any) -> None:
    consume = Consumption(layer, [consumer.as_route()])
    assert contents(consume("websocket.receive", text="{}")) == [WRITTEN, WRITTEN]


def test_what_no_browser_reads_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        Dates.encode_json({"x": float("nan")})


def test_receive_is_given_what_the_frame_has(layer: ChannelLayer) -> None:
    class Texts(WebsocketConsumer):
        def receive(self, text: str) -> None:
            self.send(text)

    class AsyncTexts(AsyncWebsocketConsumer):
        async def receive(self, text: str) -> None:
            await self.send(text)

    for consumer in (Texts, AsyncTexts):
        consume = Consumption(layer, [consumer.as_route()])
        assert contents(consume("websocket.receive", text="1")) == [1]
        consume("websocket.receive", bytes=b"")
        assert consume.counts.failed == 1


def test_close_takes_true_as_in_channels_1(layer: ChannelLayer) -> None:
    class Closing(WebsocketConsumer):
        def receive(self, *_: Any, **__: Any) -> None:
            self.close(status=True)

    consume = Consumption(layer, [Closing.as_route()])
    assert contents(consume("websocket.receive", text="")) == [{"close": True}]


def test_attributes_can_be_set_for_one_route(layer: ChannelLayer) -> None:
    consume = Consumption(layer, [Dates.as_route(attrs={"groups": ["a"]})])
    assert consume("websocket.connect")[0] == GroupAdd("a", REPLY)
    assert not Dates.groups


@pytest.mark.parametrize("name", ["strict_ordering", "slight_ordering"])
def test_the_old_attributes_for_ordering_rely_on_the_layer(name: str) -> None:
    layer = MemoryChannelLayer(policies={"websocket.*": {"ordering": None}})
    consume = Consumption(layer, [Dates.as_route(attrs={name: True})])
    with pytest.raises(ConfigurationError, match="relies on the order"):
        consume.router.check_ordering(layer.policies)
    Consumption(layer, [Dates.as_route()]).router.check_ordering(layer.policies)
    layer.close()


def test_a_decorated_class_stays_ordered_when_it_is_inherited() -> None:
    @enforce_ordering
    class Ordered(WebsocketConsumer):
        pass

    class Heir(Ordered):
        pass

    class Free(Ordered):
        strict_ordering = False

    assert Heir.enforces_ordering
    assert not Free.enforces_ordering


def test_a_base_consumer_takes_channels_of_any_name(layer: ChannelLayer) -> None:
    class Jobs(BaseConsumer):
        method_mapping: ClassVar = {"jobs.done": "done", "jobs.failed": "failed"}

        def done(self, message: Message, **_: Any) -> None:
            Group("jobs").send({"text": "1"})

        def failed(self, message: Message, **_: Any) -> None:
            raise AssertionError

    assert set(Jobs.channel_names()) == {"jobs.done", "jobs.failed"}
    assert contents(Consumption(layer, [Jobs.as_route()])("jobs.done")) == [1]


# Streams


class First(JsonWebsocketConsumer):
    def connect(self, message: Message, *, multiplexer: WebsocketMultiplexer, **_: Any) -> None:
        multiplexer.send({"hello": multiplexer.stream})

    def receive(self, content: Any, multiplexer: WebsocketMultiplexer, **_: Any) -> None:
        if content == "send":
            self.send(content)
        elif content == "close":
            multiplexer.close(4000, "bye")
        else:
            multiplexer.send({"first": content, "room": self.kwargs.get("room")})
            multiplexer.group_send("all", "second", content, close=True)

    def disconnect(self, message: Message, multiplexer: WebsocketMultiplexer, **_: Any) -> None:
        Group("left").send({"text": '"first"'})


class AsyncFirst(AsyncJsonWebsocketConsumer):
    async def connect(
        self, message: Message, *, multiplexer: WebsocketMultiplexer, **_: Any
    ) -> None:
        await multiplexer.asend({"hello": multiplexer.stream})

    async def receive(self, content: Any, multiplexer: WebsocketMultiplexer, **_: Any) -> None:
        if content == "send":
            await self.send(content)
        elif content == "close":
            await multiplexer.aclose(4000, "bye")
        else:
            await multiplexer.asend({"first": content, "room": self.kwargs.get("room")})
            await multiplexer.agroup_send("all", "second", content, close=True)

    async def disconnect(
        self, message: Message, multiplexer: WebsocketMultiplexer, **_: Any
    ) -> None:
        await Group("left").asend({"text": '"first"'})


class Second(WebsocketConsumer):
    def disconnect(self, message: Message, **_: Any) -> None:
        Group("left").send({"text": '"second"'})


class AsyncSecond(AsyncWebsocketConsumer):
    async def disconnect(self, message: Message, **_: Any) -> None:
        await Group("left").asend({"text": '"second"'})


class Both(WebsocketDemultiplexer):
    consumers: ClassVar = {"first": First, "second": f"{__name__}.Second"}
    groups = ("all",)


class AsyncBoth(AsyncWebsocketDemultiplexer):
    consumers: ClassVar = {"first": AsyncFirst, "second": AsyncSecond}
    groups = ("all",)


both = pytest.mark.parametrize("consumer", [Both, AsyncBoth])


@both
def test_connecting_reaches_every_stream_and_accepts_once(
    layer: ChannelLayer, consumer: Any
) -> None:
    sent = Consumption(layer, [consumer.as_route()])("websocket.connect")
    assert sent[0] == GroupAdd("all", REPLY)
    assert contents(sent) == [
        {"accept": True},
        {"stream": "first", "payload": {"hello": "first"}},
    ]


@both
def test_disconnecting_reaches_every_stream(layer: ChannelLayer, consumer: Any) -> None:
    sent = Consumption(layer, [consumer.as_route()])("websocket.disconnect", code=1000)
    assert contents(sent) == ["first", "second"]


@both
def test_a_payload_reaches_the_consumer_of_its_stream(layer: ChannelLayer, consumer: Any) -> None:
    consume = Consumption(layer, [consumer.as_route(path="/<room>")])
    sent = consume("websocket.receive", path="/x", text='{"stream": "first", "payload": [1]}')
    assert contents(sent) == [
        {"stream": "first", "payload": {"first": [1], "room": "x"}},
        {"stream": "second", "payload": [1]},
    ]
    assert getattr(sent[1], "message", {})["close"] is True


@both
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"stream": "third", "payload": {}}', "there is no such stream"),
        ('{"stream": ["first"], "payload": {}}', 'expected {"stream": …, "payload": …}'),
        ('{"stream": "first"}', 'expected {"stream": …, "payload": …}'),
        ('{"payload": {}}', 'expected {"stream": …, "payload": …}'),
        ("[]", 'expected {"stream": …, "payload": …}'),
    ],
)
def test_a_frame_for_no_stream_closes_the_socket(
    layer: ChannelLayer, consumer: Any, text: str, reason: str
) -> None:
    consume = Consumption(layer, [consumer.as_route()])
    assert contents(consume("websocket.receive", text=text)) == [{"close": 1008, "reason": reason}]
    assert consume.counts.failed == 0


@both
def test_a_stream_closes_the_socket(layer: ChannelLayer, consumer: Any) -> None:
    consume = Consumption(layer, [consumer.as_route()])
    sent = consume("websocket.receive", text='{"stream": "first", "payload": "close"}')
    assert contents(sent) == [{"close": 4000, "reason": "bye"}]


@both
def test_send_is_refused_and_says_what_to_use(
    layer: ChannelLayer, consumer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    consume = Consumption(layer, [consumer.as_route()])
    assert consume("websocket.receive", text='{"stream": "first", "payload": "send"}') == []
    assert consume.counts.failed == 1
    assert "multiplexer.send(payload)" in caplog.text


def test_the_demultiplexer_itself_sends_on_no_stream() -> None:
    with pytest.raises(SendNotAvailableOnDemultiplexer):
        Both(Message({"reply_channel": REPLY}, "websocket.receive")).send({})
    with pytest.raises(SendNotAvailableOnDemultiplexer):
        Both.group_send("all", {})


def test_the_class_of_a_stream_is_not_changed(layer: ChannelLayer) -> None:
    alone = Consumption(layer, [Second.as_route()])
    Consumption(layer, [Both.as_route()])("websocket.connect")
    assert contents(alone("websocket.connect")) == [{"accept": True}]
    assert "send" not in vars(Second)


@pytest.mark.parametrize("base", [WebsocketDemultiplexer, AsyncWebsocketDemultiplexer])
def test_a_stream_that_denies_refuses_the_socket(layer: ChannelLayer, base: Any) -> None:
    def greet(message: Message, multiplexer: WebsocketMultiplexer) -> None:
        multiplexer.send("hello")

    async def agreet(message: Message, multiplexer: WebsocketMultiplexer) -> None:
        multiplexer.send("hello")

    def deny(message: Message, multiplexer: WebsocketMultiplexer) -> None:
        raise DenyConnection

    async def adeny(message: Message, multiplexer: WebsocketMultiplexer) -> None:
        raise DenyConnection

    consumers = {
        WebsocketDemultiplexer: {"a": greet, "b": deny},
        AsyncWebsocketDemultiplexer: {"a": agreet, "b": adeny},
    }
    consume = Consumption(layer, [base.as_route(attrs={"consumers": consumers[base]})])
    assert contents(consume("websocket.connect")) == [{"accept": False}]


@pytest.mark.parametrize("base", [WebsocketDemultiplexer, AsyncWebsocketDemultiplexer])
@pytest.mark.parametrize("order", ["fail note", "note fail note", "fail fail note"])
def test_what_a_stream_sends_at_its_end_is_sent_although_another_fails(
    layer: ChannelLayer, caplog: pytest.LogCaptureFixture, base: Any, order: str
) -> None:
    def fail(message: Message, **_: Any) -> None:
        Group("left").send({"text": '"failed"'})
        raise ZeroDivisionError

    def note(message: Message, **_: Any) -> None:
        Group("left").send({"text": '"left"'})

    async def afail(message: Message, **_: Any) -> None:
        fail(message)

    async def anote(message: Message, **_: Any) -> None:
        note(message)

    consumers: Any = {"fail": fail, "note": note}
    if base is AsyncWebsocketDemultiplexer:
        consumers = {"fail": afail, "note": anote}
    names = order.split()
    streams = {str(number): consumers[name] for number, name in enumerate(names)}
    consume = Consumption(layer, [base.as_route(attrs={"consumers": streams})])
    sent = consume("websocket.disconnect", code=1000, path="/gone/")
    assert contents(sent) == ["left"] * names.count("note")
    assert consume.counts.failed == 1
    failed = [record for record in caplog.records if record.exc_info]
    assert len(failed) == names.count("fail")
    assert "fail on websocket.disconnect '/gone/' failed" in failed[0].getMessage()
    assert "ZeroDivisionError" in caplog.text


def test_a_stream_may_have_the_disconnect_of_all_tried_again(layer: ChannelLayer) -> None:
    def later(message: Message, **_: Any) -> None:
        raise ConsumeLater

    streams = {"a": later, "b": Second}
    consume = Consumption(layer, [WebsocketDemultiplexer.as_route(attrs={"consumers": streams})])
    (again,) = consume("websocket.disconnect", code=1000)
    assert isinstance(again, Send)
    assert again.channel == "websocket.disconnect"
    assert consume.counts.requeued == 1


def test_streams_are_all_sync_or_all_async() -> None:
    with pytest.raises(ConfigurationError, match=r"is async; the streams .* are all sync"):
        WebsocketDemultiplexer.as_route(attrs={"consumers": {"x": AsyncFirst}})
    with pytest.raises(ConfigurationError, match=r"is sync; the streams .* are all async"):
        AsyncWebsocketDemultiplexer.as_route(attrs={"consumers": {"x": First}})


def test_a_demultiplexer_needs_streams() -> None:
    with pytest.raises(ConfigurationError, match="expected a dict of stream"):
        WebsocketDemultiplexer.as_route()


def test_an_ordered_stream_makes_the_socket_ordered() -> None:
    class Ordered(JsonWebsocketConsumer):
        strict_ordering = True

    class Streams(WebsocketDemultiplexer):
        consumers: ClassVar = {"x": Ordered}

    layer = MemoryChannelLayer(policies={"websocket.*": {"ordering": None}})
    with pytest.raises(ConfigurationError, match="Streams relies on the order"):
        Consumption(layer, [Streams.as_route()]).router.check_ordering(layer.policies)
    layer.close()


@pytest.mark.parametrize(
    "attrs",
    [
        {"channel_session": True},
        {"channel_session_user": True},
        {"http_user": True},
        {"http_user_and_session": True},
    ],
)
@pytest.mark.parametrize("async_", [False, True])
def test_a_session_is_there_before_the_consumer_is(
    layer: ChannelLayer,
    attrs: dict[str, bool],
    async_: bool,
) -> None:
    pytest.importorskip("busway.django.sessions")
    pytest.importorskip("busway.django.auth")
    seen = []

    class Sync(WebsocketConsumer):
        def connect(self, message: Message, **_: Any) -> None:
            seen.append(message)

    class Async(AsyncWebsocketConsumer):
        async def connect(self, message: Message, **_: Any) -> None:
            seen.append(message)

    consumer: Any = Async if async_ else Sync
    Consumption(layer, [consumer.as_route(attrs=attrs)])("websocket.connect", headers=[])
    (message,) = seen
    assert getattr(message, "channel_session", None) is not None
    assert hasattr(message, "user") is ("channel_session" not in attrs)
