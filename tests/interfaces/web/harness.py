"""A server in a thread, a worker that follows a script, and a client that may break the rules."""

import asyncio
import shutil
import socket
import ssl
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import httpx

from busway.bus.ipc.directory import SHARED_MEMORY
from busway.bus.layer import ChannelLayer
from busway.bus.operations import Delivery, Operation, Send
from busway.interfaces.web.listening import listen
from busway.interfaces.web.options import WebOptions
from busway.interfaces.web.server import Server

PATIENCE = 10.0
"""Seconds that anything may take on a busy machine."""

CHANNELS = (
    "websocket.connect",
    "websocket.receive",
    "websocket.disconnect",
    "http.request",
    "http.disconnect",
)

Message = dict[str, Any]
Script = Callable[[Message], Sequence[Message | Operation]]
"""What a worker does with a message: replies for its reply channel, and other operations."""


def accept(_: Message) -> Sequence[Message]:
    """Accept a connect."""
    return [{"accept": True}]


def echo(message: Message) -> Sequence[Message]:
    """Send a client its message back."""
    key = "text" if "text" in message else "bytes"
    return [{key: message[key]}]


def answer(message: Message) -> Sequence[Message]:
    """Answer a request with its own body."""
    return [{"status": 200, "headers": [], "content": message["body"]}]


def nothing(_: Message) -> Sequence[Message]:
    """Do nothing."""
    return []


class Worker:
    """Takes messages in a thread, does what its script says, and remembers what it got."""

    def __init__(
        self, layer: ChannelLayer, script: Mapping[str, Script] | None = None, *, batch: int = 20
    ) -> None:
        self.layer = layer
        self._batch = batch
        self.script: dict[str, Script] = {
            "websocket.connect": accept,
            "websocket.receive": echo,
            "http.request": answer,
            **(script or {}),
        }
        self.got: list[tuple[str, Message]] = []
        self._news = threading.Condition()
        self._seen = 0
        self._receiver = layer.receiver()
        self._stop = False
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        operations: list[Operation] = []
        done: list[Delivery] = []
        while not self._stop:
            outcome = self._receiver.exchange(operations, done, CHANNELS, self._batch, wake_below=1)
            operations = [refusal.operation for refusal in outcome.refused]
            done = outcome.deliveries
            if not done and not operations:
                self._receiver.wait(PATIENCE)
            for delivery in done:
                operations += self._do(delivery)
        self._receiver.close()

    def _do(self, delivery: Delivery) -> list[Operation]:
        message = delivery.message
        with self._news:
            self.got.append((delivery.channel, message))
            self._news.notify_all()
        script = self.script.get(delivery.channel, nothing)
        return [
            Send(message["reply_channel"], item) if isinstance(item, dict) else item
            for item in script(message)
        ]

    def expect(self, channel: str, **fields: object) -> Message:
        """Wait for a message on `channel` with these fields, behind the last one expected."""
        deadline = time.monotonic() + PATIENCE
        with self._news:
            position = self._seen
            while True:
                while position < len(self.got):
                    name, message = self.got[position]
                    position += 1
                    if name == channel and all(message.get(k) == v for k, v in fields.items()):
                        self._seen = position
                        return message
                if not self._news.wait(deadline - time.monotonic()):
                    raise AssertionError(f"no {channel} with {fields} in {self.got[self._seen :]}")

    def close(self) -> None:
        """Stop the thread."""
        self._stop = True
        self._receiver.interrupt()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@contextmanager
def private_bus() -> Iterator[str]:
    """Return the URL of an IPC layer that is gone afterwards."""
    # Short: sockets with their whole path are in it, and those have at most 107 characters.
    place = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
    directory = tempfile.mkdtemp(prefix="busway-test-", dir=place)
    try:
        yield f"ipc://test?size={32 * 1024 * 1024}&directory={directory}"
    finally:
        shutil.rmtree(directory)


