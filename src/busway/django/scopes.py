"""Decorators that do something before and after a consumer, sync or async."""

from abc import ABC
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


class SharedScope(Scope):
    """For a consumer that hands one message to several: what they open stays open to its end.

    So what one has put into a session is there for the next, and is stored or deleted once.
    """

    def __init__(self, message: Message) -> None:
        """Take the message."""
        super().__init__(message)
        self._kept: list[Scope] = []

    def keep(self, scope: Scope) -> None:
        """Close `scope`, which is open, with this one."""
        self._kept.append(scope)
        _open_on(self.message).append(scope)

    def close(self, ending: ConsumerEnding | None) -> None:
        """Close what is kept, the innermost first."""
        for scope in self._released():
            scope.close(ending)

    async def aclose(self, ending: ConsumerEnding | None) -> None:
        """Do `close`."""
        for scope in self._released():
            await scope.aclose(ending)

    def fail(self) -> None:
        """Do it for what is kept, and is not closed."""
        for scope in self._released():
            scope.fail()

    async def afail(self) -> None:
        """Do `fail`."""
        for scope in self._released():
            await scope.afail()

    def _released(self) -> Iterator[Scope]:
        while self._kept:
            scope = self._kept[-1]
            yield scope
            self._kept.pop()
            _open_on(self.message).remove(scope)


def is_open(message: Message, *kinds: type[Scope]) -> bool:
    """Say whether a scope of one of these kinds is open around the consumer of `message`."""
    return any(isinstance(scope, kinds) for scope in _open_on(message))


def _open_on(message: Message) -> list[Scope]:
    """Return the scopes that are open, the outermost first."""
    scopes: list[Scope] = vars(message).setdefault("open_scopes", [])
    return scopes


def _sharer(message: Message) -> SharedScope | None:
    found = (scope for scope in reversed(_open_on(message)) if isinstance(scope, SharedScope))
    return next(found, None)


@contextmanager
def _opened(scope: Scope) -> Iterator[None]:
    scopes = _open_on(scope.message)
    scopes.append(scope)
    try:
        yield
    finally:
        scopes.remove(scope)


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
        message = _message_of(args, kwargs)
        scope = begin(message)
        if scope is None:
            return consumer(*args, **kwargs)
        if not scope.open():
            return None
        sharer = _sharer(message)
        if sharer is not None:
            sharer.keep(scope)
            return consumer(*args, **kwargs)
        with _opened(scope):
            try:
                return _concluded(scope, consumer, args, kwargs)
            except ConsumerEnding:
                raise
            except Exception:
                scope.fail()
                raise

    return consume


def _concluded(scope: Scope, consumer: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    try:
        returned = consumer(*args, **kwargs)
    except ConsumeLater:
        raise
    except ConsumerEnding as ending:
        scope.close(ending)
        raise
    scope.close(None)
    return returned


def _async_scoped(begin: _Begin, consumer: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(consumer)
    async def consume(*args: Any, **kwargs: Any) -> Any:
        message = _message_of(args, kwargs)
        scope = begin(message)
        if scope is None:
            return await consumer(*args, **kwargs)
        if not await scope.aopen():
            return None
        sharer = _sharer(message)
        if sharer is not None:
            sharer.keep(scope)
            return await consumer(*args, **kwargs)
        with _opened(scope):
            try:
                return await _aconcluded(scope, consumer, args, kwargs)
            except ConsumerEnding:
                raise
            except Exception:
                await scope.afail()
                raise

    return consume


async def _aconcluded(scope: Scope, consumer: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    try:
        returned = await consumer(*args, **kwargs)
    except ConsumeLater:
        raise
    except ConsumerEnding as ending:
        await scope.aclose(ending)
        raise
    await scope.aclose(None)
    return returned


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
