"""How a receiver sleeps until a server or somebody of its own process wakes it."""

import asyncio
import selectors
import socket
from contextlib import suppress

from busway.bus.errors import LayerUnavailable
from busway.bus.redis.connections import BLOCKED, Channel, LinkBroken
from busway.bus.redis.servers import Server

_ENOUGH = 64 * 1024


class Bell:
    """What a receiver listens on: a subscription at each server, and a socket of its own.

    One thread or event loop waits at a time; `ring` is safe from everywhere.
    """

    def __init__(self) -> None:
        """Make a bell that only `ring` rings."""
        self._own, self._ringing = socket.socketpair()
        self._own.setblocking(False)
        self._ringing.setblocking(False)
        # The descriptor of a selector is readable when one of those in it is.
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._own, selectors.EVENT_READ)
        self._channels: dict[Server, Channel] = {}
        self._names: dict[Server, set[bytes]] = {}

    def listens(self, server: Server, name: bytes) -> bool:
        """Say whether a ring of `name` at `server` would be heard."""
        return name in self._names.get(server, ())

    def listen(self, server: Server, name: bytes) -> None:
        """Hear what is published as `name` at `server`. Raises `LayerUnavailable`."""
        channel = self._channels.get(server)
        fresh = channel is None
        if channel is None:
            channel = Channel(server.connect())
        try:
            channel.send(b"*2\r\n$9\r\nSUBSCRIBE\r\n$%d\r\n%s\r\n" % (len(name), name), 5.0)
            while True:
                reply = channel.reply()
                if reply is False:
                    channel.wait(server.timeout)
                elif isinstance(reply, Exception) or reply[0] == b"subscribe":
                    break
                else:
                    self.ring()
        except (OSError, LayerUnavailable) as error:
            self._forget(server)
            channel.close()
            if isinstance(error, LayerUnavailable):
                raise
            raise LinkBroken(f"{server.name}: {error}") from error
        if isinstance(reply, Exception):
            self._forget(server)
            channel.close()
            raise LayerUnavailable(f"{server.name}: {reply}")
        if fresh:
            self._channels[server] = channel
            self._selector.register(channel.socket, selectors.EVENT_READ, server)
        self._names.setdefault(server, set()).add(name)

    def _forget(self, server: Server) -> None:
        self._names.pop(server, None)
        channel = self._channels.pop(server, None)
        if channel is not None:
            with suppress(KeyError, ValueError):
                self._selector.unregister(channel.socket)
            channel.close()

    def ring(self) -> None:
        """Wake whoever waits. Safe from other threads and from signal handlers."""
        with suppress(BlockingIOError, OSError):
            self._ringing.send(b"!")

    def fileno(self) -> int:
        """Return the descriptor that is readable after a ring."""
        return self._selector.fileno()

    def drain(self) -> None:
        """Forget the rings so far. A connection that has ended counts as one."""
        for key, _ in self._selector.select(0):
            if key.data is None:
                with suppress(BlockingIOError):
                    self._own.recv(_ENOUGH)
                continue
            channel = self._channels[key.data]
            try:
                while channel.socket.recv(_ENOUGH):
                    pass
            except BLOCKED:
                continue
            except OSError:
                pass
            self._forget(key.data)

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
        for server in list(self._channels):
            self._forget(server)
        self._selector.close()
        self._own.close()
        self._ringing.close()
