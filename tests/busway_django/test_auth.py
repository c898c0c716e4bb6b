"""Users of messages, logging in and out from consumers."""

from typing import Any

import pytest
from django.contrib.auth import SESSION_KEY, get_user
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.db import connection
from django.http import HttpRequest
from django.test.utils import CaptureQueriesContext

from busway.app import Message, route
from busway.bus.errors import UsageError
from busway.django import auth
from busway.django.sessions import channel_session, http_session
from busway_django.browsers import logged_in, make_user, routing_of
from busway_django.sockets import Socket

pytestmark = pytest.mark.django_db

NOBODY = [{"text": ""}]
ADA = [{"text": "ada"}]


def tell(message: Message) -> None:
    message.reply_channel.send({"text": message.user.username})


async def atell(message: Message) -> None:
    user = await message.auser()
    assert message.user == user
    await message.reply_channel.asend({"text": user.username})


kinds = pytest.mark.parametrize("consumer", [tell, atell])


@kinds
class TestWhoItIs:
    def test_requests_and_handshakes_have_the_user_of_the_browser(self, consumer: Any) -> None:
        _, cookies = logged_in(make_user())
        routing = routing_of(auth.http_session_user(consumer))
        assert Socket(routing, cookies=cookies).connect() == ADA
        assert Socket(routing, cookies=cookies).request() == ADA
        assert Socket(routing).connect() == NOBODY

    def test_a_socket_keeps_the_user_it_began_with(self, consumer: Any) -> None:
        browser, cookies = logged_in(make_user())
        routing = [
            route("websocket.connect", auth.channel_session_user_from_http(consumer)),
            route("websocket.receive", auth.channel_session_user(consumer)),
            route("websocket.disconnect", auth.channel_session_user(consumer)),
        ]
        socket = Socket(routing, cookies=cookies)
        assert socket.connect() == ADA
        browser.logout()
        assert socket.receive() == ADA
        assert socket.receive() == ADA
        assert socket.disconnect() == ADA
        assert not Session.objects.exists()

    def test_one_decorator_may_stand_before_all_consumers(self, consumer: Any) -> None:
        _, cookies = logged_in(make_user())
        socket = Socket(routing_of(auth.channel_session_user_from_http(consumer)), cookies=cookies)
        assert [socket.connect(), socket.receive(), socket.disconnect()] == [ADA] * 3

    @pytest.mark.parametrize(
        "decorator",
        [auth.channel_and_http_session_user_from_http, auth.channel_and_http_session_user],
    )
    def test_who_logs_out_in_the_browser_is_anonymous_with_the_next_frame(
        self, consumer: Any, decorator: Any
    ) -> None:
        browser, cookies = logged_in(make_user())
        socket = Socket(routing_of(decorator(consumer)), cookies=cookies)
        assert socket.connect() == ADA
        assert socket.receive() == ADA
        browser.logout()
        assert socket.receive() == NOBODY
        assert socket.disconnect() == NOBODY
        assert not socket.counts.failed

    @pytest.mark.parametrize("change", ["deactivated", "password", "deleted"])
    @pytest.mark.parametrize(
        "decorator",
        [auth.channel_session_user_from_http, auth.channel_and_http_session_user_from_http],
    )
    def test_who_may_not_log_in_any_more_is_anonymous_with_the_next_frame(
        self, consumer: Any, decorator: Any, change: str
    ) -> None:
        user = make_user()
        _, cookies = logged_in(user)
        socket = Socket(routing_of(decorator(consumer)), cookies=cookies)
        assert socket.connect() == ADA
        if change == "deleted":
            user.delete()
        elif change == "deactivated":
            user.is_active = False
            user.save()
        else:
            user.set_password("another")
            user.save()
        assert socket.receive() == NOBODY
        assert socket.disconnect() == NOBODY
        assert not socket.counts.failed

    def test_who_is_not_logged_in_leaves_no_session(self, consumer: Any) -> None:
        socket = Socket(routing_of(auth.channel_session_user_from_http(consumer)))
        assert socket.connect() == NOBODY
        assert not Session.objects.exists()

    def test_a_new_secret_with_the_old_one_as_fallback_changes_nothing(
        self, consumer: Any, settings: Any
    ) -> None:
        _, cookies = logged_in(make_user())
        settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
        settings.SECRET_KEY = "new"  # noqa: S105
        socket = Socket(routing_of(auth.channel_session_user_from_http(consumer)), cookies=cookies)
        assert [socket.connect(), socket.receive()] == [ADA] * 2
        assert Session.objects.filter(session_key__startswith="chn").count() == 1

    @pytest.mark.parametrize(
        "decorator",
        [
            auth.http_session_user,
            auth.channel_and_http_session_user,
            auth.channel_and_http_session_user_from_http,
        ],
    )
    @pytest.mark.parametrize("engine", ["db", "signed_cookies"])
    def test_a_new_secret_leaves_the_session_of_the_browser_to_its_next_request(
        self, consumer: Any, decorator: Any, engine: str, settings: Any
    ) -> None:
        settings.CHANNEL_SESSION_ENGINE = settings.SESSION_ENGINE
        settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
        browser, cookies = logged_in(make_user())
        settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
        settings.SECRET_KEY = "new"  # noqa: S105
        socket = Socket(routing_of(decorator(consumer)), cookies=cookies)
        assert socket.connect() == ADA
        if decorator is not auth.http_session_user:
            assert [socket.receive(), socket.disconnect()] == [ADA] * 2
        assert not socket.counts.failed
        assert socket.request() == ADA
        view_request = HttpRequest()
        view_request.session = browser.session
        assert get_user(view_request).get_username() == "ada"
        assert view_request.session.modified


