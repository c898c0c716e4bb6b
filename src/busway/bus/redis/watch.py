"""How an event loop watches a socket for whoever reads from it there."""

import asyncio
import os
import socket
import weakref
from collections.abc import Callable
from threading import Lock


class SilenceError(Exception):
    """Nothing has come in time."""


class Watch:
    """A loop's watch over a socket, kept between waits: to begin and end it costs more than a wait.

    One wait at a time. `end` is safe from any thread.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, collect: Callable[[], bool]
    ) -> None:
        """Watch `sock` on the running `loop`.

        `collect` takes what comes while nobody waits, which must not keep the loop awake, and
        says whether more may come.
        """
        self.loop = loop
        self._process = os.getpid()
        self._collect = collect
        # A descriptor of its own: what the loop knows by it is neither another watch nor another
        # socket, however late the loop gets to forget it.
        self._fd = os.dup(sock.fileno())
        self._forget = weakref.finalize(self, os.close, self._fd)
        self._lock = Lock()
        """Held by who reads for this watch; whoever ends it reads next."""
        self._has_ended = False
        self._waiting: asyncio.Future[None] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        loop.add_reader(self._fd, self._came)

    def is_here(self) -> bool:
        """Say whether its loop runs in this thread: then it does not read at the same time."""
        try:
            return asyncio.get_running_loop() is self.loop
        except RuntimeError:
            return False

    async def wait(self, timeout: float) -> None:
        """Wait until something has come. Raises `SilenceError` after `timeout` seconds."""
        self._waiting = self.loop.create_future()
        self._deadline = self.loop.time() + timeout
        if self._timer is None:
            self._timer = self.loop.call_at(self._deadline, self._expire)
        try:
            await self._waiting
        finally:
            self._waiting = None

    def _came(self) -> None:
        if self._waiting is not None:
            if not self._waiting.done():
                self._waiting.set_result(None)
            return
        with self._lock:
            goes_on = self._has_ended or self._collect()
        if not goes_on:
            self.end()

    def _expire(self) -> None:
        self._timer = None
        if self._waiting is None or self._waiting.done():
            return
        if self.loop.time() < self._deadline:
            self._timer = self.loop.call_at(self._deadline, self._expire)
        else:
            self._waiting.set_exception(SilenceError())

    def end(self) -> None:
        """Read no more. Only when nobody waits."""
        if os.getpid() != self._process:
            self._forget()  # what a forked child took out of the selector, its parent would miss
            return
        with self._lock:
            self._has_ended = True
        if not self.loop.is_running() or self.is_here():
            self._leave()
            return
        try:
            self.loop.call_soon_threadsafe(self._leave)
        except RuntimeError:  # it was closed since, and knows nothing any more
            self._forget()

    def _leave(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._forget.alive and not self.loop.is_closed():
            self.loop.remove_reader(self._fd)
        self._forget()
