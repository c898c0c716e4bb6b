"""Sessions of sockets and of browsers, in consumers."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from busway.app import BaseConsumer, ConsumeLater, DenyConnection, Message, route, route_class
from busway.app.exceptions import NoReplyChannel
from busway.bus.errors import ConfigurationError, UsageError
from busway.django import session_stores
from busway.django.sessions import (
    channel_and_http_session,
    channel_session,
    enforce_ordering,
    http_session,
    session_for_reply_channel,
)
from busway_django.sockets import Socket

pytestmark = pytest.mark.django_db

ENGINES = {
    "db": "django.contrib.sessions.backends.db",
    "cache": "django.contrib.sessions.backends.cache",
    "cached_db": "django.contrib.sessions.backends.cached_db",
    "file": "django.contrib.sessions.backends.file",
    "bus": "busway.django.session_backends.bus",
}


@pytest.fixture(autouse=True)
def stores(settings: Any, tmp_path: Path) -> Iterator[None]:
    """Let the file backend, which keeps its directory, use one of this test's own."""
    settings.SESSION_FILE_PATH = str(tmp_path)
    session_stores._store.cache_clear()
    yield
    session_stores._store.cache_clear()


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, settings: Any) -> str:
    """Keep channel sessions in each backend."""
    path: str = ENGINES[request.param]
    settings.CHANNEL_SESSION_ENGINE = path
    return path


@channel_session
def name_it(message: Message) -> None:
    message.channel_session["name"] = "Ada"


@channel_session
def say_it(message: Message) -> None:
    message.reply_channel.send({"text": message.channel_session.get("name", "nobody")})


@channel_session
async def aname_it(message: Message) -> None:
    message.channel_session["name"] = "Ada"


@channel_session
async def asay_it(message: Message) -> None:
    message.reply_channel.send({"text": message.channel_session.get("name", "nobody")})


class Methods(BaseConsumer):
    method_mapping = {  # noqa: RUF012
        "websocket.connect": "connect",
        "websocket.receive": "receive",
        "websocket.disconnect": "disconnect",
    }

    @channel_session
    def connect(self, message: Message) -> None:
        message.channel_session["name"] = "Ada"

    @channel_session
    def receive(self, message: Message) -> None:
        message.reply_channel.send({"text": message.channel_session.get("name", "nobody")})

    @channel_session
    def disconnect(self, message: Message) -> None:
        message.reply_channel.send({"text": message.channel_session.get("name", "nobody")})


ROUTINGS: dict[str, Any] = {
    "sync": [
        route("websocket.connect", name_it),
        route("websocket.receive", say_it),
        route("websocket.disconnect", say_it),
    ],
    "async": [
        route("websocket.connect", aname_it),
        route("websocket.receive", asay_it),
        route("websocket.disconnect", asay_it),
    ],
    "methods": [route_class(Methods)],
}


