"""Django's request, made of an `http.request` message."""

from collections.abc import Iterator
from io import SEEK_END, BytesIO
from tempfile import SpooledTemporaryFile
from typing import IO, Any, cast

from django.conf import settings
from django.http import HttpRequest, QueryDict, UnreadablePostError, parse_cookie
from django.utils.functional import cached_property

from busway.app.exceptions import RequestAborted, RequestTimeout, ResponseLater
from busway.app.message import Message
from busway.app.streaming import TIMEOUT, abody_chunks, body_chunks


class AsgiRequest(HttpRequest):
    """A request that came over the bus.

    `message` is the message, `reply_channel` the channel that the response goes to: a view that
    keeps it and raises `AsgiRequest.ResponseLater` lets others answer.
    """

    body_receive_timeout = TIMEOUT
    """Seconds to wait for the next part of a body."""

    ResponseLater = ResponseLater

    def __init__(self, message: Message, body: IO[bytes] | None = None) -> None:
        """Take an `http.request` message, and its body where that was received already.

        Nothing is waited for: any other body is read when it is used.
        """
        # `HttpRequest.__init__` would make what is made here when it is first used.
        content = message.content
        self.resolver_match = None
        self.message = message
        self.script_name = script_name(content)
        self.path_info = path_info(content["path"], self.script_name)
        self.path = f"{self.script_name}{self.path_info}"
        self.method = content["method"].upper()
        self.META = self._meta(content)
        if "CONTENT_TYPE" in self.META:
            self._set_content_type_params(self.META)  # type: ignore[attr-defined]  # no stub
        else:
            self.content_type, self.content_params = "", {}
        self._post_parse_error = False
        self._read_started = False
        if body is not None:
            self._stream: Any = body
            self.META.setdefault("CONTENT_LENGTH", str(_length_of(body)))
        elif "body_channel" in content:
            self._stream = BodyStream(message, self.body_receive_timeout)
        else:
            whole: bytes = content.get("body", b"")
            self._stream = BytesIO(whole)
            # Requests in chunks do not say how long they are; forms are not read without.
            self.META.setdefault("CONTENT_LENGTH", str(len(whole)))

    def _meta(self, content: dict[str, Any]) -> dict[str, Any]:
        meta: dict[str, Any] = {
            "REQUEST_METHOD": self.method,
            "QUERY_STRING": content.get("query_string", b"").decode("latin-1"),
            "SCRIPT_NAME": self.script_name,
            "PATH_INFO": self.path_info,
            "SERVER_PROTOCOL": f"HTTP/{content.get('http_version', '1.1')}",
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
        }
        client, server = content.get("client"), content.get("server")
        if client:
            meta["REMOTE_ADDR"] = meta["REMOTE_HOST"] = client[0]
            meta["REMOTE_PORT"] = client[1]
        meta["SERVER_NAME"], meta["SERVER_PORT"] = (
            (server[0], str(server[1])) if server else ("unknown", "0")
        )
        for name, value in content.get("headers", ()):
            key = _meta_keys[name]
            text = value.decode("latin-1")
            if key in meta:
                # The same header again: RFC 9110, section 5.3; cookies: RFC 6265, section 5.4.
                text = f"{meta[key]}{'; ' if key == 'HTTP_COOKIE' else ','}{text}"
            meta[key] = text
        return meta

    @cached_property
    def reply_channel(self) -> Any:
        """The channel that the response goes to, if the message names one."""
        return self.message.reply_channel

    def _get_scheme(self) -> str:
        return cast("str", self.message.content.get("scheme") or "http")

    @cached_property
    def GET(self) -> QueryDict:  # type: ignore[override]  # noqa: N802  (Django's name)
        """The parameters of the query."""
        return QueryDict(self.message.content.get("query_string", b""), encoding=self.encoding)

    @cached_property
    def COOKIES(self) -> dict[str, str]:  # type: ignore[override]  # noqa: N802
        """The cookies."""
        return parse_cookie(self.META.get("HTTP_COOKIE", ""))

    def _get_post(self) -> QueryDict:
        if not hasattr(self, "_post"):
            self._load_post_and_files()
        return self._post

    def _set_post(self, post: QueryDict) -> None:
        self._post = post

    def _get_files(self) -> Any:
        if not hasattr(self, "_files"):
            self._load_post_and_files()
        return self._files  # type: ignore[attr-defined]  # Django sets it

    def _load_post_and_files(self) -> None:
        try:
            super()._load_post_and_files()
        except UnreadablePostError:
            # Files would stay on disk until this request is garbage.
            for handler in self.upload_handlers:
                handler.upload_interrupted()
            raise

    def read(self, *args: Any, **kwargs: Any) -> bytes:
        """Read from the body; see `BodyStream.read`."""
        self._read_started = True
        return cast("bytes", self._stream.read(*args, **kwargs))

    def readline(self, *args: Any, **kwargs: Any) -> bytes:
        """Read a line of the body; see `BodyStream.readline`."""
        self._read_started = True
        return cast("bytes", self._stream.readline(*args, **kwargs))

    POST = property(_get_post, _set_post)
    FILES = property(_get_files)

    @property
    def failure(self) -> RequestTimeout | RequestAborted | None:
        """Why the body could not be read to its end, if so."""
        return self._stream.failure if isinstance(self._stream, BodyStream) else None


