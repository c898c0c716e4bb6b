"""The client of tests that speaks for a browser."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from pytest_django.fixtures import Settings

from busway.app.message import Message
from busway.app.routing import route
from busway.bus.errors import UsageError
from busway.django import Group
from busway.django.auth import channel_session_user, channel_session_user_from_http
from busway.django.test import HttpClient, WSClient, apply_routes, memory_layers
from busway_django.project import echo_routing


@pytest.fixture(autouse=True)
def client() -> Iterator[WSClient]:
    """Return a socket on a fresh layer, with the routing of the tests."""
    with memory_layers(["default"]), apply_routes(echo_routing.routes):
        yield WSClient()


def test_a_socket_is_accepted_and_speaks_json(client: WSClient) -> None:
    client.send_and_consume("websocket.connect", path="/chat/lobby/?token=x")
    assert client.receive() is None, "the acceptance is taken off the answers"
    client.send_and_consume("websocket.receive", text={"n": 1}, path="/chat/lobby/")
    assert client.receive() == {"room": "lobby", "got": {"n": 1}}
    Group("chat").send({"text": "plain"})
    assert client.receive(json=False) == "plain"
    client.send_and_consume("websocket.disconnect", {"code": 1000}, path="/chat/lobby/")


def test_a_socket_that_closes_leaves_its_groups(client: WSClient) -> None:
    client.send_and_consume("websocket.connect", path="/chat/lobby/")
    client.join_group("all")
    client.send_and_consume("websocket.disconnect", path="/chat/lobby/")
    for group in ("chat", "all"):
        Group(group).send({"text": group})
    assert client.receive(json=False) == "all", "the test itself has joined that one"
    assert client.receive() is None


async def test_async_tests_await(client: WSClient) -> None:
    await client.asend_and_consume("websocket.connect", path="/chat/lobby/")
    await client.asend_and_consume("websocket.receive", text=[1], path="/chat/lobby/")
    assert client.receive() == {"room": "lobby", "got": [1]}


def test_a_frame_that_is_not_json_is_named(client: WSClient) -> None:
    client.join_group("all")
    Group("all").send({"text": "plain"})
    with pytest.raises(AssertionError, match=r"'plain' is not JSON.*receive\(json=False\)"):
        client.receive()


def test_other_answers_come_whole(client: WSClient) -> None:
    client.join_group("all")
    Group("all").send({"bytes": b"\0"})
    Group("all").send({"close": 4000})
    assert [client.receive(), client.receive()] == [{"bytes": b"\0"}, {"close": 4000}]


def test_a_refused_socket_fails_the_test(client: WSClient) -> None:
    with pytest.raises(AssertionError, match=r"Connection rejected: .*False"):
        client.send_and_consume("websocket.connect", path="/denied/")
    client.send_and_consume("websocket.connect", path="/denied/", check_accept=False)
    assert client.receive() == {"accept": False}


def test_a_socket_without_an_answer_fails_the_test(client: WSClient) -> None:
    with pytest.raises(AssertionError, match="neither accepted nor refused"):
        client.send_and_consume("websocket.connect", path="/silent/")


def test_a_frame_accepts_and_is_kept(client: WSClient) -> None:
    client.send_and_consume("websocket.connect", path="/greeted/")
    assert client.receive(json=False) == "hello"


def sent(client: WSClient, channel: str) -> dict[str, Any]:
    """Return the content of the message that the client has sent."""
    message = client.get_next_message(channel)
    assert message is not None
    return message.content


def test_messages_are_those_of_an_interface_server(client: WSClient) -> None:
    client.set_header("Origin", "http://testserver")
    client.set_cookie("colour", "red")
    client.set_cookie("size", "big")
    client.send("websocket.connect", path="/chat/?room=1")
    client.send("websocket.receive", text="hello", path="/chat/?room=1")
    connect = sent(client, "websocket.connect")
    assert (connect["path"], connect["query_string"]) == ("/chat/", b"room=1")
    assert (connect["scheme"], connect["subprotocols"], connect["order"]) == ("ws", [], 0)
    assert connect["headers"] == [
        [b"host", b"testserver"],
        [b"origin", b"http://testserver"],
        [b"cookie", b"colour=red; size=big"],
    ]
    receive = sent(client, "websocket.receive")
    del receive["reply_channel"]
    assert receive == {"path": "/chat/", "text": "hello", "order": 1}


def test_content_counts_before_what_is_filled_in(client: WSClient) -> None:
    client.send("http.request", {"method": "POST", "path": "/own/", "headers": []}, path="/x/")
    request = sent(client, "http.request")
    assert (request["method"], request["path"], request["headers"]) == ("POST", "/own/", [])


def test_an_ordered_client_numbers_its_messages_itself() -> None:
    client = HttpClient(ordered=True)
    with pytest.raises(UsageError, match="order is 7 and the client is ordered"):
        client.send("websocket.receive", {"order": 7})
    WSClient().send("websocket.receive", {"order": 7})
    assert sent(client, "websocket.receive")["order"] == 7


@pytest.mark.django_db
def test_a_login_is_a_session_cookie(client: WSClient) -> None:
    user = User.objects.create_user("ada", password="of a test")
    assert not client.login(username="ada", password="wrong")
    assert client.get_cookies() == {}
    assert client.login(username="ada", password="of a test")
    key = client.get_cookies()["sessionid"]
    session = SessionStore(key)
    assert session["_auth_user_id"] == str(user.pk)
    client.logout()
    assert client.get_cookies() == {}
    assert not session.exists(key)


@pytest.mark.django_db
@pytest.mark.parametrize("engine", ["db", "signed_cookies", "cache"])
def test_a_session_is_that_of_the_browser(
    client: WSClient, settings: Settings, engine: str
) -> None:
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    client.force_login(User.objects.create_user("ada"))
    client.session["colour"] = "red"
    client.session.save()
    found: list[Any] = []

    def connect(message: Message) -> None:
        from django.http import parse_cookie

        cookies = parse_cookie(dict(message["headers"])[b"cookie"].decode())
        other = WSClient()
        other.set_cookie("sessionid", cookies["sessionid"])
        found.append((other.session["colour"], "_auth_user_id" in other.session))
        message.reply_channel.send({"accept": True})

    with apply_routes(route("websocket.connect", connect)):
        client.send_and_consume("websocket.connect")
    assert found == [("red", True)]


@channel_session_user_from_http
def connect_user(message: Message) -> None:
    """Accept, and remember something."""
    message.channel_session["greeting"] = "hello"
    message.reply_channel.send({"accept": True})


@channel_session_user
def greet_user(message: Message) -> None:
    """Greet who is logged in."""
    session, user = message.channel_session, message.user
    message.reply_channel.send({"text": f"{session['greeting']} {user.username}"})


@pytest.mark.django_db
@apply_routes([route("websocket.connect", connect_user), route("websocket.receive", greet_user)])
def test_who_is_logged_in_is_known_to_every_frame() -> None:
    client = WSClient()
    client.force_login(User.objects.create_user("ada"))
    client.send_and_consume("websocket.connect")
    for _ in range(2):
        client.send_and_consume("websocket.receive", text="?")
        assert client.receive(json=False) == "hello ada"
