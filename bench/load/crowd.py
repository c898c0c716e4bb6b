"""Many WebSockets to one server."""

import os
import select
import socket
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from bench.load import wire
from bench.target import Failure, Target

#: Handshakes under way at the same time. Below 50, the smallest listen backlog of the contestants.
AT_ONCE = 32

#: Seconds without any progress after which a server counts as stuck.
STALL_S = 10.0

_CLOSE = wire.client_frame((1000).to_bytes(2), wire.CLOSE)
_CLOSE_WITHIN_S = 10.0


class Crowd:
    """Open WebSockets, and one epoll that watches them all. A context manager that closes them."""

    def __init__(self, target: Target) -> None:
        self._target = target
        # Open sockets by file descriptor.
        self.sockets: dict[int, socket.socket] = {}
        self.epoll = select.epoll()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.leave()
        for member in self.sockets.values():
            member.close()
        self.epoll.close()

    def open(self, path: str, count: int) -> None:
        """Open ``count`` more sockets and wait until the server has accepted every one."""
        request = wire.handshake(self._target.port, path)
        heads: dict[int, bytes] = {}
        started = 0
        while started < count or heads:
            while started < count and len(heads) < AT_ONCE:
                heads[self._knock(request)] = b""
                started += 1
            for fd in self.ready():
                if fd not in heads:
                    attend(fd)
                    continue
                heads[fd] += read_some(fd)
                if admitted(heads[fd]):
                    del heads[fd]

    def ready(self, within_s: float = STALL_S) -> list[int]:
        """Descriptors with something to read; raise Failure when there is none within the time."""
        events = self.epoll.poll(within_s)
        if not events:
            raise Failure(f"no answer within {within_s:.0f} s, {len(self.sockets)} sockets open")
        return [fd for fd, _ in events]

    def leave(self) -> None:
        """Close every socket as a browser does, and wait until the server has hung up."""
        waiting = set(self.sockets)
        for fd in waiting:
            with suppress(ConnectionError):
                os.write(fd, _CLOSE)
        deadline = time.monotonic() + _CLOSE_WITHIN_S
        while waiting and time.monotonic() < deadline:
            for fd, _ in self.epoll.poll(1.0):
                if _hung_up(fd):
                    waiting.discard(fd)
                    self.epoll.unregister(fd)

    def _knock(self, request: bytes) -> int:
        """Connect and ask for a WebSocket. Loopback connects at once, so this may block."""
        member = socket.create_connection((self._target.host, self._target.port), STALL_S)
        member.sendall(request)
        member.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        member.setblocking(False)
        self.sockets[member.fileno()] = member
        self.epoll.register(member, select.EPOLLIN)
        return member.fileno()


def read_some(fd: int) -> bytes:
    """What a readable socket has; raise Failure when the server has closed it."""
    data = os.read(fd, 65536)
    if not data:
        raise Failure("the server closed a socket")
    return data


def attend(fd: int) -> None:
    """Answer the pings of an open socket on which nothing else is expected."""
    frames, _ = wire.split(read_some(fd))
    for frame in frames:
        if frame.opcode == wire.PING:
            os.write(fd, wire.pong(frame))


def admitted(head: bytes) -> bool:
    """Whether the handshake is complete; raise Failure when the server refused it."""
    if b"\r\n\r\n" not in head:
        return False
    if not wire.accepted(head):
        raise Failure(f"the server refused a socket: {head[:120]!r}")
    return True


def _hung_up(fd: int) -> bool:
    try:
        return os.read(fd, 65536) == b""
    except ConnectionError:
        return True
