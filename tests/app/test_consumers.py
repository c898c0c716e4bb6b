"""Consumers as classes, sync and async: the same tests for both."""

import asyncio
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from busway import (
    AsyncJsonWebsocketConsumer,
    AsyncWebsocketConsumer,
    BaseConsumer,
    CloseConnection,
    JsonWebsocketConsumer,
    Message,
    Router,
    WebsocketConsumer,
)
from busway.app.context import Outbox, outbox
from busway.app.exceptions import NoReplyChannel
from busway.bus.errors import ConfigurationError, InvalidMessage
from busway.bus.layer import ChannelLayer
from busway.bus.operations import GroupAdd, GroupSend, Operation, Send

Consume = Callable[..., list[Operation]]


@pytest.fixture
def consume(layer: ChannelLayer) -> Consume:
    """Return what has a class consume a message, and returns what it sends."""

    def consume(consumer: type[BaseConsumer], channel: str, **content: Any) -> list[Operation]:
        message = Message({"reply_channel": "web!1", "path": "/x", **content}, channel, layer)
        found = Router([consumer.as_route(path="/<room>")]).match(message)
        assert found is not None

        async def call() -> list[Operation]:
            held = Outbox(layer)
            outbox.set(held)
            returned = found[0](message, **found[1])
            if inspect.iscoroutine(returned):
                await returned
            return held.operations

        return asyncio.run(call())

    return consume


def reply(**content: Any) -> Send:
    return Send("web!1", content, checked=True)


class Sync(WebsocketConsumer):
    groups = ("all",)

    def connection_groups(self, room: str) -> Sequence[str]:
        return [*self.groups, f"room.{room}"]

    def connect(self, message: Message, room: str) -> None:
        self.accept("chat")
        self.send(text=f"{message.channel_name} {room} {self.path} {self.kwargs}")

    def receive(self, text: str | None = None, bytes: bytes | None = None, **_: Any) -> None:  # noqa: A002
        self.send(text, bytes)
        self.group_send("room.x", text, bytes, close=4001)

    def disconnect(self, message: Message, room: str) -> None:
        self.group_send("all", f"{room} {message['code']}")
        self.close(4000, "bye")


class Async(AsyncWebsocketConsumer):
    groups = ("all",)

    def connection_groups(self, room: str) -> Sequence[str]:
        return [*self.groups, f"room.{room}"]

    async def connect(self, message: Message, room: str) -> None:
        await self.accept("chat")
        await self.send(text=f"{message.channel_name} {room} {self.path} {self.kwargs}")

    async def receive(self, text: str | None = None, bytes: bytes | None = None, **_: Any) -> None:  # noqa: A002
        await self.send(text, bytes)
        await self.group_send("room.x", text, bytes, close=4001)

    async def disconnect(self, message: Message, room: str) -> None:
        await self.group_send("all", f"{room} {message['code']}")
        await self.close(4000, "bye")


class SyncJson(JsonWebsocketConsumer):
    def receive(self, content: Any, room: str) -> None:
        self.send({"got": content}, close=True)
        self.group_send("all", [content])


class AsyncJson(AsyncJsonWebsocketConsumer):
    async def receive(self, content: Any, room: str) -> None:
        await self.send({"got": content}, close=True)
        await self.group_send("all", [content])


both = pytest.mark.parametrize("consumer", [Sync, Async])
both_json = pytest.mark.parametrize("consumer", [SyncJson, AsyncJson])


@both
def test_a_socket_joins_its_groups_and_connects(consumer: Any, consume: Consume) -> None:
    assert consume(consumer, "websocket.connect") == [
        GroupAdd("all", "web!1"),
        GroupAdd("room.x", "web!1"),
        reply(accept=True, subprotocol="chat"),
        reply(text="websocket.connect x /x {'room': 'x'}"),
    ]


@both
@pytest.mark.parametrize("content", [{"text": "hi"}, {"bytes": b"\0"}])
def test_frames_are_received_and_sent(consumer: Any, consume: Consume, content: Any) -> None:
    assert consume(consumer, "websocket.receive", **content) == [
        reply(**content),
        GroupSend("room.x", {**content, "close": 4001}, checked=True),
    ]


@both
def test_a_socket_disconnects(consumer: Any, consume: Consume) -> None:
    assert consume(consumer, "websocket.disconnect", code=1001) == [
        GroupSend("all", {"text": "x 1001"}, checked=True),
        reply(close=4000, reason="bye"),
    ]


@pytest.mark.parametrize(
    "consumer",
    [WebsocketConsumer, AsyncWebsocketConsumer, JsonWebsocketConsumer, AsyncJsonWebsocketConsumer],
)
def test_a_class_that_overrides_nothing_accepts(consumer: Any, consume: Consume) -> None:
    assert consume(consumer, "websocket.connect") == [reply(accept=True)]
    assert consume(consumer, "websocket.receive", text="{}") == []
    assert consume(consumer, "websocket.disconnect", code=1000) == []


@both_json
def test_json_frames_are_received_and_sent(consumer: Any, consume: Consume) -> None:
    assert consume(consumer, "websocket.receive", text='{"é": [1, null]}') == [
        reply(text='{"got":{"é":[1,null]}}', close=True),
        GroupSend("all", {"text": '[{"é":[1,null]}]'}, checked=True),
    ]


