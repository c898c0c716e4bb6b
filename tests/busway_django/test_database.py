"""Database connections around consumers, and sends around transactions."""

import asyncio
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.cache import cache
from django.core.cache.backends.locmem import LocMemCache
from django.core.signals import request_finished
from django.db import close_old_connections, connection, connections, transaction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import get_urlconf, path
from pytest_django import DjangoDbBlocker
from pytest_django.fixtures import Settings

from busway.app.message import Message
from busway.app.routing import route
from busway.bus.layer import ChannelLayer
from busway.django.database import begin, end, tending_connections
from busway.django.handler import AsyncAsgiHandler
from busway_django.harness import Browser, working
from busway_django.project.models import Note

found: dict[str, Any] = {}
"""What consumers saw, by the reply channel of the message."""


def use(message: Message) -> None:
    """Use the database, and answer which connection that was."""
    was = connection.connection
    Note.objects.create(text="used")
    found[message["reply_channel"]] = (connection.connection, was)
    message.reply_channel.send({"queries": Note.objects.count()})


async def ause(message: Message) -> None:
    """Use the database from async code."""
    await Note.objects.acreate(text="used")
    await message.reply_channel.asend({"queries": await Note.objects.acount()})


async def ask(message: Message) -> None:
    """Answer whether the thread that async code uses has an open connection."""
    from asgiref.sync import sync_to_async

    await asyncio.sleep(0)
    is_open = await sync_to_async(lambda: connection.connection is not None)()
    await message.reply_channel.asend({"open": is_open})


def call(layer: ChannelLayer, browser: Browser, channel: str, **content: Any) -> dict[str, Any]:
    """Have a message consumed, and return the answer."""
    layer.send(channel, {"reply_channel": browser.reply_channel, **content})
    answer = browser.receive()
    assert answer is not None
    return answer


@pytest.mark.usefixtures("file_database")
def test_a_connection_is_closed_after_each_consumer(layer: ChannelLayer, browser: Browser) -> None:
    with working(layer, [route("use", use)]):
        assert call(layer, browser, "use") == {"queries": 1}
        first, _ = found.pop(browser.reply_channel)
        assert call(layer, browser, "use") == {"queries": 2}
        second, before = found.pop(browser.reply_channel)
    assert before is None
    assert first is not second


@pytest.mark.usefixtures("file_database")
def test_a_connection_with_an_age_is_kept(
    layer: ChannelLayer, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 60)
    with working(layer, [route("use", use)]):
        call(layer, browser, "use")
        first, _ = found.pop(browser.reply_channel)
        call(layer, browser, "use")
        second, before = found.pop(browser.reply_channel)
    assert first is second is before
    first.close()


@pytest.mark.usefixtures("file_database")
def test_the_connections_of_async_consumers_are_closed_too(
    layer: ChannelLayer, browser: Browser
) -> None:
    with working(layer, [route("use", ause), route("ask", ask)]):
        assert call(layer, browser, "use") == {"queries": 1}
        answer = call(layer, browser, "ask")
        # The thread's work is done in order: the closing came before the question.
        assert answer == {"open": False}


def test_a_thread_without_connections_is_not_bothered() -> None:
    seen: list[Any] = []

    def look() -> None:
        end()
        seen.extend(connections.all(initialized_only=True))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == []


def keep(request: HttpRequest) -> HttpResponse:
    """Use the database, and answer with what was there before."""
    del request
    before = f"{connection.connection is not None} {len(connection.queries)}"
    return HttpResponse(f"{before} {Note.objects.count()}")


def let_go(request: HttpRequest) -> HttpResponse:
    """Close what the test's thread has kept open: its database is to be removed."""
    del request
    connections.close_all()
    return HttpResponse()


GetResponse = Callable[[HttpRequest], HttpResponseBase]


def elsewhere(get_response: GetResponse) -> GetResponse:
    """Middleware that has other URLs than the project's for some requests."""

    def respond(request: HttpRequest) -> HttpResponseBase:
        if request.path == "/admin/login/":
            request.urlconf = "busway_django.project.urls"
        return get_response(request)

    return respond


def use_cache(request: HttpRequest) -> HttpResponse:
    """Use the cache."""
    del request
    cache.set("key", "value")
    return HttpResponse()


urlpatterns = [
    path("keep", keep),
    path("let-go", let_go),
    path("cache", use_cache),
]


@pytest.mark.usefixtures("file_database")
@pytest.mark.parametrize(("age", "before"), [(0, False), (60, True)])
def test_connections_are_looked_after_around_views(
    layer: ChannelLayer,
    browser: Browser,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    age: int,
    before: bool,
) -> None:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = []
    settings.DEBUG = True  # queries are noted
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", age)
    with tending_connections(), working(layer):
        assert not _djangos_are_there()
        for was_open in (False, before):
            browser.send("/keep")
            assert browser.response().text == f"{was_open} 0 0"
        browser.send("/let-go")
        assert browser.response().status == 200
    assert _djangos_are_there()


def tell_urls(message: Message) -> None:
    """Answer which URLs are in use."""
    message.reply_channel.send({"urls": get_urlconf()})


def test_what_a_view_does_to_the_urls_is_not_seen_by_consumers(
    layer: ChannelLayer, browser: Browser, settings: Settings
) -> None:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = [f"{__name__}.elsewhere"]
    with tending_connections(), working(layer, [route("tell", tell_urls)]):
        browser.send("/admin/login/")
        assert browser.response().status != 404
        assert call(layer, browser, "tell") == {"urls": None}


class ClosingCache(LocMemCache):
    """A cache that has to be closed."""

    closed = 0

    def close(self, **_: Any) -> None:
        """Count it."""
        ClosingCache.closed += 1


