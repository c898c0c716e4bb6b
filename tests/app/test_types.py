"""What type checkers see of the public names: mypy checks this file, nothing runs it."""

from collections.abc import AsyncIterator, Iterator
from typing import Any, assert_type

from busway import (
    AsyncJsonWebsocketConsumer,
    AsyncWebsocketConsumer,
    Channel,
    Group,
    JsonWebsocketConsumer,
    Message,
    Router,
    WebsocketConsumer,
    abody_chunks,
    astream_response,
    body_chunks,
    enforce_ordering,
    include,
    respond,
    route,
    route_class,
    stream_response,
)
from busway.app.routing import Route, RoutingItem


def receive(message: Message, room: str) -> None:
    assert_type(message.content, dict[str, Any])
    assert_type(message.channel, Channel)
    assert_type(message.reply_channel, Channel | Any)
    assert_type(message.reply_to(), Channel)
    assert_type(message["text"], Any)
    assert_type(message.get("text"), Any)
    assert_type(message.copy(), Message)
    assert_type(body_chunks(message), Iterator[bytes])
    assert_type(abody_chunks(message), AsyncIterator[bytes])
    message.reply_channel.send({"text": "no test for None is asked for"})
    Group(room).add(message.reply_channel)
    Group(room).add("web.x!1")
    Group(room).send({"text": message["text"]})
    assert_type(Group(room).channels(), list[str])
    Channel("jobs").send({"n": 1}, immediately=True, delay=1.5)
    respond(message, "text", status=201, headers={"x": "y"})
    stream_response(message, [b"a"], headers=[(b"x", b"y")])


@enforce_ordering
async def areceive(message: Message, room: str) -> int:
    await message.reply_channel.asend({"text": "hi"})
    assert_type(await Group(room).achannels(), list[str])
    await astream_response(message, abody_chunks(message))
    await astream_response(message, body_chunks(message))
    assert_type(await areceive(message, room), int)
    return 1


@enforce_ordering(slight=True)
def ordered(message: Message) -> str:
    return ""


class Chat(WebsocketConsumer):
    groups = ("all",)

    def connect(self, message: Message, room: str) -> None:
        assert_type(self.message, Message)
        self.accept(subprotocol="chat")

    def receive(self, text: str | None = None, *, room: str, **kwargs: Any) -> None:
        self.send(text=text, close=4000)
        self.group_send(room, text)

    def disconnect(self, message: Message, room: str) -> None:
        self.close(reason="bye")


class AsyncChat(AsyncWebsocketConsumer):
    async def connect(self, message: Message, room: str) -> None:
        await self.accept()

    async def receive(self, *, text: str | None, room: str, **kwargs: Any) -> None:
        await self.send(text)


class JsonChat(JsonWebsocketConsumer):
    def receive(self, content: dict[str, Any], room: str) -> None:
        self.send(content)
        self.group_send(room, [content], close=True)


class AsyncJsonChat(AsyncJsonWebsocketConsumer):
    async def receive(self, content: Any, room: str) -> None:
        await self.send(content)


def routings() -> None:
    assert_type(ordered(Message({}, "x")), str)
    inner = [route("websocket.receive", receive, path="/<room>/"), Chat.as_route(path="/<room>/")]
    assert_type(inner, list[Route])
    routing = [
        include(inner, path="^/chat"),
        include({"jobs": "shop.consumers.buy", "more": ordered}),
        include("shop.routing.routing"),
        route(["websocket.connect", "jobs"], areceive),
        route_class(JsonChat),
        route_class("shop.consumers.Chat"),
        AsyncJsonChat.as_route({"groups": ("a",)}),
    ]
    assert_type(routing, list[RoutingItem])
    router = Router(routing)
    router.add_route(include(routing))
    assert_type(router.match(Message({}, "x")), tuple[Any, dict[str, Any]] | None)
    assert_type(router.channels, frozenset[str])
