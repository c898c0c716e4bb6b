"""What consumers send to a WebSocket, and JSON in it."""

from typing import Any

import msgspec

from busway.app.exceptions import check_close
from busway.bus.errors import InvalidMessage

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def frame(
    text: str | None = None,
    bytes: bytes | None = None,  # noqa: A002  (the key of the message)
    close: bool | int = False,
) -> dict[str, Any]:
    """Return the reply that sends a frame, closes, or does both in that order.

    Raises `InvalidMessage` when it says nothing, or text and bytes at once, and
    `ConfigurationError` for what an application may not close with.
    """
    if text is not None and bytes is not None:
        raise InvalidMessage("the frame", "text and bytes at once", "one of them")
    content: dict[str, Any] = {}
    if text is not None:
        content["text"] = text
    elif bytes is not None:
        content["bytes"] = bytes
    elif close is False:
        raise InvalidMessage("the frame", "empty", "text, bytes or close")
    if close is not False:
        if close is not True:
            check_close(close, "")
        content["close"] = close
    return content


def closing(code: int | None = None, reason: str = "") -> dict[str, Any]:
    """Return the reply that closes, with `code` (None: 1000) and `reason`.

    Raises `ConfigurationError` for what an application may not close with.
    """
    if code is None and not reason:
        return {"close": True}
    check_close(1000 if code is None else code, reason)
    return {"close": 1000 if code is None else code, "reason": reason}


def acceptance(subprotocol: str | None = None) -> dict[str, Any]:
    """Return the reply that accepts a WebSocket."""
    return {"accept": True} if subprotocol is None else {"accept": True, "subprotocol": subprotocol}


def encode_json(content: Any) -> str:
    """Return `content` as JSON. Raises TypeError for what JSON cannot hold."""
    return _encode(content).decode()


def decode_json(text: str) -> Any:
    """Return what the JSON `text` says; raises ValueError when it is not JSON."""
    try:
        return _decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(str(error)) from None
