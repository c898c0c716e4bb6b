"""A deadline for clients that do not read what is written to them."""

import fcntl
import struct
import termios
from asyncio import Transport
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from busway.interfaces.web.gateway import Gateway


class Drain:
    """Ends a transport whose client takes nothing of what waits for it in `write_timeout`."""

    __slots__ = ("_gateway", "_left", "_transport", "slot")

    def __init__(self, gateway: "Gateway", transport: Transport) -> None:
        self._gateway = gateway
        self._transport = transport
        self.slot = 0
        self._left = _unread(transport)
        self._wait(gateway.time())

    def stop(self) -> None:
        """Let the client be."""
        self._gateway.wheel.discard(self)

    def expire(self, now: float) -> None:
        """See `timers.Timed`."""
        before, self._left = self._left, _unread(self._transport)
        if self._left < before:
            self._wait(now)
        else:
            self._gateway.count("slow client")
            self._transport.abort()

    def _wait(self, now: float) -> None:
        if timeout := self._gateway.options.write_timeout:
            self._gateway.wheel.set(self, now + timeout)


def _unread(transport: Transport) -> int:
    """Return how many bytes the client has yet to take, from us and from the kernel.

    We alone would not see a slow client read: the kernel asks for more in large steps.
    """
    size = transport.get_write_buffer_size()
    with suppress(OSError, ValueError):
        unsent = fcntl.ioctl(transport.get_extra_info("socket"), termios.TIOCOUTQ, bytes(4))
        size += struct.unpack("i", unsent)[0]
    return size
