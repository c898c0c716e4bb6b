"""Database connections, URLs and caches: looked after around each consumer and view, as Django
does it."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import local
from typing import Any

from asgiref.sync import sync_to_async
from django.core.cache import caches, close_caches
from django.core.cache.backends.base import BaseCache
from django.core.handlers.base import reset_urlconf
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connections, reset_queries
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.dispatch import Signal
from django.http import HttpRequest
from django.urls import set_urlconf
from django.utils.module_loading import import_string


def begin() -> None:
    """Let a sync consumer, or view, find no connection that is broken or too old."""
    opened = _thread.opened
    if opened and not _kept.get():
        for connection in opened:
            connection.queries_log.clear()
            connection.close_if_unusable_or_obsolete()
        _thread.opened = [each for each in opened if each.connection is not None]


def end() -> None:
    """Close the connections that it leaves broken, or that are not to be kept."""
    opened = _thread.opened
    if opened and not _kept.get():
        for connection in opened:
            connection.close_if_unusable_or_obsolete()


def begin_request() -> None:
    """Do `begin` for a view, unless Django's own receivers do it."""
    if _requests.are_ours:
        begin()


def end_request(request: HttpRequest) -> None:
    """Do `end` for a view, unless Django's own receivers do it."""
    if _requests.are_ours:
        if hasattr(request, "urlconf"):  # otherwise those of the project are left, as without any
            set_urlconf(None)
        end()


def end_async() -> None:
    """Do `end` for an async consumer: its connections live in a thread, one hop away."""
    if not _kept.get():
        _closings.schedule(asyncio.get_running_loop())


def close_own_connections() -> None:
    """Close all connections of this thread, which has done its work."""
    if not _kept.get():
        connections.close_all()


@contextmanager
def keeping_connections() -> Iterator[None]:
    """Leave connections alone meanwhile: they are a test's, and so are the queries it counts."""
    token = _kept.set(True)
    try:
        with _without(_CONNECTIONS):
            yield
    finally:
        _kept.reset(token)


@contextmanager
def tending_connections() -> Iterator[None]:
    """Leave it to `begin` and `end` to look after connections, in a process that runs workers.

    Django's receivers do the same around requests, but each asks for the thread's connection to
    every database, for every cache, or for the URLs it uses: that takes longer than a short view.
    Whatever else in the process sends Django's signals of requests has its connections left alone.
    """
    for connection in connections.all(initialized_only=True):
        _note(connection)
    _requests.are_ours = True
    try:
        with _without([*_CONNECTIONS, *_URLCONF, *([] if _caches_close() else _CACHES)]):
            yield
    finally:
        _requests.are_ours = False


_Receivers = list[tuple[Signal, Callable[..., None]]]


@contextmanager
def _without(receivers: _Receivers) -> Iterator[None]:
    """Take out what Django does around requests."""
    undone = [(signal, receiver) for signal, receiver in receivers if signal.disconnect(receiver)]
    try:
        yield
    finally:
        for signal, receiver in undone:
            signal.connect(receiver)


_CONNECTIONS: _Receivers = [
    (request_started, reset_queries),
    (request_started, close_old_connections),
    (request_finished, close_old_connections),
]
"""What Django itself does around requests for the sake of connections."""

_URLCONF: _Receivers = [(request_finished, reset_urlconf)]

_CACHES: _Receivers = [(request_finished, close_caches)]


def _caches_close() -> bool:
    """Tell whether closing means anything to one of the caches of the settings."""
    try:
        backends = [import_string(params["BACKEND"]) for params in caches.settings.values()]
    except (ImportError, KeyError):
        return True  # who uses it is told
    return any(getattr(each, "close", None) is not BaseCache.close for each in backends)


_kept = ContextVar("busway_django_connections_kept", default=False)


class _Requests:
    """Who looks after connections around requests."""

    are_ours = False


_requests = _Requests()


class _Thread(local):
    """What a thread has to look after."""

    def __init__(self) -> None:
        self.opened: list[BaseDatabaseWrapper] = []
        """Connections of this thread that were opened; `begin` forgets those that are closed."""


_thread = _Thread()


def _note(connection: BaseDatabaseWrapper, **_: Any) -> None:
    # Copies that somebody keeps for himself, to listen or to lock, are his to close.
    is_shared = any(each is connection for each in connections.all(initialized_only=True))
    if is_shared and connection not in _thread.opened:
        _thread.opened.append(connection)


connection_created.connect(_note)


class _Closings:
    """Closes old connections of async consumers.

    Consumers that end while a hop is under way share the next one.
    """

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._again = False

    def schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._task is not None and not self._task.done():
            self._again = True
        else:
            self._task = loop.create_task(self._close())

    async def _close(self) -> None:
        await sync_to_async(end)()
        while self._again:
            self._again = False
            await sync_to_async(end)()


_closings = _Closings()
