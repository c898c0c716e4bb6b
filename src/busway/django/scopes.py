"""Decorators that do something before and after a consumer, sync or async."""

from abc import ABC
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from busway.app.exceptions import ConsumeLater, ConsumerEnding
from busway.app.message import Message
from busway.app.targets import is_async, name_of
from busway.bus.errors import ConfigurationError, UsageError

Consumer = TypeVar("Consumer", bound=Callable[..., Any])


class Scope(ABC):  # noqa: B024  (nothing has to be overridden)
    """What is done around one consumer, for one message.

    The methods with an `a` are for async consumers.
    """

    def __init__(self, message: Message) -> None:
        """Take the message. No I/O here."""
        self.message = message

    def open(self) -> bool:
        """Prepare the message; False: it was answered, and the consumer is not called."""
        return True

    async def aopen(self) -> bool:
        """Do `open`."""
        return self.open()

    def close(self, ending: ConsumerEnding | None) -> None:  # noqa: B027  (not all have to)
        """Conclude, after the consumer returned (None) or decided to end as `ending` says.

        Not called when what the consumer did does not count: it failed, or raised `ConsumeLater`.
        """

    async def aclose(self, ending: ConsumerEnding | None) -> None:
        """Do `close`."""
        self.close(ending)

    def fail(self) -> None:  # noqa: B027
        """Clean up, after the consumer or `close` failed; not after `ConsumeLater`."""

    async def afail(self) -> None:
        """Do `fail`."""
        self.fail()


_Begin = Callable[[Message], Scope | None]


def scoped(begin: _Begin, consumer: Consumer) -> Consumer:
    """Return `consumer` with the scope that `begin` returns around it; None: nothing is done.

    The consumer is a function, a method, or any other callable but a class. Raises
    `ConfigurationError` for a class.
    """
    if isinstance(consumer, type):
        raise ConfigurationError(
            f"{name_of(consumer)} is a class; decorate the methods that handle its messages"
        )

    return cast(
        "Consumer", (_async_scoped if is_async(consumer) else _sync_scoped)(begin, consumer)
    )


def _sync_scoped(begin: _Begin, consumer: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(consumer)
    def consume(*args: Any, **kwargs: Any) -> Any:
        scope = begin(_message_of(args, kwargs))
        if scope is None:
            return consumer(*args, **kwargs)
        if not scope.open():
            return None
        try:
            try:
                returned = consumer(*args, **kwargs)
            except ConsumeLater:
                raise
            except ConsumerEnding as ending:
                scope.close(ending)
                raise
            scope.close(None)
        except ConsumerEnding:
            raise
        except Exception:
            scope.fail()
            raise
        return returned

    return consume


def _async_scoped(begin: _Begin, consumer: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(consumer)
    async def consume(*args: Any, **kwargs: Any) -> Any:
        scope = begin(_message_of(args, kwargs))
        if scope is None:
            return await consumer(*args, **kwargs)
        if not await scope.aopen():
            return None
        try:
            try:
                returned = await consumer(*args, **kwargs)
            except ConsumeLater:
                raise
            except ConsumerEnding as ending:
                await scope.aclose(ending)
                raise
            await scope.aclose(None)
        except ConsumerEnding:
            raise
        except Exception:
            await scope.afail()
            raise
        return returned

    return consume


def _message_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Message:
    """Return the message among the arguments of a consumer, or that of its instance."""
    first = args[0] if args else kwargs.get("message")
    if isinstance(first, Message):
        return first
    second = args[1] if len(args) > 1 else kwargs.get("message")
    if isinstance(second, Message):
        return second
    found = getattr(first, "message", None)
    if isinstance(found, Message):
        return found
    raise UsageError(
        "a decorated consumer was called without a message; expected consumer(message, …), "
        "or a method of an object that has one"
    )