def test_a_user_who_is_not_used_costs_no_query() -> None:
    @auth.http_session_user
    def ignore(message: Message) -> None:
        pass

    _, cookies = logged_in(make_user())
    with CaptureQueriesContext(connection) as queries:
        Socket(routing_of(ignore), cookies=cookies).connect()
    assert len(queries) == 0


def test_without_a_decorator_the_error_says_what_is_missing() -> None:
    with pytest.raises(AttributeError, match="channel_session_user"):
        tell(Message({"reply_channel": "web.x!1"}, "jobs"))


def test_transfer_takes_the_user_and_nothing_else() -> None:
    _, cookies = logged_in(make_user())
    browser = SessionStore(cookies["sessionid"])
    browser["cart"] = 3
    other = SessionStore()
    auth.transfer_user(browser, other)
    assert other[SESSION_KEY] == browser[SESSION_KEY]
    assert "cart" not in other
    other.modified = False
    auth.transfer_user(browser, other)
    auth.transfer_user(SessionStore(), other)
    assert not other.modified
    assert SESSION_KEY in other


@pytest.fixture
def signals() -> Any:
    """Return what the signals of logging in and out say."""
    heard: list[Any] = []

    def hear(signal: Any, request: Any, user: Any, **_: Any) -> None:
        heard.append((signal, request.META["PATH_INFO"], user.username if user else None))

    user_logged_in.connect(hear)
    user_logged_out.connect(hear)
    yield heard
    user_logged_in.disconnect(hear)
    user_logged_out.disconnect(hear)


def log_in_or_out(message: Message) -> None:
    match message.get("text"):
        case "in":
            auth.login(message, User.objects.get(username="ada"))
        case "out":
            auth.logout(message)
    tell(message)


async def alog_in_or_out(message: Message) -> None:
    match message.get("text"):
        case "in":
            await auth.alogin(message, await User.objects.aget(username="ada"))
        case "out":
            await auth.alogout(message)
    await atell(message)


both_kinds = pytest.mark.parametrize("consumer", [log_in_or_out, alog_in_or_out])


@both_kinds
class TestLoggingIn:
    def test_a_socket_can_log_in_and_out(self, consumer: Any, signals: list[Any]) -> None:
        make_user()
        socket = Socket(routing_of(auth.channel_session_user(consumer)), path="/chat/")
        assert socket.connect() == NOBODY
        assert socket.receive("in") == ADA
        assert socket.receive() == ADA
        assert User.objects.get().last_login
        assert socket.receive("out") == NOBODY
        assert socket.receive() == NOBODY
        assert not Session.objects.exists()
        assert signals == [
            (user_logged_in, "/chat/", "ada"),
            (user_logged_out, "/chat/", "ada"),
        ]
        assert not socket.counts.failed

    def test_it_stores_one_session_under_the_key_of_the_channel(self, consumer: Any) -> None:
        make_user()
        socket = Socket(routing_of(auth.channel_session_user(consumer)))
        socket.receive("in")
        socket.receive("in")
        key = Session.objects.get().session_key
        assert key.startswith("chn")
        socket.disconnect()
        assert not Session.objects.exists()

    def test_a_session_of_another_user_is_not_taken_over(self, consumer: Any) -> None:
        make_user()
        _, cookies = logged_in(make_user("eve"))
        socket = Socket(routing_of(auth.channel_session_user_from_http(consumer)), cookies=cookies)
        assert socket.connect() == [{"text": "eve"}]
        assert socket.receive("in") == ADA
        assert socket.receive() == ADA

    def test_a_browsers_session_gets_a_new_key_which_the_socket_keeps(self, consumer: Any) -> None:
        make_user()
        browser = SessionStore()
        browser["cart"] = 3
        browser.save()
        assert browser.session_key
        socket = Socket(
            routing_of(auth.channel_and_http_session_user_from_http(consumer)),
            cookies={"sessionid": browser.session_key},
        )
        assert socket.connect() == NOBODY
        assert socket.receive("in") == ADA
        assert socket.receive() == ADA
        assert not Session.objects.filter(session_key=browser.session_key).exists()
        kept = Session.objects.exclude(session_key__startswith="chn").get().get_decoded()
        assert kept["cart"] == 3
        assert socket.receive("out") == NOBODY
        assert socket.receive() == NOBODY
        assert not Session.objects.exclude(session_key__startswith="chn").exists()
        assert not socket.counts.failed


def test_any_session_will_do_to_log_in() -> None:
    user = make_user()

    @channel_session
    def channel(message: Message) -> None:
        auth.login(message, user)
        tell(message)

    @http_session
    def http(message: Message) -> None:
        auth.login(message, user)
        tell(message)

    assert Socket(routing_of(channel)).receive() == ADA
    assert Socket(routing_of(http)).request() == ADA


def test_without_a_session_nobody_can_log_in() -> None:
    with pytest.raises(UsageError, match="decorate the consumer with channel_session_user"):
        auth.login(Message({}, "jobs"), make_user())


def test_after_logging_out_the_message_is_nobodys() -> None:
    user = make_user()
    found: list[Any] = []

    @auth.channel_session_user
    def consume(message: Message) -> None:
        auth.login(message, user)
        found.append(message.user)
        auth.logout(message)
        found.append(message.user)

    Socket(routing_of(consume)).receive()
    assert found == [user, AnonymousUser()]
