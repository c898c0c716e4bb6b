"""The head of a request, from any server, made fit for the bus: no I/O."""

import re
import string
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from busway.interfaces.web.options import WebOptions

Address = tuple[str, int | None] | None

_TOKEN = b"!#$%&'*+-.^_`|~" + string.digits.encode() + string.ascii_letters.encode()
_TEXT = bytes(byte for byte in range(256) if byte == 9 or (byte >= 32 and byte != 127))
_ORIGIN = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*://[^/?#]*")
_DEFAULT_PORTS = {"http": ":80", "ws": ":80", "https": ":443", "wss": ":443"}


class BadRequest(Exception):
    """The client's request is refused with `status` and `headers`; the text says why."""

    def __init__(self, status: int, text: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(status, text)
        self.status = status
        self.text = text
        self.headers = list(headers)


class Head(msgspec.Struct, gc=False):
    """The head of a request as a server hands it over."""

    scheme: str
    """"http", "https", "ws" or "wss"."""
    http_version: str
    path: str
    """Decoded."""
    query_string: bytes
    headers: list[tuple[bytes, bytes]]
    """Names in lower case."""
    client: Address
    server: Address
    method: str = "GET"
    subprotocols: Sequence[str] = ()
    root_path: str = ""

    def fields(self) -> dict[str, Any]:
        """Return what a request and a WebSocket connect have in common in their messages."""
        return {
            "http_version": self.http_version,
            "scheme": self.scheme,
            "path": self.path,
            "query_string": self.query_string,
            "root_path": self.root_path,
            "headers": self.headers,
            "client": self.client,
            "server": self.server,
        }


def admit(head: Head, options: WebOptions) -> None:
    """Clean `head` in place, as `options` say; raises `BadRequest` for what is not let in."""
    names = [name for name, _ in head.headers]
    values = b" ".join([value for _, value in head.headers])
    if b"".join(names).translate(None, _TOKEN) or values.translate(None, _TEXT) or b"" in names:
        raise BadRequest(400, "A header has characters that are not allowed.")
    admit_parsed(head, options)


def admit_parsed(head: Head, options: WebOptions) -> None:
    """Do `admit` for a head whose characters were checked, as `RequestReader` does.

    Header names with an underscore are dropped: "x_user" and "x-user" are the same to programs
    that read headers as environment variables, so a client could get past a proxy's check.
    """
    names = [name for name, _ in head.headers]
    # Two would let a proxy and us disagree about whose request it is (RFC 9112, 3.2).
    if head.http_version == "1.1" and names.count(b"host") != 1:
        raise BadRequest(400, "A request names its host once.")
    if b"_" in b"".join(names):
        head.headers = [pair for pair in head.headers if b"_" not in pair[0]]
    if not head.root_path and options.root_path:
        head.root_path = options.root_path
    if options.proxy_headers:
        _take_proxy_headers(head, options.proxy_hops)


def admit_websocket(head: Head, options: WebOptions) -> None:
    """Do `admit` for a handshake, with the checks of origin and subprotocols."""
    admit(head, options)
    origin = host = None
    for name, value in head.headers:
        if name == b"origin":
            origin = value
        elif name == b"host":
            host = value
    if origin is not None and not origin_allowed(
        origin.decode("latin-1"), (host or b"").decode("latin-1"), options.allowed_origins
    ):
        raise BadRequest(403, "This origin may not open WebSockets here.")
    if options.ws_protocols:
        offered = set(head.subprotocols)
        head.subprotocols = [name for name in options.ws_protocols if name in offered]


def origin_allowed(origin: str, host: str, allowed: Sequence[str]) -> bool:
    """Tell whether a page of `origin` may connect to the server that it calls `host`.

    It may when both are the same host and port, or when `allowed` has the origin or "*".
    RFC 6454; ports that are their scheme's default may be left out.
    """
    if "*" in allowed or origin in allowed:
        return True
    try:
        parts = urlsplit(origin.lower())
    except ValueError:
        return False
    default = _DEFAULT_PORTS.get(parts.scheme, "")
    netloc = parts.netloc
    if not netloc or not default:
        return False
    return netloc.removesuffix(default) == host.lower().removesuffix(default)


def split_target(target: bytes) -> tuple[str, bytes]:
    """Return the path, decoded, and the query string of a request's target.

    That may be a whole URL (RFC 9112, 3.2.2); the host is then that of the Host header, as behind
    a proxy. Raises `BadRequest` for what is neither.
    """
    if target == b"*":
        return "*", b""  # OPTIONS about the server itself (RFC 9112, 3.2.4)
    if target[:1] != b"/":
        origin = _ORIGIN.match(target)
        if origin is None:
            raise BadRequest(400, "The request's target is no path.")
        target = target[origin.end() :]
        if target[:1] != b"/":
            target = b"/" + target
    raw_path, _, query = target.partition(b"#")[0].partition(b"?")
    path = raw_path.decode("latin-1")
    return unquote(path) if "%" in path else path, query


def _take_proxy_headers(head: Head, hops: int) -> None:
    given = dict(head.headers)
    forwarded = [
        item.strip()
        for name, value in head.headers
        if name == b"x-forwarded-for"
        for item in value.split(b",")
    ]
    if forwarded and forwarded[-min(hops, len(forwarded))]:
        host, port = _split_address(forwarded[-min(hops, len(forwarded))].decode("latin-1"))
        given_port = given.get(b"x-forwarded-port", b"")
        if port == 0 and given_port.isdigit():
            port = int(given_port[:5])
        head.client = (host, port)
    scheme = given.get(b"x-forwarded-proto", b"").decode("latin-1").strip().lower()
    if scheme in _DEFAULT_PORTS:
        secure = scheme in ("https", "wss")
        plain = "ws" if head.scheme.startswith("ws") else "http"
        head.scheme = plain + "s" * secure


def _split_address(text: str) -> tuple[str, int]:
    """Return host and port of "1.2.3.4", "1.2.3.4:5", "::1" or "[::1]:5"; the port may be 0."""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    else:
        host, port = text, ""
    return host, int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
