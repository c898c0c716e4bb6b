"""Which views run on the worker's event loop."""

from collections.abc import Callable, Collection, Iterator
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.urls import Resolver404, URLPattern, URLResolver, get_resolver
from django.utils.functional import cached_property

from busway.app.message import Message
from busway.django.framing import unframed
from busway.django.handler import AsyncAsgiHandler, ViewConsumer
from busway.django.requests import path_info, script_name


class Views:
    """A route for `http.request`: async views run on the worker's event loop, others in its thread.

    It looks at the URL before the middleware does; a middleware that changes the path or the
    urlconf of a request does not change where its view runs.
    """

    def __init__(self, consumer: ViewConsumer | None = None) -> None:
        """Take the consumer for what is not async; None: a `ViewConsumer`."""
        self._consumer = consumer or ViewConsumer()

    @cached_property
    def _handle(self) -> Callable[[Message], Any]:
        return unframed(AsyncViewConsumer(AsyncAsgiHandler()))

    def channel_names(self) -> Collection[str]:
        """See `busway.app.leaves.CustomRoute`."""
        return ["http.request"]

    def match(self, message: Message) -> tuple[Callable[..., Any], dict[str, Any]]:
        """See `busway.app.leaves.CustomRoute`."""
        claimed = self._consumer.claims(message.content["path"])
        use_loop = not claimed and _is_async(message)
        return (self._handle if use_loop else self._consumer), {}


class AsyncViewConsumer:
    """Answers requests on the event loop."""

    def __init__(self, handler: AsyncAsgiHandler) -> None:
        self._handler = handler

    async def __call__(self, message: Message) -> None:
        await self._handler.handle(message)


def view_route(consumer: ViewConsumer | None = None) -> Views | ViewConsumer:
    """Return what answers `http.request`: the simple consumer if no view of the project is async.

    Then a worker needs no event loop.
    """
    consumer = consumer or ViewConsumer()
    return Views(consumer) if has_async_views() else consumer


def has_async_views() -> bool:
    """Tell whether ROOT_URLCONF has views that are `async def`."""
    return any(map(_is_async_view, _callbacks(get_resolver().url_patterns)))


def _callbacks(patterns: Collection[URLPattern | URLResolver]) -> Iterator[Callable[..., Any]]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from _callbacks(pattern.url_patterns)
        elif pattern.callback is not None:
            yield pattern.callback


def _is_async_view(callback: Callable[..., Any]) -> bool:
    view_class = getattr(callback, "view_class", None)
    if view_class is not None:
        return bool(view_class.view_is_async)
    return iscoroutinefunction(callback)


def _is_async(message: Message) -> bool:
    path = path_info(message.content["path"], script_name(message.content))
    try:
        return _is_async_view(get_resolver(settings.ROOT_URLCONF).resolve(path).func)
    except Resolver404:
        return False
