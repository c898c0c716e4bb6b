"""Sessions and users of the streams that share a socket."""

from typing import Any, ClassVar

import pytest
from django.contrib.sessions.models import Session
from django.db import connection
from django.test.utils import CaptureQueriesContext

from busway.app import DenyConnection, Message, route
from busway.django.generic.websockets import (
    AsyncJsonWebsocketConsumer,
    AsyncWebsocketDemultiplexer,
    JsonWebsocketConsumer,
    WebsocketDemultiplexer,
)
from busway.django.sessions import channel_and_http_session, channel_session
from busway_django.browsers import logged_in, make_user
from busway_django.sockets import Socket

pytestmark = pytest.mark.django_db

left: list[Any] = []
"""What the streams found in the session as the socket closed."""


@pytest.fixture(autouse=True)
def nobody_has_left() -> None:
    left.clear()


class Stream(JsonWebsocketConsumer):
    channel_session = True
    name: ClassVar = ""

    def connect(self, message: Message, **_: Any) -> None:
        message.channel_session[self.name] = "here"

    def receive(self, content: Any, *, multiplexer: Any, **_: Any) -> None:
        multiplexer.send(dict(self.message.channel_session.items()))

    def disconnect(self, message: Message, **_: Any) -> None:
        left.append(message.channel_session.get(self.name))


class AsyncStream(AsyncJsonWebsocketConsumer):
    channel_session = True
    name: ClassVar = ""

    async def connect(self, message: Message, **_: Any) -> None:
        message.channel_session[self.name] = "here"

    async def receive(self, content: Any, *, multiplexer: Any, **_: Any) -> None:
        await multiplexer.asend(dict(self.message.channel_session.items()))

    async def disconnect(self, message: Message, **_: Any) -> None:
        left.append(message.channel_session.get(self.name))


class Streams(WebsocketDemultiplexer):
    consumers: ClassVar = {
        "one": type("One", (Stream,), {"name": "one"}),
        "two": type("Two", (Stream,), {"name": "two"}),
    }


class AsyncStreams(AsyncWebsocketDemultiplexer):
    consumers: ClassVar = {
        "one": type("One", (AsyncStream,), {"name": "one"}),
        "two": type("Two", (AsyncStream,), {"name": "two"}),
    }


kinds = pytest.mark.parametrize("streams", [Streams, AsyncStreams])


@kinds
@pytest.mark.parametrize("attrs", [{}, {"channel_session": True}, {"http_user_and_session": True}])
def test_all_streams_have_what_each_has_put_into_the_session(
    streams: Any, attrs: dict[str, bool]
) -> None:
    socket = Socket([streams.as_route(attrs=attrs)])
    socket.connect()
    assert socket.receive('{"stream": "one", "payload": 1}') == [
        {"text": '{"stream":"one","payload":{"one":"here","two":"here"}}'}
    ]
    assert socket.disconnect() == []
    assert left == ["here", "here"]
    assert not Session.objects.exists()
    assert not socket.counts.failed


@kinds
def test_a_message_costs_one_load_and_one_save_for_all_streams(streams: Any) -> None:
    socket = Socket([streams.as_route()])
    with CaptureQueriesContext(connection) as queries:
        socket.connect()
    kinds = [query["sql"].split()[0] for query in queries]
    assert [kind for kind in kinds if kind in ("SELECT", "INSERT", "UPDATE")] == [
        "SELECT",
        "INSERT",
    ]


@pytest.mark.parametrize("attribute", ["http_user", "http_user_and_session"])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_stream_has_the_user_of_the_browser_after_one_with_a_session_only(
    attribute: str, is_async: bool
) -> None:
    class Who(JsonWebsocketConsumer):
        def receive(self, content: Any, *, multiplexer: Any, **_: Any) -> None:
            multiplexer.send(self.message.user.username)

    class AsyncWho(AsyncJsonWebsocketConsumer):
        async def receive(self, content: Any, *, multiplexer: Any, **_: Any) -> None:
            await multiplexer.asend((await self.message.auser()).username)

    base: Any = AsyncWho if is_async else Who
    streams: Any = AsyncStreams if is_async else Streams
    consumers = {
        "one": streams.consumers["one"],
        "who": type("Theirs", (base,), {attribute: True}),
    }
    _, cookies = logged_in(make_user())
    socket = Socket([streams.as_route(attrs={"consumers": consumers})], cookies=cookies)
    socket.connect()
    assert socket.receive('{"stream": "who", "payload": 1}') == [
        {"text": '{"stream":"who","payload":"ada"}'}
    ]
    assert not socket.counts.failed


def test_a_stream_that_denies_leaves_no_session_of_the_others() -> None:
    def deny(message: Message, **_: Any) -> None:
        raise DenyConnection

    consumers = {**Streams.consumers, "three": deny}
    socket = Socket([Streams.as_route(attrs={"consumers": consumers})])
    assert socket.connect() == [{"accept": False}]
    assert not Session.objects.exists()


@pytest.mark.parametrize("is_async", [False, True])
def test_a_consumer_may_call_several_that_have_sessions_of_their_own(is_async: bool) -> None:
    @channel_session
    def first(message: Message) -> None:
        message.channel_session["first"] = 1

    @channel_and_http_session
    def second(message: Message) -> None:
        message.channel_session["second"] = message.channel_session["first"] + 1
        message.http_session["second"] = 2

    @channel_and_http_session
    def third(message: Message) -> None:
        message.channel_session["third"] = message.http_session["second"] + 1

    def consume(message: Message) -> None:
        first(message)
        second(message)
        third(message)

    @channel_session
    async def afirst(message: Message) -> None:
        message.channel_session["first"] = 1

    @channel_and_http_session
    async def asecond(message: Message) -> None:
        message.channel_session["second"] = message.channel_session["first"] + 1
        message.http_session["second"] = 2

    @channel_and_http_session
    async def athird(message: Message) -> None:
        message.channel_session["third"] = message.http_session["second"] + 1

    async def aconsume(message: Message) -> None:
        await afirst(message)
        await asecond(message)
        await athird(message)

    socket = Socket([route("websocket.connect", aconsume if is_async else consume)])
    socket.connect()
    assert not socket.counts.failed
    kept = Session.objects.get(session_key__startswith="chn").get_decoded()
    assert {name: kept[name] for name in ("first", "second", "third")} == {
        "first": 1,
        "second": 2,
        "third": 3,
    }


@kinds
def test_it_is_deleted_although_a_stream_fails_to_disconnect(streams: Any) -> None:
    def fail(message: Message, **_: Any) -> None:
        if message.channel_name == "websocket.disconnect":
            raise ValueError

    async def afail(message: Message, **_: Any) -> None:
        fail(message)

    consumers = {"failing": fail if streams is Streams else afail, **streams.consumers}
    socket = Socket([streams.as_route(attrs={"consumers": consumers})])
    socket.connect()
    assert Session.objects.exists()
    socket.disconnect()
    assert left == ["here", "here"]
    assert socket.counts.failed == 1
    assert not Session.objects.exists()
