"""Connections to a server: made by redis-py, used without blocking by sync and async code alike."""

import asyncio
import select
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from threading import Event
from typing import Any, cast

import hiredis
from redis.connection import AbstractConnection

from busway.bus.errors import LayerUnavailable
from busway.bus.redis.complaints import ServerError, explain
from busway.bus.redis.scripts import Script
from busway.bus.redis.servers import Server

_CHUNK = 64 * 1024

_CLAIM_WITHIN = 1.0
"""Seconds that a thread waits for an event loop to end watching."""
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
        self._has_ended = False
        self._loop: asyncio.AbstractEventLoop | None = None
        """Which watches the socket: beginning and ending to do so costs more than a wait."""
        self._waiting: asyncio.Future[None] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def send(self, data: bytes, timeout: float) -> None:
        """Send a command; blocks when the server does not read."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self.socket.send(rest) :]
            except BLOCKED:
                if not self._writable.poll(timeout * 1000):
                    raise LinkBroken("the server does not read what it is sent") from None

    def reply(self) -> Any:
        """Return the next reply; False: it has not come yet."""
        found = self._reader.gets()
        while found is False:
            if self._has_ended:
                raise LinkBroken("the server closed the connection")
            try:
                data = self.socket.recv(_CHUNK)
            except BLOCKED:
                return False
            if not data:
                raise LinkBroken("the server closed the connection")
            self._reader.feed(data)
            found = self._reader.gets()
        return found

    def wait(self, timeout: float) -> None:
        """Block until something has come."""
        if not self._readable.poll(timeout * 1000):
            raise LinkBroken(f"the server did not answer for {timeout:g} seconds")

    async def async_wait(self, timeout: float) -> None:
        """Do a `wait` on the running event loop, which watches the socket from then on."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self.claim()
            self._loop = loop
            loop.add_reader(self.socket, self._came)
        self._waiting = loop.create_future()
        self._deadline = loop.time() + timeout
        if self._timer is None:
            self._timer = loop.call_at(self._deadline, self._expire, timeout)
        try:
            await self._waiting
        finally:
            self._waiting = None

    def _came(self) -> None:
        if self._waiting is None:
            # Answers that nobody waits for must not keep the loop awake.
            self._collect()
        elif not self._waiting.done():
            self._waiting.set_result(None)

    def _collect(self) -> None:
        try:
            data = self.socket.recv(_CHUNK)
        except BLOCKED:
            return
        except OSError:
            data = b""
        if data:
            self._reader.feed(data)
        else:
            self._has_ended = True
            self._stop_watching()

    def _expire(self, timeout: float) -> None:
        self._timer = None
        if self._loop is None or self._waiting is None or self._waiting.done():
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._expire, timeout)
        else:
            text = f"the server did not answer for {timeout:g} seconds"
            self._waiting.set_exception(LinkBroken(text))

    def claim(self) -> None:
        """Be the only reader: a loop in another thread that watches the socket ends that."""
        loop = self._loop
        if loop is None or loop is _running_loop():
            return
        if not loop.is_running():
            self._stop_watching()
            return
        ended = Event()

        def end() -> None:
            self._stop_watching()
            ended.set()

        loop.call_soon_threadsafe(end)
        ended.wait(_CLAIM_WITHIN)

    def _stop_watching(self) -> None:
        loop, self._loop = self._loop, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if loop is not None and not loop.is_closed():
            loop.remove_reader(self.socket)

    def close(self) -> None:
        """Close the connection."""
        loop = self._loop
        if loop is not None and loop.is_running() and loop is not _running_loop():
            loop.call_soon_threadsafe(self._close)  # what is the loop's is not for other threads
        else:
            self._close()

    def _close(self) -> None:
        self._stop_watching()
        with suppress(OSError):
            self.socket.close()
        self._connection._sock = None  # noqa: SLF001


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


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
        self._unread = 0
        """Replies to come that nobody waits for."""

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection."""
        return self._channel is not None

    def connect(self) -> None:
        """Make the connection, unless there is one. Raises `LayerUnavailable`."""
        if self._channel is None:
            self._channel = Channel(self._server.connect(self._patience))
            self._unread = 0
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
        self._send((b"EVAL", script.text, 1, key, *arguments))
        return self.receive()

    def ask(self, *command: bytes) -> Any:
        """Send a command and return its reply; raises as `run` does."""
        self.connect()
        self._send(command)
        return self.receive()

    def send(self, script: Script, key: bytes, *arguments: bytes) -> None:
        """Send the call of a script, whose reply is to be received."""
        self._send((b"EVALSHA", script.digest, 1, key, *arguments))

    def post(self, *command: bytes | int) -> None:
        """Send a command whose reply nobody waits for."""
        self._send(command)
        self._unread += 1

    def _send(self, command: tuple[Any, ...]) -> None:
        channel = self._open()
        try:
            channel.send(hiredis.pack_command(command), self.timeout)
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
            while True:
                found = channel.reply()
                if found is False:
                    channel.wait(self.timeout)
                elif self._unread:
                    self._unread -= 1
                else:
                    break
        except OSError as error:
            self._fail(error)
        except LinkBroken:
            self.close()
            raise
        return self._judge(found)

    async def areceive(self) -> Any:
        """Do a `receive` from async code. When cancelled, the reply is still to be received."""
        channel = self._open()
        try:
            while True:
                found = channel.reply()
                if found is False:
                    await channel.async_wait(self.timeout)
                elif self._unread:
                    self._unread -= 1
                else:
                    break
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
