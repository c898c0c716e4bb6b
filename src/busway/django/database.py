"""Database connections: looked after around each consumer, as Django does around requests."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from asgiref.sync import sync_to_async
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connections, reset_queries


def begin() -> None:
    """Let a sync consumer find no connection that is broken or too old."""
    if _is_used():
        reset_queries()
        close_old_connections()


def end() -> None:
    """Close the connections that a sync consumer leaves broken, or that are not to be kept."""
    if _is_used():
        close_old_connections()


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
    undone = [(signal, receiver) for signal, receiver in _OWN if signal.disconnect(receiver)]
    try:
        yield
    finally:
        for signal, receiver in undone:
            signal.connect(receiver)
        _kept.reset(token)


_OWN = [
    (request_started, reset_queries),
    (request_started, close_old_connections),
    (request_finished, close_old_connections),
]
"""What Django itself does around requests."""


_kept = ContextVar("busway_django_connections_kept", default=False)


def _is_used() -> bool:
    """Tell whether this thread has connections to look after; most consumers have none."""
    return not _kept.get() and bool(connections.all(initialized_only=True))


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
