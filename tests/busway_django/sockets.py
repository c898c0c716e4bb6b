"""A WebSocket for tests: its messages go through a routing, with the check of origins.

What else is around a consumer is left out, for it would close the connection of a test that is a
transaction.
"""

from collections.abc import Iterable, Mapping
from contextvars import copy_context
from itertools import count
from typing import Any

from asgiref.sync import async_to_sync

from busway.app.calling import Caller
from busway.app.commits import Counts
from busway.app.message import Message
from busway.app.routing import Router, Routing
from busway.app.targets import Target
from busway.bus.layer import ChannelLayer
from busway.bus.operations import Operation, Send
from busway.django.layers import channel_layers
from busway.django.security.websockets import guarded

_numbers = count()


def _guard(target: Target, channel: str) -> Target:
    return guarded(target) if channel == "websocket.connect" else target


class Socket:
    """One socket, or with `request` a client of HTTP, and the consumers that it meets."""

    def __init__(
        self,
        routing: Routing,
        *,
        headers: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        query: str = "",
        subprotocols: Iterable[str] = (),
        path: str = "/",
    ) -> None:
        layer: ChannelLayer = channel_layers["default"]
        self.counts = Counts()
        self.reply_channel = f"web.test!{next(_numbers)}"
        self.path = path
        self._layer = layer
        self._caller = Caller(layer, Router(routing, wrap=_guard), self.counts)
        given = {name.lower(): value for name, value in (headers or {}).items()}
        if cookies:
            given["cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        offered = list(subprotocols)
        if offered:
            given["sec-websocket-protocol"] = ", ".join(offered)
        self._head = {
            "headers": [[n.encode(), v.encode("latin-1")] for n, v in given.items()],
            "query_string": query.encode(),
            "subprotocols": offered,
        }

    def connect(self) -> list[dict[str, Any]]:
        """Open it; returns what it is sent."""
        return self.consume("websocket.connect", **self._head)

    def receive(self, text: str = "") -> list[dict[str, Any]]:
        """Let it say `text`; returns what it is sent."""
        return self.consume("websocket.receive", text=text)

    def disconnect(self) -> list[dict[str, Any]]:
        """Close it; returns what it is sent."""
        return self.consume("websocket.disconnect", code=1000)

    def request(self) -> list[dict[str, Any]]:
        """Make a GET request; returns the answer."""
        return self.consume("http.request", method="GET", **self._head)

    def consume(self, channel: str, **content: Any) -> list[dict[str, Any]]:
        """Let a consumer have a message; returns what is sent to the client."""
        content = {"reply_channel": self.reply_channel, "path": self.path, **content}
        message = Message(content, channel, self._layer)
        operations = copy_context().run(self._consume, message)
        return [
            dict(sent.message)
            for sent in operations
            if isinstance(sent, Send) and sent.channel == self.reply_channel
        ]

    def _consume(self, message: Message) -> list[Operation]:
        found = self._caller.find(message)
        if isinstance(found, list):
            return found
        if found[0].is_async:
            return async_to_sync(self._caller.acall)(found, message)
        return self._caller.call(found, message)