class TestChannelSession:
    @pytest.mark.parametrize("kind", ROUTINGS)
    def test_what_is_put_there_at_connect_is_there_for_every_frame(
        self, engine: str, kind: str
    ) -> None:
        one, other = Socket(ROUTINGS[kind]), Socket(ROUTINGS[kind])
        one.connect()
        assert one.receive() == [{"text": "Ada"}]
        assert one.receive() == [{"text": "Ada"}]
        assert other.receive() == [{"text": "nobody"}]
        assert one.disconnect() == [{"text": "Ada"}]
        assert not one.counts.failed + other.counts.failed

    @pytest.mark.parametrize("kind", ROUTINGS)
    def test_it_is_deleted_when_the_socket_has_closed(self, engine: str, kind: str) -> None:
        socket = Socket(ROUTINGS[kind])
        socket.connect()
        socket.disconnect()
        assert socket.receive() == [{"text": "nobody"}]
        assert not Session.objects.exists()

    def test_its_key_fits_every_backend_and_is_no_secret_of_the_channel(self) -> None:
        key = session_for_reply_channel("web.x!1").session_key
        assert key is not None
        assert len(key) == 40
        assert key.isalnum()
        assert key == key.lower()
        assert key != session_for_reply_channel("web.x!2").session_key

    def test_its_key_depends_on_the_secret_of_the_project(self, settings: Any) -> None:
        key = session_for_reply_channel("web.x!1").session_key
        settings.SECRET_KEY = "another"  # noqa: S105
        assert session_for_reply_channel("web.x!1").session_key != key

    def test_it_is_stored_only_when_it_was_modified(self) -> None:
        socket = Socket(ROUTINGS["sync"])
        socket.receive()
        assert not Session.objects.exists()

    def test_a_consumer_that_does_not_use_it_causes_no_query(self) -> None:
        @channel_session
        def ignore(message: Message) -> None:
            pass

        with CaptureQueriesContext(
            connection,
        ) as queries:
            Socket([route("websocket.receive", ignore)]).receive()
        assert len(queries) == 0

    def test_a_message_costs_one_load_and_a_save_only_if_it_changes_something(self) -> None:
        socket = Socket(ROUTINGS["sync"])
        socket.connect()
        with CaptureQueriesContext(connection) as queries:
            socket.receive()
        assert len(queries) == 1

        @channel_session
        def count(message: Message) -> None:
            message.channel_session["count"] = message.channel_session.get("count", 0) + 1

        counting = Socket([route("websocket.receive", count)])
        counting.receive()
        with CaptureQueriesContext(connection) as queries:
            counting.receive()
        kinds = [query["sql"].split()[0] for query in queries]
        assert [kind for kind in kinds if kind in ("SELECT", "INSERT", "UPDATE")] == [
            "SELECT",
            "UPDATE",
        ]

    def test_decorated_twice_it_is_loaded_once(self) -> None:
        socket = Socket([route("websocket.receive", channel_session(say_it))])
        with CaptureQueriesContext(connection) as queries:
            socket.receive()
        assert len(queries) == 1

    def test_what_a_failing_consumer_changed_is_not_stored(self) -> None:
        @channel_session
        def fail(message: Message) -> None:
            message.channel_session["name"] = "Ada"
            raise ValueError

        socket = Socket([route("websocket.receive", fail)])
        socket.receive()
        assert socket.counts.failed == 1
        assert not Session.objects.exists()

    @pytest.mark.parametrize("is_async", [False, True])
    def test_it_is_deleted_although_the_consumer_of_the_disconnect_fails(
        self, engine: str, is_async: bool
    ) -> None:
        @channel_session
        def fail(message: Message) -> None:
            raise ValueError

        @channel_session
        async def afail(message: Message) -> None:
            raise ValueError

        socket = Socket(
            [
                route("websocket.connect", name_it),
                route("websocket.receive", say_it),
                route("websocket.disconnect", afail if is_async else fail),
            ]
        )
        socket.connect()
        socket.disconnect()
        assert socket.counts.failed == 1
        assert socket.receive() == [{"text": "nobody"}]

    def test_it_is_deleted_although_the_http_session_cannot_be_saved(self, settings: Any) -> None:
        settings.CHANNEL_SESSION_ENGINE = ENGINES["db"]
        settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"

        @channel_and_http_session
        def change(message: Message) -> None:
            message.http_session["name"] = "Ada"

        routing = [route("websocket.connect", name_it), route("websocket.disconnect", change)]
        socket = Socket(routing)
        socket.connect()
        socket.disconnect()
        assert socket.counts.failed == 1
        assert not Session.objects.exists()

    def test_a_disconnect_that_is_tried_again_still_has_it(self) -> None:
        @channel_session
        def later(message: Message) -> None:
            raise ConsumeLater

        routing = [route("websocket.connect", name_it), route("websocket.disconnect", later)]
        socket = Socket([*routing, route("websocket.receive", say_it)])
        socket.connect()
        socket.disconnect()
        assert socket.receive() == [{"text": "Ada"}]

    @pytest.mark.parametrize("ending", [DenyConnection, ConsumeLater])
    def test_a_socket_that_is_refused_or_tried_again_leaves_none(
        self, ending: type[Exception]
    ) -> None:
        @channel_session
        def connect(message: Message) -> None:
            message.channel_session["name"] = "Ada"
            raise ending

        Socket([route("websocket.connect", connect)]).connect()
        assert not Session.objects.exists()

    @pytest.mark.parametrize("answer", [{"accept": False}, {"close": True}])
    def test_a_socket_that_is_refused_by_a_message_leaves_none(self, answer: Any) -> None:
        @channel_session
        def connect(message: Message) -> None:
            message.channel_session["name"] = "Ada"
            message.reply_channel.send(answer)

        Socket([route("websocket.connect", connect)]).connect()
        assert not Session.objects.exists()

    def test_it_is_not_brought_back_when_it_was_deleted_meanwhile(self, engine: str) -> None:
        socket: Socket

        @channel_session
        def slow(message: Message) -> None:
            message.channel_session["name"]
            session_for_reply_channel(socket.reply_channel).delete()
            message.channel_session["name"] = "Bob"

        socket = Socket(
            [
                route("websocket.connect", name_it),
                route("websocket.receive", slow),
                route("look", say_it),
            ]
        )
        socket.connect()
        socket.receive()
        assert socket.counts.failed == 0
        assert socket.consume("look") == [{"text": "nobody"}]

    def test_two_who_begin_it_at_once_do_not_fail(self, engine: str) -> None:
        first, second = (session_for_reply_channel("web.twice!1") for _ in range(2))
        for session in (first, second):
            assert session.get("name") is None
        first["name"], second["name"] = "Ada", "Bob"
        session_stores.save(first)
        session_stores.save(second)
        assert session_for_reply_channel("web.twice!1")["name"] == "Bob"
        second.delete()

    def test_saving_it_oneself_keeps_its_key(self, engine: str) -> None:
        session = session_for_reply_channel("web.own!1")
        session["name"] = "Ada"
        session.save()
        session.cycle_key()
        session.save()
        assert session_for_reply_channel("web.own!1")["name"] == "Ada"
        session.flush()
        session["name"] = "Bob"
        session.save()
        assert dict(session_for_reply_channel("web.own!1").items()) == {"name": "Bob"}
        session.delete()

    def test_what_nobody_deleted_goes_with_clearsessions(self) -> None:
        Socket(ROUTINGS["sync"]).connect()
        Session.objects.update(expire_date=timezone.now())
        call_command("clearsessions")
        assert not Session.objects.exists()

    def test_cookies_cannot_keep_it(self, settings: Any) -> None:
        settings.CHANNEL_SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
        with pytest.raises(ConfigurationError, match="set CHANNEL_SESSION_ENGINE to"):
            session_for_reply_channel("web.x!1")

    def test_a_message_that_nobody_can_answer_has_none(self) -> None:
        with pytest.raises(NoReplyChannel):
            say_it(Message({}, "jobs"))

    def test_without_the_decorator_the_error_says_what_is_missing(self) -> None:
        with pytest.raises(AttributeError, match="decorate the consumer with @channel_session"):
            _ = Message({}, "jobs").channel_session

    def test_a_class_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="decorate the methods"):
            channel_session(Methods)

    def test_other_decorators_keep_their_effect(self) -> None:
        ordered = channel_session(enforce_ordering(say_it))
        assert vars(ordered)["enforces_ordering"]


