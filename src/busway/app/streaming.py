"""Bodies of requests and responses that do not fit in one message.

They travel in chunks, a few at a time: neither side holds more than a window of them, however
large the whole is. What is streamed goes out at once, it is not held until the consumer ends.
"""

import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Generator,
    Iterable,
    Iterator,
)
from contextlib import aclosing, closing, suppress
from itertools import count
from typing import Any, NamedTuple

from busway.app.context import current_layer
from busway.app.exceptions import RequestAborted, RequestTimeout
from busway.app.http import ABORT, Headers, response_head
from busway.app.message import Message
from busway.bus.errors import BusError
from busway.bus.layer import ChannelLayer
from busway.bus.names import new_channel
from busway.bus.operations import Operation, Outcome, Send

TIMEOUT = 60.0
"""Seconds to wait for the other side."""

WINDOW = 8
"""Chunks of a response that are under way and not acknowledged."""

CHUNK_SIZE = 256 * 1024
"""Largest chunk, in bytes. Larger ones are split."""


def body_chunks(message: Message, *, timeout: float = TIMEOUT) -> Iterator[bytes]:
    """Yield the body of an `http.request`, part by part as it comes in.

    Raises `RequestTimeout` when the client sends nothing for `timeout` seconds, and
    `RequestAborted` when it has gone, or when a part was lost because it waited too long to be
    read. A consumer that lets them pass answers with 408, or ends the connection.
    """
    layer = _layer_of(message)
    content, channel = _first_chunk(message)
    if content:
        yield content
    if channel is None:
        return
    for number in count(1):
        _, chunk = layer.receive([channel], timeout)
        content, more = _read_chunk(chunk, number, timeout)
        if content:
            yield content
        if not more:
            return


async def abody_chunks(message: Message, *, timeout: float = TIMEOUT) -> AsyncIterator[bytes]:
    """Do `body_chunks` from async code."""
    layer = _layer_of(message)
    content, channel = _first_chunk(message)
    if content:
        yield content
    if channel is None:
        return
    for number in count(1):
        _, chunk = await layer.areceive([channel], timeout)
        content, more = _read_chunk(chunk, number, timeout)
        if content:
            yield content
        if not more:
            return


def stream_response(
    message: Message,
    chunks: Iterable[bytes],
    *,
    status: int = 200,
    headers: Headers = (),
    timeout: float = TIMEOUT,
) -> None:
    """Answer an `http.request` with `chunks`, as fast as the client takes them.

    The status and headers go with the first chunk, so an error before it is still answered with
    500; an empty first chunk sends them alone. A generator is closed in any case.

    Raises `RequestAborted` when the client has gone, or takes nothing for `timeout` seconds. After
    that, and after an error of yours behind the first chunk, its connection is ended: it sees that
    the response is not whole.
    """
    layer = _layer_of(message)
    stream = _ResponseStream(message, status, headers, timeout)
    try:
        with layer.receiver() as receiver, closing(_split(chunks, _chunk_size(layer))) as parts:
            for content in parts:
                outcome = receiver.exchange(*stream.put(content), wake_below=1, hold=False)
                while stream.is_waiting(outcome):
                    if not outcome.deliveries:
                        receiver.wait(stream.patience())
                    outcome = receiver.exchange(*stream.again(), wake_below=1, hold=False)
    except Exception as error:
        if stream.leaves_client(error):
            with suppress(BusError):
                message.reply_to().send({**ABORT})
        raise


async def astream_response(
    message: Message,
    chunks: AsyncIterable[bytes] | Iterable[bytes],
    *,
    status: int = 200,
    headers: Headers = (),
    timeout: float = TIMEOUT,
) -> None:
    """Do `stream_response` from async code; `chunks` may be async too."""
    layer = _layer_of(message)
    stream = _ResponseStream(message, status, headers, timeout)
    try:
        async with (
            layer.receiver() as receiver,
            aclosing(_asplit(chunks, _chunk_size(layer))) as parts,
        ):
            async for content in parts:
                request = stream.put(content)
                outcome = await receiver.aexchange(*request, wake_below=1, hold=False)
                while stream.is_waiting(outcome):
                    if not outcome.deliveries:
                        await receiver.async_wait(stream.patience())
                    request = stream.again()
                    outcome = await receiver.aexchange(*request, wake_below=1, hold=False)
    except Exception as error:
        if stream.leaves_client(error):
            with suppress(BusError):
                await message.reply_to().asend({**ABORT})
        raise


