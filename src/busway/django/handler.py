"""Django's views over the bus: a request's message in, the messages of its response out."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import nullcontext
from typing import IO, Any

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async
from django.core import signals
from django.core.handlers.base import BaseHandler
from django.dispatch import Signal
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    StreamingHttpResponse,
)
from django.http.response import HttpResponseBase, ResponseHeaders
from django.urls import set_script_prefix
from django.utils.functional import cached_property

from busway.app.context import current_layer
from busway.app.exceptions import ConsumerEnding, RequestAborted, RequestTimeout
from busway.app.http import answer, response_head
from busway.app.message import Message
from busway.app.streaming import CHUNK_SIZE, astream_response, stream_response
from busway.django import database
from busway.django.requests import AsgiRequest, receive_body

__all__ = ["AsgiHandler", "AsgiRequest", "AsyncAsgiHandler", "ViewConsumer"]

Headers = list[tuple[str, str]]

_BODILESS = (204, 304)

_ENDINGS = (ConsumerEnding, RequestTimeout, RequestAborted)


class _Ended(HttpResponse):
    """Carries through the middleware what a view raised for the worker to see."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


class AsgiHandler(BaseHandler):
    """Answers `http.request` messages with the project's middleware and views.

    Everything runs in the thread that calls it; views that are `async def` run too, but without
    the worker's event loop: see `AsyncAsgiHandler`.
    """

    request_class = AsgiRequest
    chunk_size = CHUNK_SIZE
    """Bytes of a response in one message. Longer responses are sent in parts, as the client
    takes them."""
    is_async = False

    def __init__(self) -> None:
        """Load the middleware of the settings."""
        super().__init__()
        self.load_middleware(is_async=self.is_async)

    def __call__(self, message: Message) -> None:
        """Answer `message`.

        Raises the endings of consumers that a view raised (`ResponseLater`, `ConsumeLater`), and
        `RequestTimeout` or `RequestAborted` when the client was too slow, or has gone.
        """
        database.begin_request()
        request = self._begin(message)
        response = self.get_response(request)
        try:
            self._check(request, response)
            self._send(message, response)
        finally:
            try:
                response.close()
            finally:
                database.end_request(request)

    def process_exception_by_middleware(
        self, exception: Exception, request: HttpRequest
    ) -> HttpResponse:
        """Let what a consumer may raise pass the middleware; see `BaseHandler` for the rest."""
        failure = request.failure if isinstance(request, AsgiRequest) else None
        if failure is not None or isinstance(exception, _ENDINGS):
            return _Ended(failure or exception)
        return super().process_exception_by_middleware(exception, request)

    @classmethod
    def encode_response(cls, response: HttpResponseBase) -> Iterator[dict[str, Any]]:
        """Yield the messages of a response, to be sent to a reply channel.

        There is no flow control: for large or endless ones let the handler answer.
        """
        head = response_head(response.status_code, _headers(response))
        parts = iter(_parts(response, cls.chunk_size))
        part = next(parts, b"")
        for following in parts:
            yield {**head, "content": part, "more_content": True}
            head, part = {}, following
        yield {**head, "content": part, "more_content": False}

    def _begin(self, message: Message, body: IO[bytes] | None = None) -> AsgiRequest:
        signals.request_started.send(sender=type(self), message=message)
        return self._request(message, body)

    def _request(self, message: Message, body: IO[bytes] | None) -> AsgiRequest:
        request = self.request_class(message, body)
        set_script_prefix(f"{request.script_name}/")
        return request

    def _check(self, request: AsgiRequest, response: HttpResponseBase) -> None:
        """Raise what the worker is to see."""
        if isinstance(response, _Ended):
            raise response.error
        if request.failure is not None:
            raise request.failure

    def _send(self, message: Message, response: HttpResponseBase) -> None:
        reply = self._whole(message, response)
        if reply is not None:
            if reply["content"].__class__ is bytes:
                answer(message, reply)
            else:  # a response class of the project's own made it: it has to be checked
                message.reply_to().send(reply)
            return
        if isinstance(response, StreamingHttpResponse) and response.is_async:
            parts: Iterable[bytes] = _drive(_read_to_the_end(response))
        else:
            parts = _parts(response, self._part_size(message))
        stream_response(message, parts, status=response.status_code, headers=_headers(response))

    def _whole(self, message: Message, response: HttpResponseBase) -> dict[str, Any] | None:
        """Return the response as one message, if it is short, or only its head is sent."""
        is_head = message.content["method"] == "HEAD"
        content, length = b"", None
        if not response.streaming:
            content = content_of(response)
            length = len(content)
        if not is_head and (length is None or length > self._part_size(message)):
            return None
        reply = response_head(response.status_code, _headers(response, length))
        reply["content"] = b"" if is_head else content
        reply["more_content"] = False
        return reply

    def _part_size(self, message: Message) -> int:
        """Return how much content one message may have, in bytes: the layer has a limit too."""
        layer = message.channel_layer or current_layer()
        return min(self.chunk_size, layer.message_size // 2)


class AsyncAsgiHandler(AsgiHandler):
    """Answers `http.request` messages on the event loop, for views that are `async def`.

    Middleware that is not async, and sync views, run in a thread, as under Django's own ASGI.
    """

    is_async = True

    async def handle(self, message: Message) -> None:
        """Do `__call__` from async code. The whole of a body is received before the view runs."""
        async with ThreadSensitiveContext() as context:
            body = await receive_body(message)
            with body or nullcontext():
                await self._handle(message, body, context)

    async def _handle(
        self, message: Message, body: IO[bytes] | None, context: ThreadSensitiveContext
    ) -> None:
        request = await self._abegin(message, body)
        response = await self.get_response_async(request)
        try:
            self._check(request, response)
            await self._asend(message, response)
        finally:
            # Its database connections, if any, are in the thread of this context, and end with it.
            has_thread = context in SyncToAsync.context_to_thread_executor
            if has_thread or _has_async_receivers(signals.request_finished):
                await sync_to_async(_close)(response)
            else:
                response.close()

    async def _abegin(self, message: Message, body: IO[bytes] | None) -> AsgiRequest:
        if _has_async_receivers(signals.request_started):
            await signals.request_started.asend(sender=type(self), message=message)
            return self._request(message, body)
        return self._begin(message, body)

    async def _asend(self, message: Message, response: HttpResponseBase) -> None:
        reply = self._whole(message, response)
        if reply is not None:
            await message.reply_to().asend(reply)
            return
        chunks: AsyncIterable[bytes] | Iterable[bytes]
        if not isinstance(response, StreamingHttpResponse):
            chunks = _parts(response, self._part_size(message))
        elif response.is_async:
            chunks = _read_to_the_end(response)
        else:
            chunks = _read_in_thread(iter(_parts(response, self._part_size(message))))
        await astream_response(
            message, chunks, status=response.status_code, headers=_headers(response)
        )


class ViewConsumer:
    """Dispatches requests to Django's views; the default for `http.request`.

    In a routing: `route("http.request", ViewConsumer())`.
    """

    handler_class: type[AsgiHandler] = AsgiHandler
    is_unframed = True  # Django has signals of its own around requests

    @cached_property
    def handler(self) -> AsgiHandler:
        """The handler; the middleware is loaded when it is first used."""
        return self.handler_class()

    def __call__(self, message: Message) -> None:
        """Answer `message`."""
        self.handler(message)

    def claims(self, path: str) -> bool:
        """Tell whether this is to answer at `path`, even if an async view would."""
        return False


def content_of(response: HttpResponseBase) -> bytes:
    """Return the content of a response that is in memory."""
    content: bytes = response.content  # type: ignore[attr-defined]  # all but streaming ones
    return content


def _headers(response: HttpResponseBase, length: int | None = None) -> Headers:
    """Return the headers of a response; `length` is that of its content, where it is known."""
    stored = _stored(response)
    headers: Headers = list(stored.values())
    if response.status_code in _BODILESS:
        # CommonMiddleware says 0 here, which HTTP forbids (RFC 9110, section 8.6).
        headers = [pair for pair in headers if pair[0].lower() != "content-length"]
    elif length is not None and "content-length" not in stored:
        headers.append(("Content-Length", str(length)))
    if response.cookies:
        headers += [("Set-Cookie", morsel.OutputString()) for morsel in response.cookies.values()]
    return headers


def _stored(response: HttpResponseBase) -> dict[str, tuple[str, str]]:
    """Return name in lower case → name and value of a response's headers.

    The `items()` of Django's own kind are four generators deep.
    """
    if response.headers.__class__ is not ResponseHeaders:
        return {name.lower(): (name, value) for name, value in response.items()}
    stored: dict[str, tuple[str, str]] = response.headers._store  # noqa: SLF001
    return stored


def _parts(response: HttpResponseBase, size: int) -> Iterable[bytes]:
    """Return the content of a response in parts of up to `size` bytes, or as they come."""
    if isinstance(response, FileResponse):
        response.block_size = size  # files come in 4 KiB otherwise
    if isinstance(response, StreamingHttpResponse):
        return response.streaming_content  # type: ignore[return-value]
    content = content_of(response)
    return (content[start : start + size] for start in range(0, len(content) or 1, size))


def _close(response: HttpResponseBase) -> None:
    """Close a response, and the connections of a thread that serves no other request."""
    try:
        response.close()
    finally:
        database.close_own_connections()


def _has_async_receivers(signal: Signal) -> bool:
    """Tell whether sending needs a thread: a hop that is not made for nothing."""
    return any(receiver[-1] is True for receiver in signal.receivers)


def _drive(chunks: AsyncGenerator[bytes, None]) -> Iterator[bytes]:
    """Yield what an async stream gives, in a thread that has no event loop."""
    with asyncio.Runner() as runner:
        try:
            while (chunk := runner.run(_next(chunks))) is not None:
                yield chunk
        finally:
            runner.run(_end(chunks))


async def _next(chunks: AsyncIterator[bytes]) -> bytes | None:
    return await anext(chunks, None)


async def _end(chunks: AsyncGenerator[bytes, None]) -> None:
    await chunks.aclose()


async def _read_to_the_end(response: StreamingHttpResponse) -> AsyncGenerator[bytes, None]:
    """Yield what an async stream gives; it is closed in any case, and not when it is garbage."""
    stream = getattr(response, "_iterator", None)  # the response itself closes no async stream
    try:
        async for chunk in response:
            yield chunk
    finally:
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()


async def _read_in_thread(chunks: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Yield what a sync stream gives, which may read files and the database."""
    following = sync_to_async(_following)
    while (chunk := await following(chunks)) is not None:
        yield chunk


def _following(chunks: Iterator[bytes]) -> bytes | None:
    return next(chunks, None)
