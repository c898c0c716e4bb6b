"""What a routing names as a consumer, made ready to be called."""

import inspect
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Protocol, runtime_checkable

import msgspec

from busway.app.loading import load
from busway.bus.errors import ConfigurationError

Consumer = Callable[..., Any] | str
"""A function `consumer(message, **arguments)`, sync or async, a consumer class, or the dotted
path of one."""


@runtime_checkable
class ConsumerClass(Protocol):
    """A class whose instances handle one message each: see `busway.app.consumers`."""

    def channel_names(self) -> Collection[str]:
        """Return the channels that it consumes."""

    def as_consumer(self) -> Callable[..., Any]:
        """Return a function `consumer(message, **arguments)`."""


class Target(msgspec.Struct, frozen=True):
    """A consumer to call."""

    consumer: Callable[..., Any]
    """Called as `consumer(message, **arguments)`."""
    name: str
    """For people to read: its module and qualified name."""
    is_async: bool
    is_ordered: bool
    """Whether it may only be used on channels that keep an order: `enforce_ordering`."""


def target_of(consumer: Consumer) -> Target:
    """Return `consumer` as a target. Raises `ConfigurationError` when it is none."""
    found: Any = load(consumer) if isinstance(consumer, str) else consumer
    if not callable(found):
        raise ConfigurationError(
            f"a route's consumer is {found!r}; expected a function, a consumer class, "
            "or the dotted path of one"
        )
    call = found.as_consumer() if is_consumer_class(found) else found
    return Target(
        call,
        name_of(found),
        is_async=is_async(call),
        is_ordered=getattr(found, "enforces_ordering", False) is True,
    )


def is_consumer_class(found: object) -> bool:
    """Tell whether `found` is a class whose instances handle one message each."""
    return isinstance(found, type) and isinstance(found, ConsumerClass)


def is_async(call: Callable[..., Any]) -> bool:
    """Tell whether calling it gives a coroutine."""
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(
        getattr(call, "__call__", None)  # noqa: B004  (an instance whose __call__ is async)
    )


def name_of(found: Any) -> str:
    """Return a consumer's name for people to read."""
    if isinstance(found, partial):
        return name_of(found.func)
    name = getattr(found, "__qualname__", None) or type(found).__qualname__
    return f"{getattr(found, '__module__', '?')}.{name}"


def check_arguments(target: Target, names: Collection[str]) -> None:
    """Raise `ConfigurationError` unless the consumer takes a message and arguments `names`."""
    try:
        signature = inspect.signature(target.consumer)
    except ValueError:  # some callables written in C do not say
        return
    try:
        signature.bind(None, **dict.fromkeys(names))
    except TypeError as error:
        given = ", ".join(["message", *sorted(names)])
        raise ConfigurationError(
            f"the consumer {target.name}{signature} cannot be called with ({given}): {error}; "
            "its arguments are the message and the named groups of its route's filters"
        ) from None
