"""HTTP/1.1 requests of one client, parsed as they arrive, however they are cut.

RFC 9112 on the parser `httptools`, with a limit on heads and trailers. No I/O.
"""

from typing import NoReturn

import msgspec
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from busway.interfaces.web.requests import BadRequest

_MALFORMED = BadRequest(400, "The request is malformed.")
_HEAD_TOO_LARGE = BadRequest(431, "The request's head is too large.")

_NO_PROXY = BadRequest(501, "This server is no proxy.")
_UNKNOWN_VERSION = BadRequest(505, "This server speaks HTTP/1.1.")

_FRAMING = (b"content-length", b"transfer-encoding")


class _NotServedError(Exception):
    """Ends the parsing of a request that has a `failure`. One each: they keep what they passed."""


class Request(msgspec.Struct, gc=False, eq=False):
    """A request whose head is there, and whose body may still be arriving."""

    method: str
    target: bytes
    version: str
    headers: list[tuple[bytes, bytes]]
    """Names in lower case."""
    keep_alive: bool
    """Whether the client means to send another request."""
    expects_continue: bool = False
    complete: bool = False
    """Whether all of the body has come."""
    is_wanted: bool = True
    """Whether the body is kept, for `take`."""
    size: int = 0
    """Bytes of the body that wait to be taken."""
    _pieces: list[bytes] = []

    def add(self, piece: bytes) -> None:
        """Take in a further piece of the body."""
        if self.is_wanted:
            self._pieces.append(piece)
            self.size += len(piece)

    def take(self, limit: int) -> tuple[bytes, bool]:
        """Return up to `limit` bytes of the body, and whether anything follows them."""
        if not self._pieces:
            return b"", not self.complete
        content = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces = [content[limit:]] if len(content) > limit else []
        self.size = max(len(content) - limit, 0)
        return content[:limit], self.size > 0 or not self.complete

    def discard(self) -> None:
        """Keep nothing of the body, neither what has come nor what follows."""
        self.is_wanted = False
        self._pieces = []
        self.size = 0


class RequestReader:
    """Turns the bytes of one client into requests.

    After a `failure`, and behind a handshake, what comes is not looked at any more.
    """

    __slots__ = (
        "_chunk",
        "_expects_continue",
        "_found",
        "_head_size",
        "_headers",
        "_in_trailers",
        "_is_closed",
        "_is_repeated",
        "_limit",
        "_parser",
        "_url",
        "failure",
        "handshake",
        "in_head",
        "request",
        "rest",
    )

    def __init__(self, limit: int) -> None:
        """Read requests whose heads have up to `limit` bytes."""
        self._limit = limit
        self._parser = HttpRequestParser(self)
        self._is_closed = False
        # What comes behind a request that says "close" is not this one's fault.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._found: list[Request] = []
        self._url = self._chunk = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._expects_continue = False
        self.in_head = False
        """Whether a head has come in part."""
        self._in_trailers = False
        """Whether the next byte belongs to a chunk or, behind the last one, to trailers."""
        self._head_size = 0
        self._is_repeated = False
        """Whether the parser has a head before it that was read already."""
        self.request = Request("", b"", "", [], keep_alive=True, complete=True)
        """The last one whose head has come; at first one that never was."""
        self.failure: BadRequest | None = None
        """Why nothing more can be understood."""
        self.handshake: Request | None = None
        """A request that asks for a WebSocket."""
        self.rest = b""
        """What came behind it."""

    @property
    def in_body(self) -> bool:
        """Whether a request has come in part, but its head whole."""
        return not self.request.complete

    def close(self) -> None:
        """Read no more. The parser and this object hold each other otherwise."""
        if not self._is_closed:
            self._is_closed = True
            del self._parser

    def feed(self, data: bytes) -> list[Request]:
        """Return the requests whose heads `data` completes; bodies go to `request`."""
        if self._is_closed:
            return []
        found = self._found = []
        self._chunk = data
        try:
            self._parse(data)
        except HttpParserError:
            self._fail(_MALFORMED)
        self._chunk = b""
        if not (self.in_head or self._in_trailers):
            self._head_size = 0
        else:
            self._head_size += len(data)
            if self._head_size > self._limit:
                self._fail(_HEAD_TOO_LARGE)
        return found

    def _parse(self, data: bytes | memoryview) -> None:
        while True:
            try:
                self._parser.feed_data(data)
            except HttpParserUpgrade as upgrade:
                data = memoryview(data)[upgrade.args[0] :]
            else:
                return
            if self.handshake is not None:
                self.rest = bytes(data)
                self.close()
                return
            # No protocol that we know: the client may ask, and go on with HTTP (RFC 9110, 7.8).
            self._read_body()

    def _read_body(self) -> None:
        """Have the body of the last request read: the parser believes that it has none."""
        framing = [pair for pair in self.request.headers if pair[0] in _FRAMING]
        if framing:
            self.request.complete = False
            self._is_repeated = True
            lines = b"".join([b"%s: %s\r\n" % pair for pair in framing])
            self._parser.feed_data(b"POST / HTTP/1.1\r\n%s\r\n" % lines)
            self._is_repeated = False

    def _fail(self, why: BadRequest) -> None:
        self.failure = self.failure or why
        self.in_head = self._in_trailers = False
        self.close()

    # -- what httptools calls -----------------------------------------------------------

    def on_message_begin(self) -> None:
        """See httptools."""
        self._url = b""
        self._headers = []
        self._expects_continue = False
        self.in_head = True

    def on_url(self, url: bytes) -> None:
        """See httptools: a piece of the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools. Trailers come here as well, but are no headers (RFC 9110, 6.5.1)."""
        if self._in_trailers:
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self._expects_continue = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """See httptools."""
        parser, headers = self._parser, self._headers
        self.in_head = False
        if self._is_repeated:
            return
        most = len(self._chunk)
        if self._head_size > 0:
            most += self._head_size
        if most > self._limit and self._measure() > self._limit:
            self._turn_away(_HEAD_TOO_LARGE)
        self._head_size = -len(self._chunk)  # a head behind it has not all of what came
        version = parser.get_http_version()
        is_old = version == "1.0"
        keep_alive = not is_old and parser.should_keep_alive()
        method = parser.get_method().decode()
        if version not in ("1.0", "1.1"):
            self._turn_away(_UNKNOWN_VERSION)
        if method == "CONNECT":
            self._turn_away(_NO_PROXY)
        # HTTP/1.0 knows neither Expect nor Upgrade (RFC 9110, 7.8 and 10.1.1).
        expects_continue = self._expects_continue and not is_old
        request = Request(method, self._url, version, headers, keep_alive, expects_continue)
        self.request = request
        if parser.should_upgrade() and not is_old and _asks_for_websocket(headers):
            request.discard()
            self.handshake = request
        else:
            self._found.append(request)

    def on_chunk_header(self) -> None:
        """See httptools: data of a chunk follows or, behind the last one, trailers."""
        self._in_trailers = True
        self._head_size = -len(self._chunk)

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self._in_trailers = False
        self.request.add(body)

    def on_chunk_complete(self) -> None:
        """See httptools: also the end of the trailers."""
        self._in_trailers = False
        self._head_size = -len(self._chunk)

    def on_message_complete(self) -> None:
        """See httptools."""
        self.request.complete = True

    def _turn_away(self, why: BadRequest) -> NoReturn:
        self.failure = why
        raise _NotServedError

    def _measure(self) -> int:
        headers = self._headers
        return len(self._url) + sum(len(name) + len(value) + 4 for name, value in headers)


def _asks_for_websocket(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(name == b"upgrade" and value.lower() == b"websocket" for name, value in headers)
