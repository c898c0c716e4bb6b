"""An HTTP/1.1 response as bytes: RFC 9112. No I/O."""

from http import HTTPStatus

import msgspec

from busway.interfaces.web.replies import Headers, HTTPReply, ReplyError


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


STATUS_LINES = {status: _status_line(status) for status in range(200, 600)}

_BODILESS = (204, 304)
_FRAMING = frozenset((b"content-length", b"transfer-encoding", b"connection"))


class ResponseWriter(msgspec.Struct, gc=False, eq=False):
    """Encodes the parts of one response, and checks them against what its head promised."""

    method: str
    """That of the request."""
    version: str
    """Of HTTP: "1.0" or "1.1"."""
    keep_alive: bool
    """Whether the connection outlives the response; final once its head is encoded."""
    status: int = 0
    """That of the response; 0: nothing was encoded."""
    size: int = 0
    """Bytes of content so far."""
    _has_body: bool = False
    _is_chunked: bool = False
    _left: int | None = None
    """Bytes that the body still lacks; None: nobody knows."""

    def encode(self, reply: HTTPReply, own: Headers) -> bytes:
        """Return a part of the response; the first has `own` headers of the server.

        Raises `ReplyError` for a length that is none, and for more or less content than it.
        Nothing of that part counts then.
        """
        content = reply.content
        parts = [] if reply.status is None else self._encode_head(reply, reply.status, own)
        if not self._has_body:
            pass  # clients would take content for the next response
        elif self._is_chunked:
            if content:
                parts += (b"%x\r\n" % len(content), content, b"\r\n")
            if not reply.more:
                parts.append(b"0\r\n\r\n")
        else:
            self._spend(len(content), more=reply.more)
            parts.append(content)
        if reply.status is not None:
            self.status = reply.status
        self.size += len(content)
        return b"".join(parts)

    def _encode_head(self, reply: HTTPReply, status: int, own: Headers) -> list[bytes]:
        parts = [STATUS_LINES[status]]
        length: int | None = None
        says_close = False
        for name, value in (*own, *reply.headers):
            if name not in _FRAMING:
                pass
            elif name == b"content-length":
                length = _parse_length(value, length)
                if status == 204:
                    continue  # not even of 0 (RFC 9110, 8.6)
            elif name == b"transfer-encoding":
                continue  # how the body is framed is for this side to say
            else:
                says_close = says_close or b"close" in _tokens(value)
            parts += (name, b": ", value, b"\r\n")
        is_bodiless = status in _BODILESS
        self._has_body = not (is_bodiless or self.method == "HEAD")
        # Without a body this says nothing of the one that GET would have (RFC 9110, 8.6).
        is_known = self._has_body or bool(reply.content)
        if length is None and is_known and not (reply.more or is_bodiless):
            length = len(reply.content)
            parts.append(b"content-length: %d\r\n" % length)
        self._left = length
        if length is None and self._has_body and self.version != "1.0":
            self._is_chunked = True
            parts.append(b"transfer-encoding: chunked\r\n")
        if says_close:
            self.keep_alive = False
        elif not self.keep_alive:
            parts.append(b"connection: close\r\n")
        parts.append(b"\r\n")
        return parts

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
