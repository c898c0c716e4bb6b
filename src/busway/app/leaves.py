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

Find = Callable[[Message], Found | None]
"""Returns the consumer of a message and its keyword arguments, which are not to be changed."""


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
    def keys(self) -> set[str] | None:
        """The keys of a message that it looks at; None: nobody can say."""
        return {filter_.key for filter_ in (*self._prefixes, *self._filters)}

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

    @property
    def keys(self) -> None:
        """See `Leaf.keys`."""

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


_MAX_KNOWN = 1000
"""Texts for which a channel's leaf is remembered."""

_LONGEST_KNOWN = 500
"""Characters of such a text."""


class Leaves:
    """The leaves of one channel; the first that matches takes a message. Thread-safe."""

    def __init__(self) -> None:
        """Start without any."""
        self.all: list[Leaf] = []
        self._key: str | None = None
        """The only key of a message that they look at, if there is just one: what matched a text
        of it once does so always."""
        self._known: dict[str, Found | None] = {}

    def add(self, leaf: Leaf) -> None:
        """Add a leaf behind the others."""
        self.all.append(leaf)
        self._known = {}
        keys: set[str] | None = set()
        for each in self.all:
            keys = None if keys is None or each.keys is None else keys | each.keys
        self._key = next(iter(keys)) if keys and len(keys) == 1 else None

    def find(self, message: Message) -> Found | None:
        """Return the consumer of `message` and its keyword arguments, which are not to be changed.

        None without a route.
        """
        key = self._key
        if key is None:
            return self._find(message)
        content = message.content
        try:
            return self._known[content[key]]
        except (KeyError, TypeError):  # not met before, or no text
            found = self._find(message)
        text = content.get(key)
        if text.__class__ is str and len(text) <= _LONGEST_KNOWN:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[text] = found
        return found

    def _find(self, message: Message) -> Found | None:
        for leaf in self.all:
            found = leaf.match(message)
            if found is not None:
                return found
        return None
