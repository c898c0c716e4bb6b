"""How a receiver sleeps until somebody rings: a datagram socket."""

import asyncio
import contextlib
import select
import socket


class Bell:
    """The socket that a receiver listens on. One thread or event loop waits at a time."""

    def __init__(self, listening: socket.socket) -> None:
        """Take over `listening`, a datagram socket."""
        listening.setblocking(False)
        self._socket = listening
        self._poll = select.poll()
        self._poll.register(listening, select.POLLIN)

    def fileno(self) -> int:
        """Return the descriptor that is readable after a ring."""
        return self._socket.fileno()

    def drain(self) -> None:
        """Forget a ring; a further one may be left, and causes one wake-up in vain."""
        with contextlib.suppress(BlockingIOError):
            self._socket.recv(1)

    def wait(self, timeout: float | None) -> bool:
        """Block until it rings or `timeout` seconds have passed (None: for ever)."""
        if not self._poll.poll(None if timeout is None else max(0.0, timeout) * 1000):
            return False
        self.drain()
        return True

    async def async_wait(self, timeout: float | None) -> bool:
        """Do a `wait` on the running event loop. Cancelling it is safe."""
        loop = asyncio.get_running_loop()
        rung = asyncio.Event()
        loop.add_reader(self._socket, rung.set)
        try:
            async with asyncio.timeout(timeout):
                await rung.wait()
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(self._socket)
        self.drain()
        return True

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
