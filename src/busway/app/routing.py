"""Which consumer takes which message.

A routing is a list of what `route`, `route_class` and `include` return, a dict of channel →
consumer, an object with `match` and `channel_names` (see `CustomRoute`), or the dotted path of
any of these. The first route that matches takes the message.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from busway.app.defaults import defaults
from busway.app.leaves import CustomRoute, Find, Found, Leaf, Leaves, OwnLeaf, Wrap
from busway.app.loading import load
from busway.app.message import Message
from busway.app.patterns import Filter
from busway.app.targets import (
    Consumer,
    Target,
    check_arguments,
    is_consumer_class,
    target_of,
)
from busway.bus.errors import ConfigurationError
from busway.bus.names import check_channel
from busway.bus.policy import Policies


class RoutingItem(ABC):
    """Something in a routing: what `route`, `route_class` and `include` return."""

    @abstractmethod
    def leaves(self, prefixes: tuple[Filter, ...]) -> Iterator[tuple[str, Leaf]]:
        """Yield (channel, leaf) for every route in here, below the filters `prefixes`."""


class Route(RoutingItem):
    """Sends messages of some channels to a consumer, if they pass the filters."""

    def __init__(
        self, channels: Collection[str], consumer: Consumer, filters: Mapping[str, str]
    ) -> None:
        """See `route`."""
        self._channels = [_check_channel(name) for name in channels]
        self._target = target_of(consumer)
        self._filters = _compile(filters, prefix=False)

    def leaves(self, prefixes: tuple[Filter, ...]) -> Iterator[tuple[str, Leaf]]:
        """See `RoutingItem`."""
        check_arguments(self._target, _argument_names((*prefixes, *self._filters)))
        leaf = Leaf(prefixes, self._filters, self._target)
        for channel in self._channels:
            yield channel, leaf


class Include(RoutingItem):
    """Sends messages that pass its filters to the routes of another routing."""

    def __init__(self, routing: "Routing", filters: Mapping[str, str]) -> None:
        """See `include`."""
        self._items = list(_items(routing))
        self._filters = _compile(filters, prefix=True)

    def leaves(self, prefixes: tuple[Filter, ...]) -> Iterator[tuple[str, Leaf]]:
        """See `RoutingItem`."""
        for item in self._items:
            yield from item.leaves(prefixes + self._filters)


class _OwnRoute(RoutingItem):
    """Asks an object of the user's."""

    def __init__(self, custom: CustomRoute) -> None:
        self._custom = custom

    def leaves(self, prefixes: tuple[Filter, ...]) -> Iterator[tuple[str, Leaf]]:
        leaf = OwnLeaf(prefixes, self._custom)
        for channel in self._custom.channel_names():
            yield _check_channel(channel), leaf


AnyRoute = RoutingItem | CustomRoute
Routing = Sequence[AnyRoute] | Mapping[str, Consumer] | CustomRoute | str
"""See the module."""


def route(channel: str | Collection[str], consumer: Consumer, **filters: str) -> Route:
    r"""Send messages of `channel` (one or several) to `consumer`.

    Each filter is named after a key of the message and is a regular expression for its value,
    `path=r"^/chat/(?P<room>\w+)/$"`, or a path with converters, `path="/chat/<slug:room>/"`.
    All have to match; their named groups become keyword arguments. See `busway.app.patterns`.

    Raises `ConfigurationError` when any of it is wrong.
    """
    return Route([channel] if isinstance(channel, str) else channel, consumer, filters)


def route_class(consumer: Any, **filters: str) -> Route:
    """Send messages of all the channels of a consumer class to it; for filters see `route`."""
    found = load(consumer) if isinstance(consumer, str) else consumer
    if not is_consumer_class(found):
        raise ConfigurationError(
            f"route_class() was given {found!r}; expected a subclass of BaseConsumer. "
            "For a function, use route()"
        )
    return Route(found.channel_names(), found, filters)


def include(routing: Routing, **filters: str) -> Include:
    r"""Send messages that pass the filters to the routes of `routing`.

    What a filter matches is taken off the value before the routes inside see it:
    `include(chat, path=r"^/chat")` gives them "/lobby/" of "/chat/lobby/".
    """
    return Include(routing, filters)


