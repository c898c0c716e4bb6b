"""Consumers called as a worker calls them, and what they send."""

import json
from collections.abc import Iterable
from contextvars import copy_context
from typing import Any

from asgiref.sync import async_to_sync

from busway.app.calling import Caller
from busway.app.commits import Counts
from busway.app.message import Message
from busway.app.routing import Routing
from busway.bus.layer import ChannelLayer
from busway.bus.operations import GroupSend, Operation, Send
from busway.django.routing import Router

REPLY = "web.test!1"


class Consumption:
    """Has messages consumed by a routing; counts how that ended."""

    def __init__(self, layer: ChannelLayer, routing: Routing) -> None:
        self.layer = layer
        self.counts = Counts()
        self.router = Router(routing)
        self._caller = Caller(layer, self.router, self.counts)

    def __call__(self, channel: str, /, **content: Any) -> list[Operation]:
        """Return what is sent because of a message."""
        content = {"reply_channel": REPLY, "path": "/", **content}
        message = Message(content, channel, self.layer)
        found = self._caller.find(message)
        if isinstance(found, list):
            return found
        run: Any = self._caller.call
        if found[0].is_async:
            # Its ORM is in this thread then, and sees what the test does.
            run = async_to_sync(self._caller.acall)
        # What the caller leaves in the context is for worker threads only.
        operations: list[Operation] = copy_context().run(run, found, message)
        return operations


def contents(operations: Iterable[Operation]) -> list[Any]:
    """Return the contents that are sent, JSON in their text decoded."""
    sent = [one.message for one in operations if isinstance(one, Send | GroupSend)]
    return [json.loads(one["text"]) if "text" in one else one for one in sent]
