"""WebSockets without a library: cheap enough to have ten thousand of them in one process."""

import contextlib
import resource
import select
import socket
import time
from collections.abc import Callable, Iterator

from services import PATIENCE

_MASK = b"\0\0\0\0"


def frame(text: str) -> bytes:
    """Return a text frame as a client sends it, of at most 125 bytes."""
    payload = text.encode()
    return bytes((0x81, 0x80 | len(payload))) + _MASK + payload


class Client:
    """One WebSocket. `received` holds the texts that have come and were not taken."""

    def __init__(self, address: tuple[str, int]) -> None:
        """Connect; the handshake is sent, and not waited for."""
        self.socket = socket.create_connection(address, PATIENCE)
        self.socket.sendall(
            b"GET /ws/ HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        self.socket.setblocking(False)
        self.open = False
        self.received: list[str] = []
        self._buffer = b""

    def send(self, data: bytes) -> int:
        """Send what the kernel takes of `data`; returns how many bytes."""
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0

    def read(self) -> None:
        """Take what has come. Raises `AssertionError` when the server closed or refused."""
        try:
            data = self.socket.recv(1 << 18)
        except BlockingIOError:
            return
        assert data, "the server closed the connection"
        self._buffer += data
        if not self.open:
            head, found, self._buffer = self._buffer.partition(b"\r\n\r\n")
            if not found:
                self._buffer = head
                return
            assert head.startswith(b"HTTP/1.1 101 "), head
            self.open = True
        self._parse()

    def _parse(self) -> None:
        buffer, at = self._buffer, 0
        while len(buffer) >= at + 2 and len(buffer) >= at + 2 + buffer[at + 1]:
            end = at + 2 + buffer[at + 1]
            assert buffer[at + 1] < 126
            if buffer[at] == 0x89:  # a ping
                self.socket.send(
                    bytes((0x8A, 0x80 | buffer[at + 1])) + _MASK + buffer[at + 2 : end]
                )
            else:
                assert buffer[at] == 0x81, f"no text frame: {buffer[at:]!r}"
                self.received.append(buffer[at + 2 : end].decode())
            at = end
        self._buffer = buffer[at:]

    def close(self) -> None:
        """Close the connection, without a word."""
        self.socket.close()


class Crowd:
    """Many clients, and one epoll."""

    def __init__(self, address: tuple[str, int], number: int) -> None:
        """Open `number` WebSockets, some hundred at a time."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < number + 100:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, number + 1000), hard))
        self._epoll = select.epoll()
        self.clients: dict[int, Client] = {}
        while len(self.clients) < number:
            fresh = [Client(address) for _ in range(min(200, number - len(self.clients)))]
            for client in fresh:
                self.clients[client.socket.fileno()] = client
                self._epoll.register(client.socket, select.EPOLLIN)
            self.read_until(lambda fresh=fresh: all(each.open for each in fresh))  # type: ignore[misc]

    def read_until(self, done: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Read until `done`; fails after `patience` seconds in which nothing came."""
        last = time.monotonic()
        while not done():
            for number, _ in self._epoll.poll(1.0):
                self.clients[number].read()
                last = time.monotonic()
            assert time.monotonic() - last < patience, "nothing comes any more"

    def close(self) -> None:
        """Close all connections."""
        for client in self.clients.values():
            client.close()
        self._epoll.close()


@contextlib.contextmanager
def crowd(address: tuple[str, int], number: int) -> Iterator[Crowd]:
    """Open `number` WebSockets for the length of a `with` block."""
    made = Crowd(address, number)
    try:
        yield made
    finally:
        made.close()
