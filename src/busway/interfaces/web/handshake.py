"""The opening handshake of a WebSocket, from the server's side: RFC 6455, section 4.2. No I/O."""

import binascii

import msgspec
from websockets.utils import accept_key

from busway.interfaces.web.http_writer import STATUS_LINES
from busway.interfaces.web.replies import Headers
from busway.interfaces.web.requests import BadRequest

_PLAIN = (b"content-type", b"text/plain; charset=utf-8")
_OWN = (b"content-length", b"connection", b"transfer-encoding")
"""Headers of a denial that are written here."""


class Handshake(msgspec.Struct, gc=False):
    """A valid handshake request."""

    accept: str
    """Value of Sec-WebSocket-Accept in the answer."""
    subprotocols: list[str]


def parse_head(data: bytes) -> tuple[str, bytes, list[tuple[bytes, bytes]]]:
    """Return method, target and headers of a whole request head that an HTTP parser has passed."""
    lines = data.split(b"\r\n")
    method, target, _ = lines[0].split(b" ", 2)
    headers = []
    for line in lines[1:]:
        if not line:
            break
        name, _, value = line.partition(b":")
        headers.append((name.lower(), value.strip(b" \t")))
    return method.decode("ascii"), target, headers


def check_handshake(method: str, headers: list[tuple[bytes, bytes]]) -> Handshake:
    """Return what has to be known of a request that asks for a WebSocket.

    Raises `BadRequest` when it does not do so in the right way.
    """
    if method != "GET":
        raise BadRequest(405, "A WebSocket begins with GET.", [(b"allow", b"GET")])
    for name, value in headers:
        if name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0")):
            raise BadRequest(400, "A WebSocket begins with a request that has no body.")
    given = _single(headers)
    if given.get(b"sec-websocket-version") != b"13":
        raise BadRequest(
            426, "This server speaks WebSocket version 13.", [(b"sec-websocket-version", b"13")]
        )
    key = given.get(b"sec-websocket-key", b"")
    try:
        valid = len(binascii.a2b_base64(key, strict_mode=True)) == 16
    except ValueError:
        valid = False
    if not valid:
        raise BadRequest(400, "Sec-WebSocket-Key has to be 16 bytes in base64.")
    subprotocols = [
        token.strip().decode("latin-1")
        for name, value in headers
        if name == b"sec-websocket-protocol"
        for token in value.split(b",")
        if token.strip()
    ]
    return Handshake(accept_key(key.decode()), subprotocols)


def _single(headers: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return the headers of a handshake that may stand only once."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in (b"sec-websocket-key", b"sec-websocket-version", b"origin", b"host"):
            if name in found:
                raise BadRequest(400, f"{name.decode()} stands twice.")
            found[name] = value
    return found


def encode_accept(accept: str, subprotocol: str | None, headers: Headers) -> bytes:
    """Return the response that completes a handshake."""
    chosen = f"Sec-WebSocket-Protocol: {subprotocol}\r\n" if subprotocol is not None else ""
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n{chosen}"
    ).encode() + _end_head(headers)


def encode_denial(status: int, headers: Headers, content: bytes) -> bytes:
    """Return the response that refuses a handshake."""
    own = [pair for pair in headers if pair[0].lower() not in _OWN]
    if content and all(name.lower() != b"content-type" for name, _ in own):
        own.append(_PLAIN)
    own += [(b"content-length", b"%d" % len(content)), (b"connection", b"close")]
    return STATUS_LINES[status] + _end_head(own) + content


def _end_head(headers: Headers) -> bytes:
    return b"".join([b"%s: %s\r\n" % pair for pair in headers]) + b"\r\n"
