"""Calls consumers, with what they send held until they have ended."""

import inspect
from collections.abc import Sequence
from typing import Any

import msgspec

from busway.app.commits import Counts
from busway.app.context import Outbox, outbox
from busway.app.endings import describe, ending_of, logger, unrouted
from busway.app.message import Message
from busway.app.routing import Router
from busway.app.targets import Target
from busway.bus.errors import UsageError
from busway.bus.layer import ChannelLayer
from busway.bus.operations import Operation


class Call(msgspec.Struct, gc=False):
    """A consumer to be called with a message."""

    target: Target
    message: Message
    arguments: dict[str, Any]


class Caller:
    """Finds and calls consumers; counts how they ended. For one thread or event loop."""

    def __init__(self, layer: ChannelLayer, router: Router, counts: Counts) -> None:
        """Call the consumers in `router`, for messages of `layer`."""
        self._layer = layer
        self._find = router.find
        self._counts = counts

    def find(self, message: Message) -> Call | list[Operation]:
        """Return which consumer to call; without one, what is sent instead."""
        try:
            found = self._find(message)
        except Exception as error:  # noqa: BLE001  (a custom route's own)
            return self.ended(error, message, "its route", ())
        if found is not None:
            return Call(found[0], message, found[1])
        self._counts.unrouted += 1
        logger.debug("%s", describe(message, "no route"))
        return unrouted(message)

    def call(self, call: Call) -> list[Operation]:
        """Call a sync consumer; returns what is sent. Raises nothing but `KeyboardInterrupt`."""
        held = Outbox(self._layer)
        outbox.set(held)
        target, message, arguments = call.target, call.message, call.arguments
        try:
            returned = target.consumer(message, **arguments)
            if returned is not None and inspect.iscoroutine(returned):
                returned.close()
                raise UsageError(  # noqa: TRY301
                    f"{target.name} returned a coroutine that nobody awaits; if it is wrapped "
                    "by a decorator, the wrapper has to be 'async def' as well"
                )
        except KeyboardInterrupt:
            raise  # it is for the worker
        except BaseException as error:  # noqa: BLE001  (whatever a consumer raises)
            held.open = False
            return self.ended(error, message, target.name, held)
        held.open = False
        return held

    async def acall(self, call: Call) -> list[Operation]:
        """Do `call` for an async consumer, in a task of its own."""
        held = Outbox(self._layer)
        outbox.set(held)
        target, message, arguments = call.target, call.message, call.arguments
        try:
            await target.consumer(message, **arguments)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001
            held.open = False
            return self.ended(error, message, target.name, held)
        held.open = False
        return held

    def ended(
        self, error: BaseException, message: Message, name: str, held: Sequence[Operation]
    ) -> list[Operation]:
        """Return what is sent after the consumer `name` has raised `error`, having sent `held`."""
        ending = ending_of(error, message, name)
        if ending.kind:
            self._counts.count(ending.kind)
        return [*held, *ending.operations] if ending.keeps else ending.operations
