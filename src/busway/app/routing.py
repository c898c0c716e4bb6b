"""Which consumer takes which message.

A routing is a list of what `route`, `route_class` and `include` return, a dict of channel →
consumer, an object with `match` and `channel_names` (see `CustomRoute`), or the dotted path of
any of these. The first route that matches takes the message.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from busway.app.defaults import defaults
from busway.app.loading import load
from busway.app.message import Message
from busway.app.patterns import Filter, text_of
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

Found = tuple[Target, dict[str, Any]]
"""A consumer, and its keyword arguments for one message."""


@runtime_checkable
class CustomRoute(Protocol):
    """A route of your own."""

    def match(self, message: Message) -> tuple[Consumer, dict[str, Any]] | None:
        """Return the consumer of `message` and its keyword arguments, or None."""

    def channel_names(self) -> Collection[str]:
        """Return the channels whose messages it wants to see."""


class Route:
    """Sends messages of some channels to a consumer, if they pass the filters."""

    def __init__(
        self, channels: Collection[str], consumer: Consumer, filters: Mapping[str, str]
    ) -> None:
        """See `route`."""
        self.channels = [_check_channel(name) for name in channels]
        self.target = target_of(consumer)
        self.filters = _compile(filters, prefix=False)


class Include:
    """Sends messages that pass its filters to the routes of another routing."""

    def __init__(self, routing: "Routing", filters: Mapping[str, str]) -> None:
        """See `include`."""
        self.routes = list(_routes(routing))
        self.filters = _compile(filters, prefix=True)


AnyRoute = Route | Include | CustomRoute
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

    def __init__(self, routing: Routing) -> None:
        """Compile `routing`; raises `ConfigurationError` when something in it is wrong."""
        self._leaves: dict[str, list[_Leaf]] = {}
        for item in _routes(routing):
            self.add_route(item)

    def add_route(self, added: AnyRoute) -> None:
        """Add a route behind the others. Not while a worker runs."""
        for channel, leaf in _flatten(added, ()):
            self._leaves.setdefault(channel, []).append(leaf)

    @property
    def channels(self) -> frozenset[str]:
        """The channels that have a route."""
        return frozenset(self._leaves)

    def check_default(self) -> None:
        """Add consumers for what interface servers send and no route names: see `defaults`.

        For the only routing of a bus: a worker takes the messages of every channel in its
        router, and then others never see them.
        """
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

    def match(self, message: Message) -> tuple[Any, dict[str, Any]] | None:
        """Return the consumer of `message` and its keyword arguments; None without a route."""
        found = self.find(message)
        return None if found is None else (found[0].consumer, found[1])

    def find(self, message: Message) -> Found | None:
        """Do a `match` that returns the whole `Target`."""
        for leaf in self._leaves.get(message.channel_name, ()):
            found = leaf.match(message)
            if found is not None:
                return found
        return None

    def targets(self, channel: str) -> list[Target] | None:
        """Return the consumers that messages of `channel` may go to; None: nobody can say."""
        targets = [leaf.target for leaf in self._leaves.get(channel, ())]
        return None if None in targets else [target for target in targets if target]


class _Leaf:
    """A route with the filters of all that includes it."""

    def __init__(
        self,
        prefixes: tuple[Filter, ...],
        filters: tuple[Filter, ...],
        target: Target | None,
        custom: CustomRoute | None = None,
    ) -> None:
        self.target = target
        self._prefixes = prefixes
        self._filters = filters
        self._custom = custom

    def match(self, message: Message) -> Found | None:
        arguments: dict[str, Any] = {}
        content = message.content
        if self._prefixes:
            rest = self._strip(content, arguments)
            if rest is None:
                return None
            content = content | rest
        for filter_ in self._filters:
            text = text_of(content.get(filter_.key))
            if text is None or filter_.match(text, arguments) < 0:
                return None
        if self.target is not None:
            return self.target, arguments
        return self._ask(message, content, arguments)

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

    def _ask(
        self, message: Message, content: dict[str, Any], arguments: dict[str, Any]
    ) -> Found | None:
        if self._custom is None:
            return None
        seen = message.copy()
        seen.content = content
        found = self._custom.match(seen)
        if found is None:
            return None
        consumer, own = found
        return target_of(consumer), arguments | own


def _routes(routing: Routing) -> Iterator[AnyRoute]:
    """Yield the routes of a routing of any form."""
    found: Any = load(routing) if isinstance(routing, str) else routing
    if isinstance(found, Mapping):
        for channel, consumer in found.items():
            yield Route([channel], consumer, {})
    elif isinstance(found, (Route, Include)) or _is_custom(found):
        yield found
    elif isinstance(found, Sequence) and not isinstance(found, (str, bytes)):
        for item in found:
            if not (isinstance(item, (Route, Include)) or _is_custom(item)):
                raise ConfigurationError(
                    f"a routing holds {item!r}; expected route(…), route_class(…), include(…), "
                    "or an object with match() and channel_names()"
                )
            yield item
    else:
        named = f"{routing!r} is" if isinstance(routing, str) else "the routing is"
        raise ConfigurationError(
            f"{named} {found!r}; expected a list of route(…), a dict of channel → consumer, "
            "or the dotted path of one"
        )


def _is_custom(found: object) -> bool:
    return not isinstance(found, type) and isinstance(found, CustomRoute)


def _flatten(item: AnyRoute, prefixes: tuple[Filter, ...]) -> Iterator[tuple[str, _Leaf]]:
    """Yield (channel, leaf) for every route in `item`."""
    if isinstance(item, Include):
        for inner in item.routes:
            yield from _flatten(inner, prefixes + item.filters)
    elif isinstance(item, Route):
        names = _argument_names((*prefixes, *item.filters))
        check_arguments(item.target, names)
        leaf = _Leaf(prefixes, item.filters, item.target)
        for channel in item.channels:
            yield channel, leaf
    else:
        leaf = _Leaf(prefixes, (), None, item)
        for channel in item.channel_names():
            yield _check_channel(channel), leaf


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
