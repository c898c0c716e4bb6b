"""What happens around each consumer: signals, and a look after the database connections.

Endings of the project's own (`ChannelSocketException`) run here, before both.
"""

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from busway.app.message import Message
from busway.app.targets import Target
from busway.app.worker import Worker
from busway.django import database
from busway.django.exceptions import ChannelSocketException
from busway.django.security.websockets import guarded
from busway.django.signals import consumer_finished, consumer_started


def unframed(consumer: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a consumer that sees to everything itself, as views do with Django's own signals."""
    consumer.is_unframed = True  # type: ignore[attr-defined]
    return consumer


def framed(target: Target, channel: str) -> Target:
    """Return a target as it is called for messages of `channel`."""
    found = _with_signals(target)
    return guarded(found) if channel == "websocket.connect" else found


def _with_signals(target: Target) -> Target:
    """Return a target with signals around its consumer, and fresh database connections."""
    consumer, name = target.consumer, target.name
    if getattr(consumer, "is_unframed", False):
        return target

    def consume(message: Message, **kwargs: Any) -> Any:
        database.begin()
        consumer_started.send(Worker, message=message, consumer=name)
        try:
            return consumer(message, **kwargs)
        except ChannelSocketException as ending:
            return ending.run(message)
        finally:
            consumer_finished.send(Worker, message=message, consumer=name)
            database.end()

    async def aconsume(message: Message, **kwargs: Any) -> Any:
        await consumer_started.asend(Worker, message=message, consumer=name)
        try:
            return await consumer(message, **kwargs)
        except ChannelSocketException as ending:
            return ending.run(message)
        finally:
            await consumer_finished.asend(Worker, message=message, consumer=name)
            database.end_async()

    return replace(target, consumer=aconsume if target.is_async else consume)
