"""Calls consumers, with what they send held until they have ended."""

import inspect
from collections.abc import Sequence

from busway.app.commits import Counts
from busway.app.context import Outbox, outbox
from busway.app.endings import describe, ending_of, logger, unrouted
from busway.app.leaves import Found
from busway.app.message import Message
from busway.app.routing import Router
from busway.bus.errors import UsageError
from busway.bus.layer import ChannelLayer
from busway.bus.operations import Operation


class Caller:
    """Finds and calls consumers; counts how they ended. For one thread or event loop."""

    def __init__(self, layer: ChannelLayer, router: Router, counts: Counts) -> None:
        """Call the consumers in `router`, for messages of `layer`."""
        self._layer = layer
        self._finds = router.finds
        self._counts = counts

    def find(self, message: Message) -> Found | list[Operation]:
        """Return which consumer to call; without one, what is sent instead."""
        find = self._finds.get(message.channel_name)
        try:
            found = None if find is None else find(message)
        except Exception as error:  # noqa: BLE001  (a custom route's own)
            return self.ended(error, message, "its route", ())
        if found is not None:
            return found
        self._counts.unrouted += 1
        logger.debug("%s", describe(message, "no route"))
        return unrouted(message)

    def call(self, found: Found, message: Message) -> list[Operation]:
        """Call a sync consumer that `find` found; returns what is sent.

        Raises nothing but `KeyboardInterrupt`.
        """
        held = Outbox(self._layer)
        outbox.set(held)
        target, arguments = found
        try:
            consumer = target.consumer
            # Unpacking even no arguments at all costs as much as the call.
            returned = consumer(message, **arguments) if arguments else consumer(message)
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
            return self.ended(error, message, target.name, held.operations)
        held.open = False
        return held.operations

    async def acall(self, found: Found, message: Message) -> list[Operation]:
        """Do `call` for an async consumer, in a task of its own."""
        held = Outbox(self._layer)
        outbox.set(held)
        target, arguments = found
        try:
            consumer = target.consumer
            await (consumer(message, **arguments) if arguments else consumer(message))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001
            held.open = False
            return self.ended(error, message, target.name, held.operations)
        held.open = False
        return held.operations

    def ended(
        self, error: BaseException, message: Message, name: str, held: Sequence[Operation]
    ) -> list[Operation]:
        """Return what is sent after the consumer `name` has raised `error`, having sent `held`."""
        ending = ending_of(error, message, name)
        if ending.kind:
            self._counts.count(ending.kind)
        return [*held, *ending.operations] if ending.keeps else ending.operations
