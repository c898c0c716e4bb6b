"""Decorators of consumers."""

from collections.abc import Callable
from typing import Any, TypeVar, overload

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


@overload
def enforce_ordering(consumer: Decorated) -> Decorated: ...
@overload
def enforce_ordering(*, slight: bool = False) -> Callable[[Decorated], Decorated]: ...
def enforce_ordering(
    consumer: Decorated | None = None,
    *,
    slight: bool = False,
) -> Decorated | Callable[[Decorated], Decorated]:
    """Say that a consumer, function or class, relies on the order of its messages.

    The layer keeps the order, on the channels whose policy says so (`websocket.*` do unless
    configured otherwise): messages of one sender are consumed in the order they were sent and
    one at a time. A worker that is to use this consumer on another channel refuses to start,
    with a `ConfigurationError` that says what to configure.

    `slight` is taken for code from the first generation of Channels, where order came in two
    strengths at different prices; here both are the same.
    """

    def mark(decorated: Decorated) -> Decorated:
        decorated.enforces_ordering = True  # type: ignore[attr-defined]
        return decorated

    return mark if consumer is None else mark(consumer)
