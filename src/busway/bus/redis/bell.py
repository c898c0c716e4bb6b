"""How a receiver sleeps until a server or somebody of its own process wakes it."""

import asyncio
import selectors
import socket
import time
from contextlib import suppress
from threading import RLock
from typing import Any

from busway.bus.errors import LayerUnavailable
from busway.bus.redis.connections import Channel, LinkBroken
from busway.bus.redis.orders import Letter
from busway.bus.redis.servers import Server
from busway.bus.redis.wire import ORDER

QUIET = 5.0
"""Seconds of silence after which a server is asked whether it is still there."""

_RING = 3
"""Parts of what a server says when it rings; other replies have fewer."""

_ENOUGH = 64 * 1024
_PING = b"*1\r\n$4\r\nPING\r\n"


class _Line:
    """A subscription."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.names: set[bytes] = set()
        self.heard = time.monotonic()
        """When something came last."""
        self.head: bytes | None = None
        """That of a letter whose bundle is under way."""
        self.asked = 0.0
        """When the server was asked for a sign of life; 0: it was not."""


class Bell:
    """What a receiver listens on: a subscription at each server, and a socket of its own.

    One thread or event loop waits at a time, and `listen` may be under way in another thread;
    `ring` is safe from everywhere.
    """

    def __init__(self) -> None:
        """Make a bell that only `ring` rings."""
        self._own, self._ringing = socket.socketpair()
        self._own.setblocking(False)
        self._ringing.setblocking(False)
        # The descriptor of a selector is readable when one of those in it is.
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._own, selectors.EVENT_READ)
        self._lines: dict[Server, _Line] = {}
        self.letters: list[Letter] = []
        """What came along with rings, for the receiver to take."""
        self.has_rung = False
        """Whether there was more than letters, since the receiver last looked."""
        self._lock = RLock()
        """Held by who reads what is in the selector, or changes it."""

    def listens(self, server: Server, name: bytes) -> bool:
        """Say whether a ring of `name` at `server` would be heard."""
        line = self._lines.get(server)
        return line is not None and name in line.names and self._is_alive(server, line)

    def _is_alive(self, server: Server, line: _Line) -> bool:
        """Say whether a server is there; after a silence it is asked.

        A subscription says nothing of a network that was cut, or of a server that vanished.
        """
        now = time.monotonic()
        if now < line.heard + QUIET:
            return True
        if self._hear(server):
            self.ring()  # it is not known what that was
        elif line.asked and now > line.asked + QUIET:
            self._forget(server)
        elif not line.asked:
            line.asked = now
            try:
                line.channel.send(_PING, QUIET)
            except (OSError, LayerUnavailable):
                self._forget(server)
        return server in self._lines

    def listen(self, server: Server, name: bytes) -> None:
        """Hear what is published as `name` at `server`. Raises `LayerUnavailable`."""
        line = self._lines.get(server)
        if line is None:
            line = _Line(Channel(server.connect()))
        else:
            with self._lock:  # nobody else may take the reply
                self._selector.unregister(line.channel.socket)
        try:
            self._subscribe(line, name, server.timeout)
        except (OSError, LayerUnavailable) as error:
            self._lines.pop(server, None)
            line.channel.close()
            raise LinkBroken(f"{server.name}: {error}") from error
        line.names.add(name)
        line.heard = time.monotonic()
        with self._lock:
            self._lines[server] = line
            self._selector.register(line.channel.socket, selectors.EVENT_READ, server)

    def _subscribe(self, line: _Line, name: bytes, timeout: float) -> None:
        channel = line.channel
        channel.send(b"*2\r\n$9\r\nSUBSCRIBE\r\n$%d\r\n%s\r\n" % (len(name), name), timeout)
        is_subscribed = False
        # What comes along with the answer is seen by no selector.
        while (reply := channel.reply()) is not False or not is_subscribed:
            if reply is False:
                channel.wait(timeout)
                channel.read()
            elif isinstance(reply, Exception):
                raise LayerUnavailable(str(reply))
            elif reply[0] == b"subscribe":
                is_subscribed = True
            else:
                self._take_note(line, reply)
                self.ring()

    def _forget(self, server: Server) -> None:
        with self._lock:
            line = self._lines.pop(server)
            self._selector.unregister(line.channel.socket)
            line.channel.close()

    def ring(self) -> None:
        """Wake whoever waits. Safe from other threads and from signal handlers."""
        with suppress(BlockingIOError, OSError):
            self._ringing.send(b"!")

    def fileno(self) -> int:
        """Return the descriptor that is readable after a ring."""
        return self._selector.fileno()

    def drain(self) -> None:
        """Forget the rings so far. A connection that has ended counts as one."""
        with self._lock:
            for key, _ in self._selector.select(0):
                if key.data is not None:
                    self._hear(key.data)
                    continue
                self.has_rung = True
                with suppress(BlockingIOError):
                    self._own.recv(_ENOUGH)

    def _hear(self, server: Server) -> bool:
        """Take what has come from a server, or take note that its connection has ended.

        Returns whether there was anything.
        """
        with self._lock:
            line = self._lines[server]
            found = False
            try:
                while True:
                    line.channel.read()
                    while (reply := line.channel.reply()) is not False:
                        found = True
                        self._take_note(line, reply)
                    if not line.channel.has_decrypted():
                        break
            except (OSError, LinkBroken):
                self.has_rung = True
                self._forget(server)
                return True
            if found:
                line.heard, line.asked = time.monotonic(), 0.0
            return found

    def _take_note(self, line: _Line, reply: Any) -> None:
        """Keep what comes along with rings. Whatever else comes counts as one."""
        data = reply[2] if isinstance(reply, list) and len(reply) == _RING else b""
        if len(data) == ORDER.size:
            line.head = data
        elif data and line.head is not None:
            self.letters.append(Letter(line.head, data))
            line.head = None
        else:
            self.has_rung = True

    def wait(self, timeout: float) -> bool:
        """Block until it rings or `timeout` seconds have passed."""
        if not self._selector.select(timeout):
            return False
        self.drain()
        return True

    async def async_wait(self, timeout: float) -> bool:
        """Do a `wait` on the running event loop. Cancelling it is safe."""
        loop = asyncio.get_running_loop()
        rung = asyncio.Event()
        loop.add_reader(self.fileno(), rung.set)
        try:
            async with asyncio.timeout(timeout):
                await rung.wait()
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(self.fileno())
        self.drain()
        return True

    def close(self) -> None:
        """Close everything."""
        # The selector first, with all that is in it: what a forked child takes out of its copy is
        # out of the parent's too.
        self._selector.close()
        for line in self._lines.values():
            line.channel.close()
        self._lines.clear()
        self._own.close()
        self._ringing.close()