def browser_session(**content: Any) -> SessionBase:
    """Return a stored session of a browser."""
    session = SessionStore()
    session.update(content)
    session.save()
    return session


def cookie(session: SessionBase) -> dict[str, str]:
    """Return the cookie of a browser's session."""
    assert session.session_key
    return {"sessionid": session.session_key}


@http_session
def tell(message: Message) -> None:
    message.reply_channel.send({"text": message.http_session.get("name", "nobody")})


@http_session
async def atell(message: Message) -> None:
    message.reply_channel.send({"text": message.http_session.get("name", "nobody")})


tellers = pytest.mark.parametrize("consumer", [tell, atell])


class TestHTTPSession:
    @tellers
    def test_it_is_that_of_the_cookie(self, consumer: Callable[..., Any]) -> None:
        cookies = {"other": "1", **cookie(browser_session(name="Ada"))}
        routing = [route("websocket.connect", consumer), route("http.request", consumer)]
        assert Socket(routing, cookies=cookies).connect() == [{"text": "Ada"}]
        assert Socket(routing, cookies=cookies).request() == [{"text": "Ada"}]

    @tellers
    @pytest.mark.parametrize("engine", ["db", "cache", "cached_db", "file", "bus"])
    @pytest.mark.parametrize(
        "key",
        ["", "none, but long", "x" * 40, "../../etc/passwd", "a\0bcdefgh", "é" * 9],
    )
    def test_without_a_good_cookie_it_is_empty(
        self, consumer: Callable[..., Any], engine: str, key: str, settings: Any, tmp_path: Path
    ) -> None:
        settings.SESSION_ENGINE = ENGINES[engine]
        socket = Socket([route("websocket.connect", consumer)], cookies={"sessionid": key})
        assert socket.connect() == [{"text": "nobody"}]
        assert not Session.objects.exists()
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("engine", ["db", "cached_db", "file", "bus"])
    def test_an_expired_one_is_empty_and_stays_away(
        self, engine: str, settings: Any, tmp_path: Path
    ) -> None:
        settings.SESSION_ENGINE = ENGINES[engine]
        session = session_stores.http_session_for(None)
        session["name"] = "Ada"
        session.set_expiry(timezone.now() - timedelta(days=1))
        session.save()
        socket = Socket([route("websocket.connect", tell)], cookies=cookie(session))
        assert socket.connect() == [{"text": "nobody"}]
        assert not list(tmp_path.iterdir())

    def test_a_tampered_one_is_empty(self) -> None:
        session = browser_session(name="Ada")
        Session.objects.update(session_data="nonsense")
        socket = Socket([route("websocket.connect", tell)], cookies=cookie(session))
        assert socket.connect() == [{"text": "nobody"}]

    @pytest.mark.parametrize("is_async", [False, True])
    def test_an_empty_one_can_be_used(self, is_async: bool) -> None:
        @http_session
        def write(message: Message) -> None:
            message.http_session["name"] = "Ada"

        @http_session
        async def awrite(message: Message) -> None:
            message.http_session["name"] = "Ada"

        Socket([route("websocket.connect", awrite if is_async else write)]).connect()
        assert Session.objects.get().get_decoded() == {"name": "Ada"}

    def test_a_session_in_a_cookie_can_be_read_and_not_changed(self, settings: Any) -> None:
        settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
        session = session_stores.http_session_for(None)
        session["name"] = "Ada"
        session.save()
        socket = Socket([route("websocket.connect", tell)], cookies=cookie(session))
        assert socket.connect() == [{"text": "Ada"}]

        @http_session
        def write(message: Message) -> None:
            message.http_session["name"] = "Bob"

        message = Message({"headers": [], "reply_channel": "web.x!1"}, "websocket.connect")
        with pytest.raises(ConfigurationError, match="signed_cookies"):
            write(message)

    def test_a_frame_has_none(self) -> None:
        with pytest.raises(UsageError, match="channel_and_http_session"):
            tell(Message({"reply_channel": "web.x!1"}, "websocket.receive"))

    def test_a_key_in_the_url_counts_only_if_the_project_says_so(self, settings: Any) -> None:
        key = browser_session(name="Ada").session_key
        socket = Socket([route("websocket.connect", tell)], query=f"session_key={key}")
        assert socket.connect() == [{"text": "nobody"}]
        settings.CHANNEL_SESSION_KEY_PARAMETER = "session_key"
        assert socket.connect() == [{"text": "Ada"}]

    def test_the_cookie_counts_before_the_key_in_the_url(self, settings: Any) -> None:
        settings.CHANNEL_SESSION_KEY_PARAMETER = "session_key"
        socket = Socket(
            [route("websocket.connect", tell)],
            query=f"session_key={browser_session(name='Eve').session_key}",
            cookies=cookie(browser_session(name="Ada")),
        )
        assert socket.connect() == [{"text": "Ada"}]

    def test_it_is_saved_with_every_message_if_the_project_says_so(self, settings: Any) -> None:
        session = browser_session(name="Ada")
        Session.objects.update(expire_date=timezone.now() + timedelta(hours=1))
        before = Session.objects.get().expire_date
        settings.SESSION_SAVE_EVERY_REQUEST = True
        Socket([route("websocket.connect", tell)], cookies=cookie(session)).connect()
        assert Session.objects.get().expire_date > before


