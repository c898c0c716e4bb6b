"""An HTTP/1.1 response as bytes: RFC 9112. No I/O."""

from http import HTTPStatus

from busway.interfaces.web.replies import Headers, HTTPReply, ReplyError


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


STATUS_LINES = {status: _status_line(status) for status in range(200, 600)}

_BODILESS = (204, 304)


class ResponseWriter:
    """Encodes the parts of one response, and checks them against what its head promised."""

    __slots__ = (
        "_has_body",
        "_is_chunked",
        "_is_head",
        "_knows_chunks",
        "_left",
        "keep_alive",
        "size",
        "status",
    )

    def __init__(self, method: str, version: str, *, keep_alive: bool) -> None:
        """Answer a request of `method` in HTTP `version`, "1.0" or "1.1"."""
        self._is_head = method == "HEAD"
        self._knows_chunks = version != "1.0"
        self._has_body = self._is_chunked = False
        self._left: int | None = None
        """Bytes that the body still lacks; None: nobody knows."""
        self.keep_alive = keep_alive
        """Whether the connection outlives the response; final once its head is encoded."""
        self.status = 0
        """That of the response; 0: nothing was encoded."""
        self.size = 0
        """Bytes of content so far."""

    def encode(self, reply: HTTPReply, own: Headers) -> bytes:
        """Return a part of the response; the first has `own` headers of the server.

        Raises `ReplyError` for a length that is none, and for more or less content than it.
        Nothing of that part counts then.
        """
        content = reply.content
        head = b"" if reply.status is None else self._encode_head(reply, reply.status, own)
        if not self._has_body:
            data = head  # clients would take content for the next response
        elif self._is_chunked:
            end = b"" if reply.more else b"0\r\n\r\n"
            data = (
                b"%s%x\r\n%s\r\n%s" % (head, len(content), content, end) if content else head + end
            )
        else:
            self._spend(len(content), more=reply.more)
            data = head + content
        self.status = reply.status or self.status
        self.size += len(content)
        return data

    def _encode_head(self, reply: HTTPReply, status: int, own: Headers) -> bytes:
        lines = [STATUS_LINES[status], *[b"%s: %s\r\n" % pair for pair in own]]
        length: int | None = None
        says_close = False
        for given, value in reply.headers:
            name = given.lower()
            if name == b"content-length":
                length = _parse_length(value, length)
                if status == 204:
                    continue  # not even of 0 (RFC 9110, 8.6)
            elif name == b"transfer-encoding":
                continue  # how the body is framed is for this side to say
            elif name == b"connection":
                says_close = says_close or b"close" in _tokens(value)
            lines.append(b"%s: %s\r\n" % (name, value))
        is_bodiless = status in _BODILESS
        self._has_body = not (is_bodiless or self._is_head)
        if length is None and not (reply.more or is_bodiless):
            length = len(reply.content)
            lines.append(b"content-length: %d\r\n" % length)
        self._left = length
        self._is_chunked = self._has_body and self._knows_chunks and length is None
        if self._is_chunked:
            lines.append(b"transfer-encoding: chunked\r\n")
        if says_close:
            self.keep_alive = False
        elif not self.keep_alive:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        return b"".join(lines)

    def _spend(self, size: int, *, more: bool) -> None:
        if self._left is None:
            return
        left = self._left - size
        if left < 0 or (left and not more):
            wrong = f"{abs(left)} bytes of content too {'many' if left < 0 else 'few'}"
            raise ReplyError(wrong, "as much as 'content-length' says")
        self._left = left


def _parse_length(value: bytes, before: int | None) -> int:
    if before is not None or not value.isdigit():
        raise ReplyError(f"'content-length' {value!r}", "one number, once")
    return int(value)


def _tokens(value: bytes) -> list[bytes]:
    return [token.strip().lower() for token in value.split(b",")]
