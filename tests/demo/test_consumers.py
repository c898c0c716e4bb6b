"""The chat, from one browser's frames to the other's, with the bus in memory."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from busway import Message
from busway.app.context import set_layer
from busway.app.routing import Router
from busway.bus.memory import MemoryChannelLayer
from busway.demo import consumers
from busway.demo.routing import routing
from busway.demo.store import MAX_SOCKETS, SILENCE, Store

PREFIX = "web.reply.test!"
ROUTER = Router(routing)


class Browser:
    """One socket: what it sends is consumed at once, what it gets is read off the bus."""

    def __init__(self, layer: MemoryChannelLayer, number: int, path: str, name: str) -> None:
        self.channel = f"{PREFIX}{number}"
        self._layer = layer
        self._base = {
            "reply_channel": self.channel,
            "path": path,
            "query_string": f"name={quote(name)}".encode(),
        }
        self.emit("websocket.connect")

    def emit(self, channel: str, **content: Any) -> None:
        message = Message({**self._base, **content}, channel, self._layer)
        found = ROUTER.match(message)
        if found is not None:
            consumer, arguments = found
            consumer(message, **arguments)

    def send(self, **request: Any) -> None:
        self.emit("websocket.receive", text=json.dumps(request))

    def say(self, text: str, ref: str = "ref") -> None:
        self.send(type="say", text=text, ref=ref)

    def leave(self) -> None:
        self.emit("websocket.disconnect", code=1001)


class Bus:
    """The layer, the browsers on it, and what came for each."""

    def __init__(self) -> None:
        self.layer = MemoryChannelLayer()
        self._browsers = 0
        self._replies: dict[str, list[dict[str, Any]]] = {}

    def open(self, room: str, name: str = "") -> Browser:
        self._browsers += 1
        path = f"/ws/room/{room}/" if room else "/ws/lobby/"
        return Browser(self.layer, self._browsers, path, name)

    def replies(self, browser: Browser) -> list[dict[str, Any]]:
        """Return what came for a browser since the last time."""
        while True:
            channel, reply = self.layer.receive([PREFIX])
            if channel is None or reply is None:
                return self._replies.pop(browser.channel, [])
            self._replies.setdefault(channel, []).append(reply)

    def frames(self, browser: Browser) -> list[dict[str, Any]]:
        """Return the JSON that came for a browser since the last time."""
        return [json.loads(reply["text"]) for reply in self.replies(browser) if "text" in reply]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    store = Store(tmp_path / "state")
    monkeypatch.setattr(consumers, "store", store)
    yield store
    store.close()


@pytest.fixture
def bus(store: Store) -> Iterator[Bus]:
    bus = Bus()
    before = set_layer(bus.layer)
    yield bus
    set_layer(before)
    bus.layer.close()


def kinds(frames: list[dict[str, Any]]) -> list[str]:
    return [frame["type"] for frame in frames]


def test_whoever_comes_in_sees_the_history_and_who_is_there(bus: Bus) -> None:
    ada = bus.open("tea", "Ada")
    ada.say("first")
    bob = bus.open("tea", "Bob")
    welcome, people = bus.frames(bob)
    assert welcome["type"] == "welcome"
    assert [(said["name"], said["text"]) for said in welcome["history"]] == [("Ada", "first")]
    assert people["people"]["names"] == ["Ada", "Bob"]
    assert people["joined"] == "Bob"


def test_every_answer_names_the_worker(bus: Bus) -> None:
    ada = bus.open("tea", "Ada")
    ada.say("hello")
    frames = bus.frames(ada)
    assert kinds(frames) == ["welcome", "people", "said"]
    assert {frame["worker"] for frame in frames} == {os.getpid()}


def test_what_is_said_reaches_the_room_and_no_other(bus: Bus) -> None:
    ada, bob, cleo = bus.open("tea", "Ada"), bus.open("tea", "Bob"), bus.open("coffee", "Cleo")
    for each in (ada, bob, cleo):
        bus.replies(each)
    ada.say("  hello  ", "r1")
    for each in (ada, bob):
        (frame,) = bus.frames(each)
        assert frame["type"] == "said"
        assert (frame["said"]["name"], frame["said"]["text"]) == ("Ada", "hello")
        assert frame["said"]["ref"] == "r1"
    assert bus.replies(cleo) == []


def test_a_message_that_is_sent_again_is_the_same_message(bus: Bus) -> None:
    ada = bus.open("tea", "Ada")
    bus.replies(ada)
    ada.say("hello", "r1")
    ada.say("hello", "r1")
    first, second = bus.frames(ada)
    assert first["said"] == second["said"]


def test_the_others_see_who_leaves(bus: Bus) -> None:
    ada, bob = bus.open("tea", "Ada"), bus.open("tea", "Bob")
    bus.replies(ada)
    bob.leave()
    (frame,) = bus.frames(ada)
    assert frame["type"] == "people"
    assert frame["left"] == "Bob"
    assert frame["people"]["names"] == ["Ada"]


def test_a_second_page_of_the_same_person_comes_and_goes_unannounced(bus: Bus) -> None:
    ada, bob = bus.open("tea", "Ada"), bus.open("tea", "Bob")
    bus.replies(ada)
    again = bus.open("tea", "Bob")
    again.leave()
    for frame in bus.frames(ada):
        assert frame["people"]["names"] == ["Ada", "Bob"]
        assert not frame.get("joined")
        assert not frame.get("left")
    assert bob.channel != again.channel


def test_the_lobby_follows_the_rooms(bus: Bus) -> None:
    lobby = bus.open("")
    (frame,) = bus.frames(lobby)
    assert frame["type"] == "rooms"
    assert frame["rooms"] == []
    ada = bus.open("tea", "Ada")
    assert bus.frames(lobby)[-1]["rooms"] == [{"room": "tea", "names": ["Ada"]}]
    ada.leave()
    assert bus.frames(lobby)[-1]["rooms"] == []


def test_the_lobby_answers_pings_with_the_rooms(bus: Bus) -> None:
    lobby = bus.open("")
    bus.replies(lobby)
    lobby.send(type="ping")
    assert kinds(bus.frames(lobby)) == ["rooms"]


def test_a_ping_is_answered(bus: Bus) -> None:
    ada = bus.open("tea", "Ada")
    bus.replies(ada)
    ada.send(type="ping")
    assert kinds(bus.frames(ada)) == ["pong"]


def test_pages_that_vanished_leave_the_list_with_the_next_ping(
    bus: Bus, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1_000_000.0]
    moved = Store(tmp_path / "state", clock=lambda: now[0])
    monkeypatch.setattr(consumers, "store", moved)
    ada, _ghost = bus.open("tea", "Ada"), bus.open("tea", "Ghost")
    now[0] += SILENCE + 1
    store.touch(ada.channel)
    bus.replies(ada)
    ada.send(type="ping")
    people = [frame for frame in bus.frames(ada) if frame["type"] == "people"]
    assert [frame["people"]["names"] for frame in people] == [["Ada"]]
    moved.close()


def test_a_page_that_was_given_up_is_told_to_connect_again(bus: Bus, store: Store) -> None:
    ada = bus.open("tea", "Ada")
    store.leave(ada.channel)
    bus.replies(ada)
    ada.say("hello")
    (reply,) = bus.replies(ada)
    assert reply["close"] == 4000
    assert store.history("tea") == []


@pytest.mark.parametrize("name", ["", " ", "a" * 25, "a\nb"])
def test_a_name_that_will_not_do_is_refused_with_the_reason(bus: Bus, name: str) -> None:
    refused, close = bus.replies(bus.open("tea", name))
    assert json.loads(refused["text"])["type"] == "refused"
    assert "name" in json.loads(refused["text"])["reason"]
    assert close["close"] == 4001


def test_a_query_that_is_no_text_is_refused_with_the_reason(bus: Bus) -> None:
    page = bus.open("tea", "Ada")
    page.emit("websocket.connect", query_string=b"name=%ff\xff\n")
    assert "refused" in kinds(bus.frames(page))


def test_a_full_room_is_refused_with_the_reason(bus: Bus, store: Store) -> None:
    for number in range(MAX_SOCKETS):
        store.join("tea", str(number), "Ada")
    (frame,) = bus.frames(bus.open("tea", "Bob"))
    assert frame["type"] == "refused"
    assert "full" in frame["reason"]


BAD_FRAMES = {
    "no JSON": {"text": "hello"},
    "half of an object": {"text": '{"type": "say"'},
    "no object": {"text": "[]"},
    "no type": {"text": "{}"},
    "an unknown type": {"text": '{"type": "shout"}'},
    "no text": {"text": '{"type": "say", "ref": "1"}'},
    "a number for text": {"text": '{"type": "say", "text": 1, "ref": "1"}'},
    "empty text": {"text": '{"type": "say", "text": "", "ref": "1"}'},
    "blank text": {"text": '{"type": "say", "text": " \\n ", "ref": "1"}'},
    "long text": {"text": json.dumps({"type": "say", "text": "x" * 1001, "ref": "1"})},
    "a long ref": {"text": json.dumps({"type": "say", "text": "x", "ref": "1" * 41})},
    "deep nesting": {"text": '{"type": "say", "more": ' + "[" * 100_000},
    "half a character": {"text": '{"type": "say", "text": "\\ud800", "ref": "1"}'},
    "a binary frame": {"bytes": b"\x00"},
}


@pytest.mark.parametrize("frame", BAD_FRAMES.values(), ids=BAD_FRAMES.keys())
def test_bad_frames_are_answered_with_an_error(
    bus: Bus, store: Store, frame: dict[str, Any]
) -> None:
    ada = bus.open("tea", "Ada")
    bus.replies(ada)
    ada.emit("websocket.receive", **frame)
    (answer,) = bus.frames(ada)
    assert answer["type"] == "error"
    assert answer["error"].startswith("That was not understood: ")
    assert store.history("tea") == []


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(min_size=1, max_size=1000))
@example("\x00")
@example("👩‍💻" * 300)
@example("</script><img src=x onerror=alert(1)>")
def test_text_of_any_kind_arrives_as_it_was_said(bus: Bus, text: str) -> None:
    ada = bus.open("tea", "Ada")
    bus.replies(ada)
    ada.say(text, text[:10])
    (frame,) = bus.frames(ada)
    if text.strip():
        assert frame["said"]["text"] == text.strip()
    else:
        assert frame["type"] == "error"
    ada.leave()


def test_a_room_with_an_impossible_name_has_no_consumer(bus: Bus) -> None:
    for path in ("/ws/room/Tea/", "/ws/room/a b/", f"/ws/room/{'a' * 33}/", "/ws/room/tea/x"):
        message = Message({"path": path}, "websocket.connect", bus.layer)
        assert ROUTER.match(message) is None


@pytest.fixture
def get(bus: Bus) -> Callable[..., dict[str, Any]]:
    """Ask for a page; returns the reply, its headers as a dict."""

    def get(path: str, method: str = "GET", **headers: str) -> dict[str, Any]:
        channel = "web.reply.page!1"
        pairs = [
            [name.replace("_", "-").encode(), value.encode()] for name, value in headers.items()
        ]
        content = {"reply_channel": channel, "method": method, "path": path, "headers": pairs}
        message = Message(content, "http.request", bus.layer)
        found = ROUTER.match(message)
        assert found is not None
        found[0](message, **found[1])
        _, reply = bus.layer.receive(["web.reply.page!"])
        assert reply is not None
        reply["headers"] = {name.decode(): value.decode() for name, value in reply["headers"]}
        return reply

    return get


Get = Callable[..., dict[str, Any]]

PAGES = {
    "/": "text/html; charset=utf-8",
    "/room/tea/": "text/html; charset=utf-8",
    "/room/tea": "text/html; charset=utf-8",
    "/static/chat.css": "text/css; charset=utf-8",
    "/static/room.js": "text/javascript; charset=utf-8",
    "/static/icon.svg": "image/svg+xml",
}


@pytest.mark.parametrize(("path", "kind"), PAGES.items())
def test_pages_and_files_are_served(get: Get, path: str, kind: str) -> None:
    reply = get(path)
    assert reply["status"] == 200
    assert reply["headers"]["content-type"] == kind
    assert int(reply["headers"]["content-length"]) == len(reply["content"]) > 0
    assert reply["headers"]["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", [*PAGES, "/missing"])
def test_a_head_request_gets_the_headers_alone(get: Get, path: str) -> None:
    asked, had = get(path, "HEAD"), get(path)
    assert asked["content"] == b""
    assert (asked["status"], asked["headers"]) == (had["status"], had["headers"])


def test_a_page_that_did_not_change_is_not_sent_again(get: Get) -> None:
    tag = get("/")["headers"]["etag"]
    again = get("/", if_none_match=tag)
    assert again["status"] == 304
    assert again["content"] == b""
    assert again["headers"]["etag"] == tag
    assert get("/", if_none_match='"other"')["status"] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/favicon.ico",
        "/room/",
        "/room/Tea/",
        "/static/",
        "/static/none.js",
        "/static/../store.py",
        "/static/..",
        "/static/chat.css/",
    ],
)
def test_other_paths_are_not_found(get: Get, path: str) -> None:
    reply = get(path)
    assert reply["status"] == 404
    assert b"Back to the rooms" in reply["content"]


@pytest.mark.parametrize("path", ["/", "/static/chat.css", "/missing"])
def test_pages_cannot_be_written(get: Get, path: str) -> None:
    reply = get(path, "POST")
    assert reply["status"] == 405
    assert reply["headers"]["allow"] == "GET, HEAD"


def test_pages_allow_nothing_from_elsewhere_and_nothing_inline(get: Get) -> None:
    for path in ("/", "/room/tea/", "/missing"):
        reply = get(path)
        policy = reply["headers"]["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert b"style=" not in reply["content"]
        assert b"<script>" not in reply["content"]
        assert b"://" not in reply["content"]
