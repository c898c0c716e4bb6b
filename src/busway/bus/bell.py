"""How a receiver sleeps until somebody rings: a datagram socket."""

import asyncio
import contextlib
import os
import select
import socket
import time

SPIN = 0.0003
"""Seconds that a receiver stays awake, if it was woken as soon as that the last time.

Going to sleep and being woken costs two processes more than the wait itself, when few messages
follow each other closely. The processor is offered to others meanwhile. A busy receiver sleeps at
once: an offer reaches those that wait for this processor and no other (at 50 sockets and two
processors an eighth more messages)."""


class Bell:
    """The socket that a receiver listens on. One thread or event loop waits at a time."""

    def __init__(self, listening: socket.socket) -> None:
        """Take over `listening`, a datagram socket."""
        listening.setblocking(False)
        self._socket = listening
        self._poll = select.poll()
        self._poll.register(listening, select.POLLIN)
        self._expects_soon = False

    def fileno(self) -> int:
        """Return the descriptor that is readable after a ring."""
        return self._socket.fileno()

    def drain(self) -> None:
        """Forget a ring; a further one may be left, and causes one wake-up in vain."""
        with contextlib.suppress(BlockingIOError):
            self._socket.recv(1)

    def wait(self, timeout: float | None, *, busy: bool = False) -> bool:
        """Block until it rings or `timeout` seconds have passed (None: for ever).

        `busy` says that there was much to do since the last time.
        """
        start = time.monotonic()
        expects = self._expects_soon and timeout != 0 and not busy
        if expects and self._stay_awake(start + SPIN):
            return True
        if not self._poll.poll(None if timeout is None else max(0.0, timeout) * 1000):
            self._expects_soon = False
            return False
        self._expects_soon = time.monotonic() - start < 2 * SPIN
        self.drain()
        return True

    def _stay_awake(self, end: float) -> bool:
        receive, now, rest = self._socket.recv, time.monotonic, os.sched_yield
        while now() < end:
            try:
                receive(1)
            except BlockingIOError:
                rest()
            else:
                return True
        return False

    async def async_wait(self, timeout: float | None, *, busy: bool = False) -> bool:
        """Do a `wait` on the running event loop. Cancelling it is safe."""
        start = time.monotonic()
        expects = self._expects_soon and timeout != 0 and not busy
        if expects and await self._astay_awake(start + SPIN):
            return True
        loop = asyncio.get_running_loop()
        rung = asyncio.Event()
        loop.add_reader(self._socket, rung.set)
        try:
            async with asyncio.timeout(timeout):
                await rung.wait()
        except TimeoutError:
            self._expects_soon = False
            return False
        finally:
            loop.remove_reader(self._socket)
        self._expects_soon = time.monotonic() - start < 2 * SPIN
        self.drain()
        return True

    async def _astay_awake(self, end: float) -> bool:
        receive, now, rest = self._socket.recv, time.monotonic, os.sched_yield
        while now() < end:
            try:
                receive(1)
            except BlockingIOError:
                rest()
                await asyncio.sleep(0)
            else:
                return True
        return False

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
