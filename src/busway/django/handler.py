"""Django's views over the bus: a request's message in, the messages of its response out."""

from collections.abc import AsyncIterable, Iterable, Iterator
from contextlib import nullcontext
from typing import IO, Any
from urllib.parse import urlparse

from asgiref.sync import ThreadSensitiveContext
from django.conf import settings
from django.contrib.staticfiles.handlers import StaticFilesHandlerMixin
from django.core import signals
from django.core.exceptions import SuspiciousOperation
from django.core.handlers.base import BaseHandler
from django.core.handlers.exception import response_for_exception
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    StreamingHttpResponse,
    UnreadablePostError,
)
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix

from busway.app.exceptions import ConsumerEnding, RequestAborted, RequestTimeout
from busway.app.http import response_head
from busway.app.message import Message
from busway.app.streaming import CHUNK_SIZE, astream_response, stream_response
from busway.django.requests import AsgiRequest, receive_body

Headers = list[tuple[str, str]]

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
        request = self._begin(message)
        response = self.get_response(request)
        try:
            self._check(request, response)
            self._send(message, response)
        finally:
            response.close()

    def process_exception_by_middleware(
        self, exception: Exception, request: HttpRequest
    ) -> HttpResponse:
        """Let what a consumer may raise pass the middleware; see `BaseHandler` for the rest."""
        if isinstance(exception, UnreadablePostError) and isinstance(request, AsgiRequest):
            exception = request.failure or exception
        if isinstance(exception, _ENDINGS):
            return _Ended(exception)
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
        root = settings.FORCE_SCRIPT_NAME or message.get("root_path", "")
        set_script_prefix(f"{root.rstrip('/')}/")
        signals.request_started.send(sender=type(self), message=message)
        return self.request_class(message, body)

    def _check(self, request: AsgiRequest, response: HttpResponseBase) -> None:
        """Raise what the worker is to see."""
        if isinstance(response, _Ended):
            raise response.error
        if request.failure is not None:
            raise request.failure

    def _send(self, message: Message, response: HttpResponseBase) -> None:
        if isinstance(response, StreamingHttpResponse):
            if response.is_async:
                response = _read_in_thread(response)
            self._stream(message, response)
        elif len(content_of(response)) > self.chunk_size:
            self._stream(message, response)
        else:
            message.reply_to().send(whole(response))

    def _stream(self, message: Message, response: HttpResponseBase) -> None:
        stream_response(
            message,
            _parts(response, self.chunk_size),
            status=response.status_code,
            headers=_headers(response),
        )


class AsyncAsgiHandler(AsgiHandler):
    """Answers `http.request` messages on the event loop, for views that are `async def`.

    Middleware that is not async, and sync views, run in a thread, as under Django's own ASGI.
    """

    is_async = True

    async def handle(self, message: Message) -> None:
        """Do `__call__` from async code. The whole of a body is received before the view runs."""
        async with ThreadSensitiveContext():
            body = await receive_body(message)
            with body or nullcontext():
                await self._handle(message, body)

    async def _handle(self, message: Message, body: IO[bytes] | None) -> None:
        request = self._begin(message, body)
        response = await self.get_response_async(request)
        try:
            self._check(request, response)
            await self._asend(message, response)
        finally:
            response.close()

    async def _asend(self, message: Message, response: HttpResponseBase) -> None:
        chunks: AsyncIterable[bytes] | Iterable[bytes]
        if isinstance(response, StreamingHttpResponse) and response.is_async:
            chunks = response.streaming_content
        elif (
            isinstance(response, StreamingHttpResponse)
            or len(content_of(response)) > self.chunk_size
        ):
            chunks = _parts(response, self.chunk_size)
        else:
            await message.reply_to().asend(whole(response))
            return
        await astream_response(
            message, chunks, status=response.status_code, headers=_headers(response)
        )


class StaticFilesHandler(AsgiHandler):
    """Answers requests for static files too, from where they are in the applications.

    For development: `runserver` uses it while DEBUG is on.
    """

    def __init__(self) -> None:
        """Take STATIC_URL from the settings."""
        super().__init__()
        self._files = StaticFilesHandlerMixin()
        self._files.base_url = urlparse(self._files.get_base_url())

    def get_response(self, request: HttpRequest) -> HttpResponseBase:
        """Return a static file, or what the views answer."""
        if self._files._should_handle(request.path):  # noqa: SLF001  (there is no other way)
            try:
                return self._files.get_response(request)
            except SuspiciousOperation as error:  # a path that leads out of the directories
                return response_for_exception(request, error)
        return super().get_response(request)


def whole(response: HttpResponseBase) -> dict[str, Any]:
    """Return a response that is in memory as one message."""
    content = content_of(response)
    headers = _headers(response)
    if not response.has_header("Content-Length") and response.status_code not in (204, 304):
        headers.append(("Content-Length", str(len(content))))
    head = response_head(response.status_code, headers)
    return {**head, "content": content, "more_content": False}


def content_of(response: HttpResponseBase) -> bytes:
    """Return the content of a response that is in memory."""
    content: bytes = response.content  # type: ignore[attr-defined]  # all but streaming ones
    return content


def _headers(response: HttpResponseBase) -> Headers:
    headers: Headers = [*response.headers.items()]
    headers += [("Set-Cookie", morsel.OutputString()) for morsel in response.cookies.values()]
    return headers


def _parts(response: HttpResponseBase, size: int) -> Iterable[bytes]:
    """Return the content of a response in parts of up to `size` bytes, or as they come."""
    if isinstance(response, FileResponse):
        response.block_size = size  # files come in 4 KiB otherwise
    if isinstance(response, StreamingHttpResponse):
        return response.streaming_content  # type: ignore[return-value]
    content = content_of(response)
    return (content[start : start + size] for start in range(0, len(content) or 1, size))


def _read_in_thread(response: StreamingHttpResponse) -> StreamingHttpResponse:
    """Let Django turn an async stream into a sync one, where there is no event loop."""
    response.streaming_content = iter(response)
    return response