@both_json
@pytest.mark.parametrize("text", ["", "{", "nope", "[" * 100_000])
def test_a_frame_that_is_no_json_closes_the_socket(
    consumer: Any, consume: Consume, text: str
) -> None:
    assert consume(consumer, "websocket.receive", text=text) == [
        reply(close=1007, reason="expected JSON")
    ]


@both_json
def test_a_frame_of_bytes_where_json_is_expected_closes_the_socket(
    consumer: Any, consume: Consume
) -> None:
    (sent,) = consume(consumer, "websocket.receive", bytes=b"{}")
    assert isinstance(sent, Send)
    assert sent.message["close"] == 1003


def test_the_json_of_a_class_can_be_replaced(consume: Consume) -> None:
    class Shouting(SyncJson):
        @classmethod
        def encode_json(cls, content: Any) -> str:
            return super().encode_json(content).upper()

        @classmethod
        def decode_json(cls, text: str) -> Any:
            return text.split()

    assert consume(Shouting, "websocket.receive", text="a b")[0] == reply(
        text='{"GOT":["A","B"]}', close=True
    )


class TestSending:
    @pytest.fixture
    def consumer(self, layer: ChannelLayer) -> WebsocketConsumer:
        content = {"reply_channel": "web!1"}
        return WebsocketConsumer(Message(content, "websocket.receive", layer))

    def test_text_and_bytes_at_once_are_refused(self, consumer: WebsocketConsumer) -> None:
        with pytest.raises(InvalidMessage, match="text and bytes at once"):
            consumer.send("a", b"b")

    def test_nothing_is_refused(self, consumer: WebsocketConsumer) -> None:
        with pytest.raises(InvalidMessage, match="expected text, bytes or close"):
            consumer.send()

    def test_empty_frames_are_frames(
        self, consumer: WebsocketConsumer, layer: ChannelLayer
    ) -> None:
        consumer.send("")
        consumer.send(bytes=b"")
        consumer.send(close=True)
        contents = [layer.receive(["web!"])[1] for _ in range(3)]
        assert contents == [{"text": ""}, {"bytes": b""}, {"close": True}]

    def test_codes_that_are_not_for_applications_are_refused(
        self, consumer: WebsocketConsumer
    ) -> None:
        with pytest.raises(ConfigurationError, match="3000 to 4999"):
            consumer.close(1006)
        with pytest.raises(ConfigurationError, match="3000 to 4999"):
            consumer.send("bye", close=1006)
        with pytest.raises(ConfigurationError, match="3000 to 4999"):
            CloseConnection(1006)

    def test_closing_needs_no_code(self, consumer: WebsocketConsumer, layer: ChannelLayer) -> None:
        consumer.close()
        consumer.close(reason="bye")
        assert layer.receive(["web!"])[1] == {"close": True}
        assert layer.receive(["web!"])[1] == {"close": 1000, "reason": "bye"}

    def test_somebody_has_to_be_there(self) -> None:
        with pytest.raises(NoReplyChannel):
            WebsocketConsumer(Message({}, "websocket.receive")).send("a")


class TestMapping:
    def test_methods_are_found_by_channel(self, consume: Consume) -> None:
        class Shop(BaseConsumer):
            method_mapping = {"shop.buy": "buy", "shop.sell": "sell"}  # noqa: RUF012

            def buy(self, message: Message, room: str) -> None:
                message.reply_channel.send({"bought": room})

            def sell(self, message: Message, **kwargs: Any) -> None:
                message.reply_channel.send({"sold": self.kwargs["room"]})

        assert sorted(Shop.channel_names()) == ["shop.buy", "shop.sell"]
        assert consume(Shop, "shop.buy") == [reply(bought="x")]
        assert consume(Shop, "shop.sell") == [reply(sold="x")]

    def test_each_message_gets_an_instance_of_its_own(self, consume: Consume) -> None:
        seen: list[object] = []

        class Keeping(BaseConsumer):
            method_mapping = {"a": "keep"}  # noqa: RUF012

            def keep(self, message: Message, room: str) -> None:
                seen.append(self)

        consume(Keeping, "a")
        consume(Keeping, "a")
        assert seen[0] is not seen[1]

    def test_a_missing_method_is_named(self) -> None:
        class Wrong(BaseConsumer):
            method_mapping = {"a": "nowhere"}  # noqa: RUF012

        with pytest.raises(ConfigurationError, match="names 'nowhere' for 'a'"):
            Wrong.as_route()

    def test_sync_and_async_methods_in_one_class_are_refused(self) -> None:
        class Wrong(BaseConsumer):
            method_mapping = {"a": "one", "b": "two"}  # noqa: RUF012

            def one(self, message: Message) -> None: ...

            async def two(self, message: Message) -> None: ...

        with pytest.raises(ConfigurationError, match="has sync and async methods"):
            Wrong.as_route()

    def test_attributes_can_be_set_for_one_route(self, layer: ChannelLayer) -> None:
        message = Message({"reply_channel": "web!1"}, "websocket.connect", layer)
        found = Router([WebsocketConsumer.as_route({"groups": ("vip",)})]).match(message)
        assert found is not None
        found[0](message)
        assert layer.group_channels("vip") == ["web!1"]
        assert WebsocketConsumer.groups == ()

    def test_unknown_attributes_are_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="'strict_ordering', which WebsocketConsumer"):
            WebsocketConsumer.as_route({"strict_ordering": True})