async def receive_body(message: Message) -> IO[bytes] | None:
    """Return a file with the body of a request; None for one that is in the message whole.

    For code on an event loop, which must not wait for a client: views read as if from a file.
    Bodies over FILE_UPLOAD_MAX_MEMORY_SIZE are on disk. Raises `RequestTimeout` and
    `RequestAborted`.
    """
    if "body_channel" not in message.content:
        return None
    body = SpooledTemporaryFile(  # noqa: SIM115  (who calls closes it)
        max_size=settings.FILE_UPLOAD_MAX_MEMORY_SIZE or 1,  # 0 would be no limit
        dir=settings.FILE_UPLOAD_TEMP_DIR,
    )
    try:
        async for chunk in abody_chunks(message, timeout=AsgiRequest.body_receive_timeout):
            body.write(chunk)
    except BaseException:
        body.close()
        raise
    body.seek(0)
    return body


def _length_of(body: IO[bytes]) -> int:
    length = body.seek(0, SEEK_END)
    body.seek(0)
    return length


class BodyStream:
    """A body that comes in parts, as a file to read once: no more than a window is in memory."""

    def __init__(self, message: Message, timeout: float) -> None:
        """Read the body of `message`; `timeout` is how many seconds one part may take."""
        self._chunks: Iterator[bytes] = body_chunks(message, timeout=timeout)
        self._left = b""
        self.failure: RequestTimeout | RequestAborted | None = None

    def read(self, size: int | None = -1) -> bytes:
        """Return up to `size` bytes, less only at the end; -1 or None: everything.

        Raises `UnreadablePostError` when the client is too slow, or has gone: see `failure`.
        """
        if size is None or size < 0:
            whole = [self._left, *iter(self._next, b"")]
            self._left = b""
            return b"".join(whole)
        parts: list[bytes] = []
        while size:
            chunk = self._left or self._next()
            if not chunk:
                break
            parts.append(chunk[:size])
            self._left = chunk[size:]
            size -= len(parts[-1])
        return b"".join(parts)

    def readline(self, size: int | None = -1) -> bytes:
        """Return the next line, or its first `size` bytes."""
        limit = -1 if size is None else size
        parts: list[bytes] = []
        while limit:
            chunk = self._left or self._next()
            end = chunk.find(b"\n") + 1 or len(chunk)
            end = end if limit < 0 else min(end, limit)
            parts.append(chunk[:end])
            self._left = chunk[end:]
            limit -= end if limit > 0 else 0
            if not chunk or parts[-1].endswith(b"\n"):
                break
        return b"".join(parts)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    def seekable(self) -> bool:
        """Tell whether it can be read again: no. Django 6.1 asks."""
        return False

    def close(self) -> None:
        """Read no more."""
        self._left = b""
        self._chunks = iter(())

    def _next(self) -> bytes:
        try:
            return next(self._chunks, b"")
        except (RequestTimeout, RequestAborted) as error:
            self.failure = error
            raise UnreadablePostError(str(error)) from error


def script_name(content: dict[str, Any]) -> str:
    """Return where the project is mounted, without a slash at the end: empty for the root."""
    name: str = settings.FORCE_SCRIPT_NAME or content.get("root_path", "")
    return name.rstrip("/")


def path_info(path: str, prefix: str) -> str:
    """Return `path` below `prefix`; servers and proxies differ in whether it has the prefix."""
    if not prefix:
        return path or "/"
    return path[len(prefix) :] or "/" if f"{path}/".startswith(f"{prefix}/") else path


class _MetaKeys(dict[bytes, str]):
    """Name of a header → its key in META."""

    def __missing__(self, name: bytes) -> str:
        key = name.decode("latin-1").upper().replace("-", "_")
        if name not in (b"content-length", b"content-type"):
            key = f"HTTP_{key}"
        if len(name) <= 64:  # names of clients' making are not to fill the memory
            if len(self) >= 1000:
                self.clear()
            self[name] = key
        return key


_meta_keys = _MetaKeys()
