"""Answers to `http.request` messages."""

from collections.abc import Iterable, Mapping
from typing import Any

from busway.app.context import held_by
from busway.app.message import Message
from busway.bus.errors import UsageError
from busway.bus.operations import Send

Headers = Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]]
"""Header names and values. Text is encoded as Latin-1, as HTTP does."""

TEXT = "text/plain; charset=utf-8"

ABORT: Mapping[str, Any] = {"abort": True}
"""The reply that gives a request up: nothing follows, and the client sees that."""


def respond(
    message: Message,
    content: str | bytes = b"",
    *,
    status: int = 200,
    headers: Headers = (),
    content_type: str | None = None,
) -> None:
    """Answer a request at once, with all of its content.

    Args:
        message: the `http.request` message.
        content: the body; text is encoded as UTF-8. For more than the layer's message size
            (1 MiB by default), or parts made one by one, see `busway.app.streaming`.
        status: the HTTP status.
        headers: further headers.
        content_type: the `content-type`; None: plain text for text, none for bytes.

    Raises `NoReplyChannel` when the message names nobody to answer, `UsageError` for a header
    or a status that HTTP does not know.
    """
    if content_type is None and isinstance(content, str):
        content_type = TEXT
    body = content.encode() if isinstance(content, str) else content
    own = [] if content_type is None else [("content-type", content_type)]
    if status not in (204, 304):  # they have no body to be long (RFC 9110, section 8.6)
        own.append(("content-length", str(len(body))))
    head = response_head(status, [*own, *pairs(headers)])
    message.reply_to().send({**head, "content": body, "more_content": False})


def answer(message: Message, reply: dict[str, Any]) -> None:
    """Send a reply that is known to hold only what may cross the bus, and is nobody else's.

    Unlike what a consumer sends, it is neither checked nor copied.
    """
    name = message.content.get("reply_channel")
    held = held_by(message.channel_layer)
    if held is None or name is None:
        message.reply_to().send(reply)
    else:
        held.append(Send(name, reply, checked=True))  # the layer checks the name


def response_head(status: int, headers: Headers) -> dict[str, Any]:
    """Return the part of an HTTP reply that stands in its first message."""
    if type(status) is not int or not 200 <= status <= 599:
        raise UsageError(f"the status of a response is {status!r}; expected 200 to 599")
    try:
        encoded = [
            [
                name.encode("latin-1") if isinstance(name, str) else bytes(name),
                value.encode("latin-1") if isinstance(value, str) else bytes(value),
            ]
            for name, value in pairs(headers)
        ]
    except UnicodeEncodeError as error:
        part = error.object
        raise UsageError(f"the header part {part!r} holds what Latin-1 cannot encode") from None
    return {"status": status, "headers": encoded}


def plain_response(status: int, text: str) -> dict[str, Any]:
    """Return the reply that answers a request with a line of text."""
    content = f"{text}\n".encode()
    headers = [("content-type", TEXT), ("content-length", str(len(content)))]
    return {**response_head(status, headers), "content": content, "more_content": False}


def pairs(headers: Headers) -> Iterable[tuple[str | bytes, str | bytes]]:
    """Return headers as pairs."""
    if isinstance(headers, list):  # most are, and to ask for a `Mapping` takes longer
        return headers
    return list(headers.items()) if isinstance(headers, Mapping) else headers