class _Request(NamedTuple):
    """The arguments of an exchange."""

    operations: list[Operation]
    done: tuple[()]
    channels: list[str]
    limit: int


class _ResponseStream:
    """The flow control of one response. No I/O."""

    def __init__(self, message: Message, status: int, headers: Headers, timeout: float) -> None:
        self._reply_channel = message.reply_to().name
        self._ack_channel = new_channel("http.ack?")
        self._head = response_head(status, headers)
        self._timeout = timeout
        self._deadline = 0.0
        self._unsent: list[Operation] = []
        self._unacknowledged = 0
        self._has_begun = self._ended = False

    def put(self, content: bytes | None) -> _Request:
        """Return the exchange that sends a chunk; None is the end."""
        chunk = {**self._head, "content": content or b"", "more_content": content is not None}
        self._head = {}
        self._has_begun = True
        if content is None:
            self._ended = True
        else:
            chunk["ack_channel"] = self._ack_channel
            self._unacknowledged += 1
        self._unsent = [Send(self._reply_channel, chunk)]
        self._deadline = time.monotonic() + self._timeout
        return self.again()

    def again(self) -> _Request:
        """Return the exchange that sends what found no room, and sees what the client has taken."""
        return _Request(self._unsent, (), [self._ack_channel], WINDOW)

    def is_waiting(self, outcome: Outcome) -> bool:
        """Note what an exchange gave. True: wait, exchange `again`; False: the next chunk can go.

        Raises `RequestAborted` when the client has gone, or has taken nothing for too long.
        """
        for delivery in outcome.deliveries:
            if delivery.message.get("disconnected"):
                raise RequestAborted
            self._unacknowledged -= delivery.message.get("acked", 0)
            self._deadline = time.monotonic() + self._timeout
        self._unsent = [refusal.operation for refusal in outcome.refused]
        full = self._unacknowledged >= WINDOW and not self._ended
        if not self._unsent and not full:
            return False
        if time.monotonic() >= self._deadline:
            raise RequestAborted(f"the client took nothing for {self._timeout} s", connected=True)
        return True

    def leaves_client(self, error: Exception) -> bool:
        """Tell whether `error` leaves the client with half a response."""
        is_gone = isinstance(error, RequestAborted) and not error.connected
        return self._has_begun and not is_gone

    def patience(self) -> float:
        """Return for how many seconds to wait for the client at most."""
        return max(0.0, self._deadline - time.monotonic())


def _layer_of(message: Message) -> ChannelLayer:
    return message.channel_layer or current_layer()


def _chunk_size(layer: ChannelLayer) -> int:
    return min(CHUNK_SIZE, layer.message_size // 2)


def _first_chunk(message: Message) -> tuple[bytes, str | None]:
    """Return what a request's message has of its body, and where the rest comes."""
    return message.get("body", b""), message.get("body_channel")


def _read_chunk(chunk: dict[str, Any] | None, number: int, timeout: float) -> tuple[bytes, bool]:
    """Return the content of chunk `number`, and whether there are more."""
    if chunk is None:
        raise RequestTimeout(timeout)
    if chunk.get("closed"):
        raise RequestAborted
    if chunk.get("number", number) != number:  # servers of ASGI 1 do not number them
        reason = "a part of its body was lost: it waited too long to be read"
        raise RequestAborted(reason, connected=True)
    return chunk.get("content", b""), bool(chunk.get("more_content"))


def _split(chunks: Iterable[bytes], size: int) -> Generator[bytes | None, None, None]:
    """Yield parts of at most `size` bytes, then None. Empty chunks vanish, but for the first."""
    try:
        first = True
        for chunk in chunks:
            yield from _parts(chunk, size, empty=first)
            first = False
        yield None
    finally:
        if isinstance(chunks, Generator):
            chunks.close()


async def _asplit(
    chunks: AsyncIterable[bytes] | Iterable[bytes], size: int
) -> AsyncGenerator[bytes | None, None]:
    """Do `_split` for an iterable of either kind."""
    if isinstance(chunks, Iterable):
        with closing(_split(chunks, size)) as parts:
            for part in parts:
                yield part
        return
    try:
        first = True
        async for chunk in chunks:
            for part in _parts(chunk, size, empty=first):
                yield part
            first = False
        yield None
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()


def _parts(chunk: bytes, size: int, *, empty: bool) -> Iterator[bytes]:
    if len(chunk) <= size:
        if chunk or empty:
            yield chunk
        return
    for start in range(0, len(chunk), size):
        yield bytes(chunk[start : start + size])
