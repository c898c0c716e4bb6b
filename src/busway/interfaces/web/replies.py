"""What workers send to a connection, checked: replies in the message formats of ASGI 1."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from busway.bus.errors import UsageError

Headers = list[tuple[bytes, bytes]]

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

_CLOSE_CODES = frozenset((1000, 1001, 1002, 1003, *range(1007, 1015)))


class ReplyError(UsageError, ValueError):
    """A worker sent a reply that cannot be carried out.

    `found` says what was wrong with it and `expected` what would have been right.
    """

    def __init__(self, found: str, expected: str) -> None:
        super().__init__(found, expected)
        self.found = found
        self.expected = expected

    def __str__(self) -> str:
        return f"{self.found}; expected {self.expected}"


class WebSocketReply(msgspec.Struct, frozen=True, gc=False):
    """A reply to a WebSocket connection."""

    accept: bool | None = None
    """True: complete the handshake; False: deny it; None: it does not say."""
    subprotocol: str | None = None
    headers: Headers = []
    """Names in lower case."""
    data: str | bytes | None = None
    """A message for the client."""
    close: int | None = None
    """Close with this code, after the data; in the handshake: deny it."""
    reason: str = ""
    status: int = 403
    """Status of the answer that denies the handshake, with `headers` and `content`."""
    content: bytes = b""


class HTTPReply(msgspec.Struct, frozen=True, gc=False):
    """A part of an HTTP response. `status` is None in all but the first."""

    status: int | None = None
    headers: Headers = []
    """Names in lower case."""
    content: bytes = b""
    more: bool = False
    ack_channel: str | None = None
    abort: bool = False
    """The worker gives the response up; nothing else counts then."""


_WEBSOCKET_KEYS: dict[str, type | tuple[type, ...]] = {
    "accept": (bool, type(None)),
    "subprotocol": (str, type(None)),
    "headers": list,
    "text": (str, type(None)),
    "bytes": (bytes, type(None)),
    "close": (bool, int, type(None)),
    "reason": (str, type(None)),
    "status": int,
    "content": bytes,
}

_WEBSOCKET_DATA: dict[str, type[str | bytes]] = {"text": str, "bytes": bytes}

_HTTP_KEYS: dict[str, type | tuple[type, ...]] = {
    "status": int,
    "headers": list,
    "content": bytes,
    "more_content": bool,
    "ack_channel": str,
    "abort": bool,
}


def parse_websocket_reply(message: Mapping[str, Any]) -> WebSocketReply:
    """Return the reply in `message`; raises `ReplyError`."""
    if len(message) == 1:  # what nearly every one is: a text or bytes
        ((key, data),) = message.items()
        if type(data) is _WEBSOCKET_DATA.get(key):
            return WebSocketReply(data=data)
    _check_keys(message, _WEBSOCKET_KEYS)
    text, data = message.get("text"), message.get("bytes")
    if text is not None and data is not None:
        raise ReplyError("both 'text' and 'bytes'", "one of them in a message")
    subprotocol = message.get("subprotocol")
    if subprotocol is not None and not _TOKEN.fullmatch(subprotocol):
        raise ReplyError(f"subprotocol {subprotocol!r}", "a token of RFC 9110")
    accept, close = message.get("accept"), _close_code(message.get("close"))
    if accept is not False and close is None:
        _check_says_so(message, decides=accept is True or text is not None or data is not None)
    return WebSocketReply(
        accept=accept,
        subprotocol=subprotocol,
        headers=_headers(message.get("headers", [])),
        data=data if text is None else text,
        close=close,
        reason=message.get("reason") or "",
        status=_status(message.get("status", 403), least=300),
        content=message.get("content", b""),
    )


def parse_http_reply(message: Mapping[str, Any], *, first: bool) -> HTTPReply:
    """Return the part of a response in `message`; raises `ReplyError`.

    The `first` one has to have a status, the others must not.
    """
    _check_keys(message, _HTTP_KEYS)
    if message.get("abort"):
        return HTTPReply(abort=True)
    status = message.get("status")
    if first:
        if status is None:
            raise ReplyError("no 'status' in the first part of a response", "a status code")
        status = _status(status, least=200)
    elif status is not None or "headers" in message:
        raise ReplyError("'status' or 'headers' in a later part of a response", "only content")
    return HTTPReply(
        status=status,
        headers=_headers(message.get("headers", [])),
        content=message.get("content", b""),
        more=message.get("more_content", False),
        ack_channel=message.get("ack_channel"),
    )


def _check_keys(message: Mapping[str, Any], keys: Mapping[str, type | tuple[type, ...]]) -> None:
    for key, value in message.items():
        kinds = keys.get(key)
        if kinds is type(value):
            continue
        if kinds is None:
            raise ReplyError(f"unknown key {key!r}", "only " + ", ".join(keys))
        if not isinstance(value, kinds) or (kinds is int and isinstance(value, bool)):
            names = kinds if isinstance(kinds, tuple) else (kinds,)
            wanted = " or ".join("None" if k is type(None) else k.__name__ for k in names)
            raise ReplyError(f"{key!r} is {_short(value)}", wanted)


def _check_says_so(message: Mapping[str, Any], *, decides: bool) -> None:
    """Refuse a reply that is no denial but has parts of one, or says how but not what."""
    for key in ("status", "content"):
        if key in message:
            raise ReplyError(f"{key!r} without a denial", "'accept': False or 'close' with it")
    for key in ("subprotocol", "headers", "reason"):
        if message.get(key) and not decides:
            raise ReplyError(f"{key!r} alone", "'accept', 'text', 'bytes' or 'close' with it")


def _close_code(close: bool | int | None) -> int | None:
    """Return the code of `close`: True is 1000; False and None do not close."""
    if close is None or close is False:
        return None
    if close is True:
        return 1000
    if close in _CLOSE_CODES or 3000 <= close <= 4999:
        return close
    raise ReplyError(
        f"close code {close}", "True, 1000 to 1003, 1007 to 1014, or 3000 to 4999 for your own"
    )


def _status(status: int, *, least: int) -> int:
    if least <= status <= 599:
        return status
    raise ReplyError(f"status {status}", f"a status code from {least} to 599")


def _headers(headers: list[Any]) -> Headers:
    found: Headers = []
    if not headers:
        return found
    values = []
    try:
        for name, value in headers:
            found.append((_names[name], value))
            values.append(value)
        every_value = b"".join(values)
    except (TypeError, ValueError):
        _check_headers(headers)
        raise
    if not (every_value.isascii() and every_value.decode().isprintable()):
        _check_headers(headers)
    return found


def _check_headers(headers: list[Any]) -> None:
    """Raise `ReplyError` for the first that is wrong."""
    for pair in headers:
        if not (
            isinstance(pair, list | tuple)
            and len(pair) == 2
            and isinstance(pair[0], bytes)
            and isinstance(pair[1], bytes)
        ):
            raise ReplyError(f"header {_short(pair)}", "[name, value], both bytes")
        name, value = pair
        _ = _names[name]
        if _BAD_VALUE.search(value):
            raise ReplyError(
                f"header {name.decode()!r} has {_short(value)}", "a value without control bytes"
            )


class _Names(dict[bytes, bytes]):
    """Name of a header → that name in lower case, if it is one."""

    def __missing__(self, given: bytes) -> bytes:
        if not _NAME.fullmatch(given):
            raise ReplyError(f"header name {_short(given)}", "a token of RFC 9110")
        name = given.lower()
        if len(name) <= 64:  # what workers make up is not to fill the memory
            if len(self) >= 1000:
                self.clear()
            self[given] = name
        return name


_names = _Names()


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
