"""Another routing for the length of a test."""

import inspect
import unittest
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import wraps
from types import TracebackType
from typing import Any, Self, TypeVar

from busway.app.routing import Routing, RoutingItem, route_class
from busway.app.targets import is_consumer_class
from busway.django.layers import DEFAULT_CHANNEL_LAYER, channel_layers
from busway.django.routing import Router

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])


# Lower case: it is used like a function. The name is that of Channels 1.
class apply_routes:  # noqa: N801
    """Has `routes` in place of the ROUTING of some layers.

    As a context manager, or as a decorator of functions, async functions and classes: of a
    `TestCase` it holds from before `setUpClass` to its end, of other classes in each method
    whose name begins with "test". Not for other processes, as those of a live server.
    """

    def __init__(
        self,
        routes: Routing | RoutingItem | type,
        aliases: Sequence[str] = (DEFAULT_CHANNEL_LAYER,),
    ) -> None:
        """Take a routing of any form, one route or consumer class, or a list of these.

        `aliases` are those of the layers. Raises `ConfigurationError` when a route is wrong.
        """
        if isinstance(aliases, str):
            aliases = [aliases]
        self._aliases = list(aliases)
        self._routing = _as_routing(routes)
        Router(self._routing)  # what is wrong is to be seen where it is written
        self._stacks: list[ExitStack] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for alias in self._aliases:
                channel_layers.config(alias)
                router = Router(self._routing)
                before = channel_layers.set_router(alias, router)
                stack.callback(channel_layers.set_router, alias, before)
            self._stacks.append(stack.pop_all())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stacks.pop().close()

    def __call__(self, decorated: _Decorated) -> _Decorated:
        """Decorate a function or a class."""
        if isinstance(decorated, type):
            self._decorate_class(decorated)
            return decorated
        function: _Decorated = self._decorate(decorated)
        return function

    def _decorate_class(self, decorated: type) -> None:
        if issubclass(decorated, unittest.TestCase):
            set_up = decorated.setUpClass.__func__  # type: ignore[attr-defined]

            def set_up_class(cls: type[unittest.TestCase]) -> None:
                cls.enterClassContext(self)
                set_up(cls)

            decorated.setUpClass = classmethod(set_up_class)  # type: ignore[method-assign, assignment]
            return
        for name, value in list(vars(decorated).items()):
            if name.startswith("test") and inspect.isfunction(value):
                setattr(decorated, name, self._decorate(value))

    def _decorate(self, function: Any) -> Any:
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def arun(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return await function(*args, **kwargs)

            return arun

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return run


def _as_routing(routes: Any) -> Routing:
    if isinstance(routes, RoutingItem) or is_consumer_class(routes):
        routes = [routes]
    if isinstance(routes, list | tuple):
        return [route_class(item) if is_consumer_class(item) else item for item in routes]
    found: Routing = routes
    return found
