"""Connections to a server: made by redis-py, used without blocking by sync and async code alike."""

import asyncio
import os
import select
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import hiredis
from redis.connection import AbstractConnection

from busway.bus.errors import LayerUnavailable
from busway.bus.redis.complaints import ServerError, explain
from busway.bus.redis.scripts import Script, command_of
from busway.bus.redis.servers import Server
from busway.bus.redis.watch import SilenceError, Watch

_CHUNK = 64 * 1024

SPIN = 0.0002
"""Seconds that a thread stays awake for a reply: one from a server on the same machine mostly comes
sooner than a thread goes to sleep and is woken."""

_CONTENDED = 0.00002
"""Seconds that an offer of the processor takes if somebody has taken it."""

_DOZE = 10
"""Waits that sleep at once after one for which that was in vain, or others wanted the processor."""

BLOCKED = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class LinkBroken(LayerUnavailable):
    """A connection ended, or a reply did not come; what was asked may have been done."""


class Channel:
    """A connection as a socket that does not block, and a parser of replies."""

    def __init__(self, connection: AbstractConnection) -> None:
        """Take over a connection of redis-py."""
        self._connection = connection
        # The client's own way through its socket and parser costs as much as the server does.
        self.socket: socket.socket = cast("socket.socket", connection._sock)  # noqa: SLF001
        self.socket.setblocking(False)
        self._reader = hiredis.Reader(replyError=ServerError)
        self._readable = select.poll()
        self._readable.register(self.socket, select.POLLIN)
        self._writable = select.poll()
        self._writable.register(self.socket, select.POLLOUT)
        self._sleepy = 0
        """For how many waits it is better to sleep: others want the processor, or it took long."""
        self._has_ended = False
        self._watch: Watch | None = None

    def send(self, data: bytes, timeout: float) -> None:
        """Send a command; blocks when the server does not read."""
        sent = 0
        while sent < len(data):
            try:
                # Nearly always all of it is sent at once.
                sent += self.socket.send(memoryview(data)[sent:] if sent else data)
            except BLOCKED:
                if not self._writable.poll(timeout * 1000):
                    raise LinkBroken("the server does not read what it is sent") from None

    def read(self) -> None:
        """Read what has come, if anything has."""
        try:
            while True:
                data = self.socket.recv(_CHUNK)
                self._reader.feed(data)
                if len(data) < _CHUNK:
                    break
        except BLOCKED:
            return
        self._has_ended = not data

    def reply(self) -> Any:
        """Return the next reply of what was read, or False."""
        found = self._reader.gets()
        if found is False and self._has_ended:
            raise LinkBroken("the server closed the connection")
        return found

    def has_decrypted(self) -> bool:
        """Say whether TLS has data already, which the socket then shows to nobody."""
        return isinstance(self.socket, ssl.SSLSocket) and self.socket.pending() > 0

    def wait(self, timeout: float) -> None:
        """Block until something has come."""
        if self.has_decrypted():
            return
        start = time.monotonic()
        if self._sleepy:
            self._sleepy -= 1
        elif self._stay_awake(start + SPIN):
            return
        if not self._readable.poll(timeout * 1000):
            raise LinkBroken(f"the server did not answer for {timeout:g} seconds")
        if not self._sleepy and time.monotonic() > start + SPIN:
            self._sleepy = _DOZE

    def _stay_awake(self, end: float) -> bool:
        """Offer the processor to others until something has come; False: it takes too long."""
        poll, now, rest = self._readable.poll, time.monotonic, os.sched_yield
        while (before := now()) < end:
            if poll(0):
                return True
            rest()
            if now() - before > _CONTENDED and not poll(0):  # it was not the server that took it
                self._sleepy = _DOZE
                return False
        return False

    async def async_wait(self, timeout: float) -> None:
        """Do a `wait` on the running event loop, which watches the socket from then on."""
        if self.has_decrypted():
            return
        loop = asyncio.get_running_loop()
        if self._watch is None or self._watch.loop is not loop:
            self._end_watch()
            self._watch = Watch(loop, self.socket, self._collect)
        try:
            await self._watch.wait(timeout)
        except SilenceError:
            raise LinkBroken(f"the server did not answer for {timeout:g} seconds") from None

    def _collect(self) -> bool:
        """Take what nobody waits for; returns whether more may come."""
        try:
            self.read()
        except OSError:
            self._has_ended = True
        return not self._has_ended

    def claim(self) -> None:
        """Be the only reader: the loop of another thread that watches the socket ends that."""
        if self._watch is not None and not self._watch.is_here():
            self._end_watch()

    def _end_watch(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.end()

    def close(self) -> None:
        """Close the connection."""
        self._end_watch()
        with suppress(OSError):
            self.socket.close()
        self._connection._sock = None  # noqa: SLF001


class Link:
    """A connection that runs scripts, one at a time; it is made when it is needed.

    Not thread-safe.
    """

    def __init__(
        self,
        server: Server,
        greet: Callable[["Link"], None] | None = None,
        patience: float | None = None,
    ) -> None:
        """Connect to `server`; `greet` is called with each new connection.

        `patience` is how long the server may take for anything: seconds, None for its timeout.
        """
        self._server = server
        self._greet = greet
        self._patience = patience
        self.timeout = server.timeout if patience is None else patience
        """Seconds that a reply may take."""
        self._channel: Channel | None = None

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection."""
        return self._channel is not None

    def connect(self) -> None:
        """Make the connection, unless there is one. Raises `LayerUnavailable`."""
        if self._channel is None:
            self._channel = Channel(self._server.connect(self._patience))
            if self._greet is not None:
                try:
                    self._greet(self)
                except ServerError as error:
                    self.close()
                    raise LinkBroken(f"{self._server.name}: {explain(error)}") from error
                except BaseException:
                    self.close()
                    raise

    def run(self, script: Script, key: bytes, *arguments: bytes) -> Any:
        """Run a script and return its reply.

        Raises `LinkBroken` when the connection ended meanwhile, `LayerUnavailable` when there
        is none, `ServerError` when the script failed.
        """
        self.connect()
        try:
            self.send(script, key, *arguments)
            return self.receive()
        except ServerError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
        return self.ask(b"EVAL", script.text, b"1", key, *arguments)

    def ask(self, *command: Any) -> Any:
        """Send a command and return its reply; raises as `run` does."""
        self.connect()
        self._send(hiredis.pack_command(command))
        return self.receive()

    def send(self, script: Script, key: bytes, *arguments: bytes) -> None:
        """Send the call of a script, whose reply is to be received."""
        self._send(command_of(script, key, *arguments))

    def _send(self, data: bytes) -> None:
        channel = self._open()
        try:
            channel.send(data, self.timeout)
        except OSError as error:
            self._fail(error)
        except LinkBroken:
            self.close()
            raise

    def receive(self) -> Any:
        """Return the reply to what was sent."""
        channel = self._open()
        channel.claim()
        try:
            # It can hardly have come yet: to look in vain costs more than to wait.
            while (found := channel.reply()) is False:
                channel.wait(self.timeout)
                channel.read()
        except OSError as error:
            self._fail(error)
        except BaseException:  # a reply that nobody has read would be taken for the next one
            self.close()
            raise
        return self._judge(found)

    async def areceive(self) -> Any:
        """Do a `receive` from async code. When cancelled, the reply is still to be received."""
        channel = self._open()
        channel.claim()
        try:
            while (found := channel.reply()) is False:
                await channel.async_wait(self.timeout)
                channel.read()
        except OSError as error:
            self._fail(error)
        except LinkBroken:
            self.close()
            raise
        return self._judge(found)

    def _judge(self, reply: Any) -> Any:
        if isinstance(reply, ServerError):
            if str(reply).startswith("READONLY"):
                self.close()  # another server may be the master now
            raise reply
        return reply

    def _open(self) -> Channel:
        if self._channel is None:
            raise LinkBroken(f"{self._server.name}: the connection is closed")
        return self._channel

    def _fail(self, error: OSError) -> Any:
        self.close()
        raise LinkBroken(f"{self._server.name}: {error}") from error

    def close(self) -> None:
        """Close the connection; the next use makes another."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()