class Router:
    """A routing, made ready to match messages. Matching is thread-safe."""

    def __init__(self, routing: Routing, *, wrap: Wrap | None = None) -> None:
        """Compile `routing`; raises `ConfigurationError` when something in it is wrong.

        `wrap` puts something around every consumer of a channel, for example what a framework
        does before and after each.
        """
        self._wrap = wrap
        self._leaves: dict[str, Leaves] = {}
        self.finds: dict[str, Find] = {}
        """Channel → what does the `find` of its messages."""
        for item in _items(routing):
            self.add_route(item)

    def add_route(self, added: AnyRoute) -> None:
        """Add a route behind the others. Not while a worker runs."""
        for channel, leaf in _as_item(added).leaves(()):
            found = leaf.wrapped(self._wrap, channel) if self._wrap else leaf
            leaves = self._leaves.setdefault(channel, Leaves())
            leaves.add(found)
            self.finds[channel] = leaves.find

    @property
    def channels(self) -> frozenset[str]:
        """The channels that have a route."""
        return frozenset(self._leaves)

    def check_default(self, http_consumer: AnyRoute | Consumer | None = None) -> None:
        """Add consumers for what interface servers send and no route names: see `defaults`.

        `http_consumer` answers requests that go to no other; None: with 404. For the only routing
        of a bus: a worker takes the messages of every channel in its router, and then others never
        see them.
        """
        if http_consumer is not None and not self.takes_all("http.request"):
            self.add_route(
                http_consumer
                if isinstance(http_consumer, RoutingItem | CustomRoute)
                else route("http.request", http_consumer)
            )
        for channel, consumer in defaults(self._leaves).items():
            self.add_route(Route([channel], consumer, {}))

    def check_ordering(self, policies: Policies) -> None:
        """Raise `ConfigurationError` if a consumer relies on an order that is not kept.

        `policies` are those of the layer. See `busway.app.decorators.enforce_ordering`.
        """
        for channel in self._leaves:
            if policies.find(channel)[1].ordering is not None:
                continue
            for target in self.targets(channel) or ():
                if target.is_ordered:
                    raise ConfigurationError(
                        f"{target.name} relies on the order of its messages, and the layer "
                        f"keeps none on {channel!r}; give the layer the policy "
                        f'{{"{channel}": {{"ordering": "reply_channel"}}}}, '
                        "or leave out enforce_ordering"
                    )

    def takes_all(self, channel: str) -> bool:
        """Tell whether every message of `channel` goes to some consumer."""
        return any(leaf.takes_all for leaf in self._of(channel))

    def match(self, message: Message) -> tuple[Any, dict[str, Any]] | None:
        """Return the consumer of `message` and its keyword arguments; None without a route."""
        found = self.find(message)
        return None if found is None else (found[0].consumer, dict(found[1]))

    def find(self, message: Message) -> Found | None:
        """Do a `match` that returns the whole `Target`; the arguments are not to be changed."""
        find = self.finds.get(message.channel_name)
        return None if find is None else find(message)

    def targets(self, channel: str) -> list[Target] | None:
        """Return the consumers that messages of `channel` may go to; None: nobody can say."""
        targets = [leaf.target for leaf in self._of(channel)]
        return None if None in targets else [target for target in targets if target]

    def _of(self, channel: str) -> Sequence[Leaf]:
        leaves = self._leaves.get(channel)
        return () if leaves is None else leaves.all


def _items(routing: Routing) -> Iterator[RoutingItem]:
    """Yield what is in a routing of any form."""
    found: Any = load(routing) if isinstance(routing, str) else routing
    if isinstance(found, Mapping):
        for channel, consumer in found.items():
            yield Route([channel], consumer, {})
    elif isinstance(found, Sequence) and not isinstance(found, (str, bytes)):
        for item in found:
            yield _as_item(item)
    elif isinstance(found, RoutingItem) or _is_custom(found):
        yield _as_item(found)
    else:
        named = f"{routing!r} is" if isinstance(routing, str) else "the routing is"
        raise ConfigurationError(
            f"{named} {found!r}; expected a list of route(…), a dict of channel → consumer, "
            "or the dotted path of one"
        )


def _as_item(found: AnyRoute) -> RoutingItem:
    if isinstance(found, RoutingItem):
        return found
    if _is_custom(found):
        return _OwnRoute(found)
    raise ConfigurationError(
        f"a routing holds {found!r}; expected route(…), route_class(…), include(…), "
        "or an object with match() and channel_names()"
    )


def _is_custom(found: object) -> bool:
    return not isinstance(found, type) and isinstance(found, CustomRoute)


def _argument_names(filters: Collection[Filter]) -> set[str]:
    names: set[str] = set()
    for filter_ in filters:
        twice = names & filter_.names
        if twice:
            raise ConfigurationError(
                f"the filter {filter_.key}={filter_.source!r} names {min(twice)!r}, as another "
                "filter around it does; every argument needs a name of its own"
            )
        names |= filter_.names
    return names


def _compile(filters: Mapping[str, str], *, prefix: bool) -> tuple[Filter, ...]:
    for key, source in filters.items():
        if not isinstance(source, str):
            raise ConfigurationError(f"the filter {key}={source!r} is not text")
    return tuple(Filter(key, source, prefix=prefix) for key, source in filters.items())


def _check_channel(name: str) -> str:
    check_channel(name)
    if "!" in name:
        raise ConfigurationError(
            f"a route is for {name!r}, which belongs to one process; workers share normal channels"
        )
    return name
