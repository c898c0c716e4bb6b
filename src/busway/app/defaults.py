"""Consumers for channels that a routing leaves out, so that no client is left waiting."""

from collections.abc import Callable, Collection, Mapping

from busway.app.exceptions import DenyConnection
from busway.app.http import respond
from busway.app.message import Message


def not_found(message: Message) -> None:
    """Answer a request with 404."""
    respond(message, "There is nothing here.\n", status=404)


def accept(message: Message) -> None:
    """Accept a WebSocket."""
    message.reply_to().send({"accept": True})


def deny(message: Message) -> None:
    """Refuse a WebSocket."""
    raise DenyConnection


def ignore(message: Message) -> None:
    """Do nothing."""


def defaults(routed: Collection[str]) -> Mapping[str, Callable[[Message], None]]:
    """Return channel → consumer for what interface servers send and `routed` leaves out.

    WebSockets whose connecting is left out are accepted if their frames are routed, and refused
    if not.
    """
    wanted = {
        "http.request": not_found,
        "http.disconnect": ignore,
        "websocket.connect": accept if "websocket.receive" in routed else deny,
        "websocket.receive": ignore,
        "websocket.disconnect": ignore,
    }
    return {channel: wanted[channel] for channel in wanted if channel not in routed}