def test_a_cache_that_means_to_be_closed_after_requests_is_closed(
    layer: ChannelLayer, browser: Browser, settings: Settings
) -> None:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = []
    settings.CACHES = {"default": {"BACKEND": f"{__name__}.ClosingCache"}}
    with tending_connections(), working(layer):
        browser.send("/cache")
        assert browser.response().status == 200
    assert ClosingCache.closed == 1


def make_cache(location: str, params: dict[str, Any]) -> LocMemCache:
    """Make a cache: Django takes any callable for a backend."""
    return ClosingCache(location, params)


def test_a_cache_that_a_function_makes_is_closed_too(settings: Settings) -> None:
    settings.CACHES = {"default": {"BACKEND": f"{__name__}.make_cache"}}
    cache.set("key", "value")
    before = ClosingCache.closed
    with tending_connections():
        request_finished.send(None)
    assert ClosingCache.closed == before + 1


def _djangos_are_there() -> bool:
    receivers = (receiver for _, receiver, *_ in request_finished.receivers)
    found = [each() if isinstance(each, weakref.ReferenceType) else each for each in receivers]
    return close_old_connections in found


@pytest.mark.usefixtures("file_database")
def test_a_copy_of_a_connection_is_left_to_who_made_it() -> None:
    still_open: list[bool] = []

    def use() -> None:
        begin()
        private = connection.copy()
        private.ensure_connection()
        end()
        still_open.append(private.connection is not None)
        private.close()
        connections.close_all()

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert still_open == [True]


@pytest.mark.usefixtures("file_database")
def test_a_connection_of_the_loops_thread_is_no_obstacle_to_an_async_view(
    layer: ChannelLayer, browser: Browser, settings: Settings
) -> None:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = []
    content: dict[str, Any] = {
        "reply_channel": browser.reply_channel,
        "method": "GET",
        "path": "/keep",
    }
    content |= {"headers": [[b"host", b"testserver"]], "query_string": b""}
    message = Message(content, "http.request", layer)

    def serve() -> None:
        connection.ensure_connection()
        with tending_connections():
            asyncio.run(AsyncAsgiHandler().handle(message))
        connections.close_all()

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join()
    assert browser.response().text == "False 0 0"


def committing(message: Message) -> None:
    """Send before, in, on the commit of, and after a transaction."""
    reply = message.reply_channel
    with transaction.atomic():
        reply.send({"text": "in"})
        transaction.on_commit(lambda: reply.send({"text": "on commit"}))
        Note.objects.create(text="kept")
        reply.send({"text": "still in"})
    reply.send({"text": "after"})
    if message.get("fails"):
        reply.send({"text": "failing"}, immediately=True)
        raise RuntimeError("on purpose")


def rolling_back(message: Message) -> None:
    """Send on a commit that does not come."""
    with transaction.atomic():
        transaction.on_commit(lambda: message.reply_channel.send({"text": "on commit"}))
        transaction.set_rollback(True)
    message.reply_channel.send({"text": "rolled back"})


@pytest.mark.usefixtures("file_database")
def test_sends_around_a_transaction_keep_their_order(layer: ChannelLayer, browser: Browser) -> None:
    with working(layer, [route("commit", committing), route("back", rolling_back)]):
        texts = [call(layer, browser, "commit")["text"]]
        texts += [(browser.receive() or {})["text"] for _ in range(3)]
        assert texts == ["in", "still in", "on commit", "after"]
        assert call(layer, browser, "back") == {"text": "rolled back"}
        assert call(layer, browser, "commit", fails=True) == {"text": "failing"}
        assert browser.receive(0.05) is None


POSTGRESQL = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": "postgres",
    "USER": "postgres",
    "HOST": "127.0.0.1",
    "PORT": "5432",
}


@pytest.fixture
def postgresql(
    django_db_blocker: DjangoDbBlocker, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """Let other threads use a PostgreSQL server; return a connection to it to look from."""
    psycopg = pytest.importorskip("psycopg")
    try:
        own = psycopg.connect(
            "host=127.0.0.1 port=5432 user=postgres dbname=postgres connect_timeout=2",
            autocommit=True,
        )
    except psycopg.OperationalError as error:
        pytest.skip(f"there is no PostgreSQL server: {error}")
    given = connections.settings["default"] | POSTGRESQL
    monkeypatch.setitem(connections.settings, "default", given)
    with own, django_db_blocker.unblock():
        yield own


def backend(message: Message) -> None:
    """Answer which server process the connection has."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        row = cursor.fetchone()
    message.reply_channel.send({"pid": row[0] if row else 0})


@pytest.mark.parametrize("checks", [True, False])
def test_after_a_dropped_connection_the_next_message_reconnects(
    postgresql: Any,
    layer: ChannelLayer,
    browser: Browser,
    monkeypatch: pytest.MonkeyPatch,
    checks: bool,
) -> None:
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", None)
    monkeypatch.setitem(connections.settings["default"], "CONN_HEALTH_CHECKS", checks)

    def closing(message: Message) -> None:
        connections.close_all()
        message.reply_channel.send({})

    routes = [route("backend", backend), route("close", closing)]
    with working(layer, routes) as worker:
        first = call(layer, browser, "backend")["pid"]
        assert call(layer, browser, "backend")["pid"] == first
        postgresql.execute("SELECT pg_terminate_backend(%s, 10000)", [first])
        if not checks:
            # Nobody knows yet: this message fails, which is noticed.
            layer.send("backend", {"reply_channel": browser.reply_channel})
        second = call(layer, browser, "backend")["pid"]
        assert second != first
        call(layer, browser, "close")
    assert worker.statistics().failed == (0 if checks else 1)
