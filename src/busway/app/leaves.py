"""The routes of a routing, flattened: one leaf for each, with the filters of all around it."""

from collections.abc import Callable, Collection
from typing import Any, Protocol, runtime_checkable

from busway.app.message import Message
from busway.app.patterns import Filter, text_of
from busway.app.targets import Consumer, Target, target_of

Wrap = Callable[[Target, str], Target]
"""Puts something around a consumer, for a channel."""

Found = tuple[Target, dict[str, Any]]
"""A consumer, and its keyword arguments for one message."""


@runtime_checkable
class CustomRoute(Protocol):
    """A route of your own."""

    def match(self, message: Message) -> tuple[Consumer, dict[str, Any]] | None:
        """Return the consumer of `message` and its keyword arguments, or None."""

    def channel_names(self) -> Collection[str]:
        """Return the channels whose messages it wants to see."""


class Leaf:
    """A route to a consumer."""

    def __init__(
        self, prefixes: tuple[Filter, ...], filters: tuple[Filter, ...], target: Target | None
    ) -> None:
        """Take the filters of the includes around it, its own, and its consumer.

        `target` is None when only a message tells which consumer it is.
        """
        self.target = target
        self._prefixes = prefixes
        self._filters = filters

    @property
    def takes_all(self) -> bool:
        """Whether every message goes this way; of a route of the user's it is assumed."""
        return not (self._prefixes or self._filters)

    def wrapped(self, wrap: Wrap, channel: str) -> "Leaf":
        """Return this leaf with its target wrapped, for messages of `channel`."""
        target = wrap(self.target, channel) if self.target else None
        return Leaf(self._prefixes, self._filters, target)

    def match(self, message: Message) -> Found | None:
        """Return the consumer of `message` and its keyword arguments, or None."""
        target = self.target
        if target is None:
            return None
        arguments: dict[str, Any] = {}
        content = message.content
        if self._prefixes:
            rest = self._strip(content, arguments)
            if rest is None:
                return None
            content = content | rest
        for filter_ in self._filters:
            text = content.get(filter_.key)
            if text.__class__ is not str:
                text = text_of(text)
            if text is None or filter_.match(text, arguments) < 0:
                return None
        return target, arguments

    def _strip(self, content: dict[str, Any], arguments: dict[str, Any]) -> dict[str, str] | None:
        """Return what the prefixes leave of the values that they match, or None."""
        rest: dict[str, str] = {}
        for prefix in self._prefixes:
            key = prefix.key
            text = rest[key] if key in rest else text_of(content.get(key))
            cut = -1 if text is None else prefix.match(text, arguments)
            if text is None or cut < 0:
                return None
            rest[key] = text[cut:]
        return rest


class OwnLeaf(Leaf):
    """A route that asks an object of the user's."""

    def __init__(
        self, prefixes: tuple[Filter, ...], custom: CustomRoute, wrap: Wrap | None = None
    ) -> None:
        """Take the filters of the includes around it, and the object.

        `wrap` puts something around the consumers that it names.
        """
        super().__init__(prefixes, (), None)
        self._custom = custom
        self._wrap = wrap

    def wrapped(self, wrap: Wrap, channel: str) -> "OwnLeaf":
        """See `Leaf.wrapped`."""
        del channel  # its messages say
        return OwnLeaf(self._prefixes, self._custom, wrap)

    def match(self, message: Message) -> Found | None:
        """See `Leaf.match`."""
        arguments: dict[str, Any] = {}
        rest = self._strip(message.content, arguments)
        if rest is None:
            return None
        seen = message.copy()
        seen.content |= rest
        found = self._custom.match(seen)
        if found is None:
            return None
        consumer, own = found
        target = target_of(consumer)
        if self._wrap:
            target = self._wrap(target, message.channel_name)
        return target, arguments | own