class WebServer:
    """An interface server in a thread of this process."""

    def __init__(self, layer: ChannelLayer, **options: Any) -> None:
        self.options = WebOptions(**{"port": 0, "shutdown_timeout": 4.0, **options})
        self._listening = listen(self.options)
        self._started = threading.Event()
        self.addresses: Sequence[str] = ()
        self.server = Server(layer, self.options, self._listening, self._ready)
        self._thread = threading.Thread(target=self.server.run)
        self._thread.start()
        assert self._started.wait(PATIENCE)
        self.gateway = self.server.application.gateway

    def _ready(self, addresses: Sequence[str]) -> None:
        self.addresses = addresses
        self.loop = asyncio.get_running_loop()
        self._started.set()

    @property
    def url(self) -> str:
        """Where HTTP clients find it."""
        return self.addresses[0]

    @property
    def ws_url(self) -> str:
        """Where WebSocket clients find it."""
        return "ws" + self.url.removeprefix("http")

    @property
    def port(self) -> int:
        """Its TCP port."""
        return int(self.url.rpartition(":")[2])

    def eventually(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition`, looked at on the server's event loop, is true."""

        async def look() -> bool:
            return condition()

        deadline = time.monotonic() + PATIENCE
        while not asyncio.run_coroutine_threadsafe(look(), self.loop).result(PATIENCE):
            assert time.monotonic() < deadline, "it did not become true"
            time.sleep(0.005)

    def dropped(self, reason: str, count: int = 1) -> None:
        """Wait until `count` drops for `reason` have been counted."""
        self.eventually(lambda: self.gateway.drops[reason] >= count)

    def close(self) -> None:
        """Stop it as a signal would, and wait for the end."""
        self.server.stop()
        self._thread.join(PATIENCE * 2)
        self._listening.close()
        assert not self._thread.is_alive()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


_CONTEXT = ssl.create_default_context()


def session(**options: Any) -> httpx.Client:
    """Return a client that keeps its connection."""
    # Making a TLS context for every client would take longer than the tests.
    return httpx.Client(**{"verify": _CONTEXT, "trust_env": False, "timeout": PATIENCE, **options})


def fetch(method: str, url: str, **options: Any) -> httpx.Response:
    """Make one request."""
    with session() as client:
        return client.request(method, url, **options)


KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def handshake(path: str = "/", **headers: str) -> bytes:
    """Return a handshake request; an underscore in a keyword is a dash in the header's name."""
    lines = [f"GET {path} HTTP/1.1"]
    given = {
        "Host": "testserver",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
    }
    given.update({name.replace("_", "-"): value for name, value in headers.items()})
    lines += [f"{name}: {value}" for name, value in given.items() if value]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def frame(
    opcode: int, payload: bytes = b"", *, final: bool = True, mask: bytes | None = b"mask"
) -> bytes:
    """Return a frame as a client sends it; without `mask` as it must not."""
    size = len(payload)
    bit = 0x80 if mask else 0
    first = opcode | (0x80 if final else 0)
    if size < 126:
        head = bytes((first, bit | size))
    elif size < 65536:
        head = struct.pack("!BBH", first, bit | 126, size)
    else:
        head = struct.pack("!BBQ", first, bit | 127, size)
    if mask is None:
        return head + payload
    return head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload))


class RawClient:
    """A TCP client that sends whatever a test wants."""

    def __init__(self, port: int, *, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(("127.0.0.1", port))
        self._buffer = b""

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.socket.sendall(data)

    def read(self, size: int) -> bytes:
        """Return exactly `size` bytes."""
        while len(self._buffer) < size:
            self._more()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def read_head(self) -> bytes:
        """Return the head of a response."""
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return head

    def read_line(self) -> bytes:
        """Return a line, without its end."""
        while b"\r\n" not in self._buffer:
            self._more()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def read_all(self) -> bytes:
        """Return everything until the server ends the connection."""
        while data := self.socket.recv(65536):
            self._buffer += data
        data, self._buffer = self._buffer, b""
        return data

    def _more(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EOFError(f"the server ended the connection after {self._buffer!r}")
        self._buffer += data

    def connect(self, path: str = "/", **headers: str) -> bytes:
        """Send a handshake; returns the head of the response."""
        self.send(handshake(path, **headers))
        return self.read_head()

    def receive(self) -> tuple[int, bytes]:
        """Return opcode and payload of a frame from the server."""
        first, size = self.read(2)
        assert first & 0x80, "the server does not fragment"
        assert not first & 0x70, "the server uses no extension"
        if size == 126:
            size = int.from_bytes(self.read(2), "big")
        elif size == 127:
            size = int.from_bytes(self.read(8), "big")
        return first & 0x0F, self.read(size)

    def receive_close(self) -> tuple[int, str]:
        """Return code and reason of a close frame, skipping what comes before it."""
        while True:
            opcode, payload = self.receive()
            if opcode == 8:
                return int.from_bytes(payload[:2], "big"), payload[2:].decode()

    def ended(self) -> bool:
        """Tell whether the server ends the connection with nothing further."""
        try:
            return self._buffer + self.socket.recv(65536) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
