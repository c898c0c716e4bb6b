"""Many HTTP clients of one server, each with one request under way."""

import os
import select
import socket
import time
from types import TracebackType
from typing import Self

from bench.load.crowd import STALL_S
from bench.target import Failure, Target


class Browsers:
    """HTTP/1.1 clients that ask for one path again and again. A context manager.

    Connections are kept as long as the server keeps them, and opened anew when it does not.
    """

    def __init__(self, target: Target, path: str, count: int) -> None:
        self._address = (target.host, target.port)
        self._request = (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{target.port}\r\nAccept: */*\r\n\r\n"
        ).encode()
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._received: dict[int, bytes] = {}
        for _ in range(count):
            self._connect()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for client in self._sockets.values():
            client.close()
        self._epoll.close()

    def run(self, seconds: float, expected: bytes) -> int:
        """Ask for so long; returns how many answers came. Raise Failure for a wrong one."""
        until = time.perf_counter() + seconds
        answers = 0
        while time.perf_counter() < until:
            events = self._epoll.poll(STALL_S)
            if not events:
                raise Failure(f"no answer within {STALL_S:.0f} s")
            for fd, _ in events:
                answers += self._read(fd, expected)
        return answers

    def _read(self, fd: int, expected: bytes) -> int:
        data = os.read(fd, 65536)
        before = self._received.get(fd)
        if before is not None:
            data = before + data
        elif not data:
            self._reconnect(fd)  # kept alive until now, and closed between two requests
            return 0
        if not data.endswith(expected) or b"\r\n\r\n" not in data:
            self._collect(fd, data, expected, grew=before is None or len(data) > len(before))
            return 0
        if not data.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")):
            raise Failure(f"wrong answer: {data[:200]!r}")
        self._received.pop(fd, None)
        if b"\r\nconnection: close" in data.lower():
            self._reconnect(fd)
        else:
            os.write(fd, self._request)
        return 1

    def _collect(self, fd: int, data: bytes, expected: bytes, *, grew: bool) -> None:
        """Keep the beginning of an answer."""
        head, _, body = data.partition(b"\r\n\r\n")
        if not grew or len(body) > len(expected):
            raise Failure(f"wrong answer: {head[:200]!r} {body[:200]!r}")
        self._received[fd] = data

    def _reconnect(self, fd: int) -> None:
        self._received.pop(fd, None)
        self._epoll.unregister(fd)
        self._sockets.pop(fd).close()
        self._connect()

    def _connect(self) -> None:
        client = socket.create_connection(self._address, STALL_S)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(self._request)
        client.setblocking(False)
        self._sockets[client.fileno()] = client
        self._epoll.register(client, select.EPOLLIN)
