"""Database connections: looked after around each consumer, and let go when nothing happens."""

import asyncio
from typing import Any

from asgiref.sync import sync_to_async
from django.db import close_old_connections, reset_queries

from busway.django.signals import consumer_finished, consumer_started


def connect() -> None:
    """Look after connections around consumers, as Django does around requests."""
    consumer_started.connect(_begin, dispatch_uid="busway.database")
    consumer_finished.connect(_end, dispatch_uid="busway.database")


def _begin(**_: Any) -> None:
    if _loop() is None:
        reset_queries()
        close_old_connections()


def _end(**_: Any) -> None:
    loop = _loop()
    if loop is None:
        close_old_connections()
    else:
        _closings.schedule(loop)


def _loop() -> asyncio.AbstractEventLoop | None:
    """Return the running event loop; None in a thread without: the connections are there."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class _Closings:
    """Closes old connections of async consumers: those live in a thread, one hop away.

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
        await sync_to_async(close_old_connections)()
        while self._again:
            self._again = False
            await sync_to_async(close_old_connections)()


_closings = _Closings()
