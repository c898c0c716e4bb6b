"""The root of consumer classes, with the session and the user that they ask for."""

from collections.abc import Callable
from typing import Any, ClassVar

from busway.app import consumers
from busway.app.loading import load

Consume = Callable[..., Any]
"""A function `consumer(message, **arguments)`, sync or async."""


class BaseConsumer(consumers.BaseConsumer):
    """Handles messages of several channels, each with a method: see `busway.app.consumers`.

    A class attribute gives its messages a session or a user before the instance is made.
    """

    channel_session: ClassVar[bool] = False
    """Whether `message.channel_session` is there: a session that belongs to the reply channel."""
    channel_session_user: ClassVar[bool] = False
    """Whether `message.user` is there too, from that session."""

    @classmethod
    def as_consumer(cls) -> Consume:
        """Return a function `consumer(message, **kwargs)` for routes."""
        return cls._with_session(super().as_consumer())

    @classmethod
    def _with_session(cls, consume: Consume) -> Consume:
        if cls.channel_session_user:
            return decorator("auth.channel_session_user")(consume)
        if cls.channel_session:
            return decorator("sessions.channel_session")(consume)
        return consume


def decorator(name: str) -> Callable[[Consume], Consume]:
    """Return a decorator of `busway.django`: they bring models along, for those who ask."""
    found: Callable[[Consume], Consume] = load(f"busway.django.{name}")
    return found