class TestBothSessions:
    @pytest.mark.parametrize("is_async", [False, True])
    def test_frames_have_the_browsers_session(self, is_async: bool) -> None:
        @channel_and_http_session
        def consume(message: Message) -> None:
            message.reply_channel.send({"text": message.http_session.get("name", "nobody")})

        @channel_and_http_session
        async def aconsume(message: Message) -> None:
            message.reply_channel.send({"text": message.http_session.get("name", "nobody")})

        consumer = aconsume if is_async else consume
        channels = ("websocket.connect", "websocket.receive", "websocket.disconnect")
        routing = [route(channel, consumer) for channel in channels]
        session = browser_session(name="Ada")
        socket = Socket(routing, cookies=cookie(session))
        assert socket.connect() == [{"text": "Ada"}]
        assert socket.receive() == [{"text": "Ada"}]
        session["name"] = "Bob"
        session.save()
        assert socket.receive() == [{"text": "Bob"}]
        session.delete()
        assert socket.receive() == [{"text": "nobody"}]
        assert socket.disconnect() == [{"text": "nobody"}]
        assert not Session.objects.exists()
        assert not socket.counts.failed

    def test_a_browsers_session_that_begins_at_connect_is_found_again(self) -> None:
        @channel_and_http_session
        def connect(message: Message) -> None:
            message.http_session["name"] = "Ada"

        @channel_and_http_session
        def receive(message: Message) -> None:
            message.reply_channel.send({"text": message.http_session["name"]})

        socket = Socket([route("websocket.connect", connect), route("websocket.receive", receive)])
        socket.connect()
        assert socket.receive() == [{"text": "Ada"}]

    def test_a_request_leaves_no_channel_session(self) -> None:
        @channel_and_http_session
        def answer(message: Message) -> None:
            message.reply_channel.send({"text": message.http_session["name"]})

        session = browser_session(name="Ada")
        socket = Socket([route("http.request", answer)], cookies=cookie(session))
        assert socket.request() == [{"text": "Ada"}]
        assert Session.objects.count() == 1


def test_clearsessions_clears_channel_sessions_of_a_backend_of_their_own(settings: Any) -> None:
    settings.SESSION_ENGINE = ENGINES["cache"]
    settings.CHANNEL_SESSION_ENGINE = ENGINES["db"]
    Socket(ROUTINGS["sync"]).connect()
    Session.objects.update(expire_date=timezone.now())
    call_command("clearsessions")
    assert not Session.objects.exists()


def test_clearsessions_says_which_backend_cannot(settings: Any) -> None:
    settings.CHANNEL_SESSION_ENGINE = "busway_django.unclearable"
    with pytest.raises(CommandError, match=r"unclearable' cannot clear"):
        call_command("clearsessions")
