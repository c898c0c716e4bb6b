"""Routing, under the names of Channels 1; see `busway.app.routing`."""

from busway.app import routing
from busway.app.defaults import ignore as null_consumer
from busway.app.leaves import CustomRoute
from busway.app.routing import AnyRoute, Include, Route, Routing, include, route, route_class
from busway.app.targets import Consumer
from busway.django.framing import framed

__all__ = [
    "CustomRoute",
    "Include",
    "Route",
    "Router",
    "Routing",
    "include",
    "null_consumer",
    "route",
    "route_class",
]


class Router(routing.Router):
    """A routing with what Django does around each consumer: see `busway.django.framing`."""

    def __init__(self, routing: Routing) -> None:
        """Compile `routing`; raises `ConfigurationError` when something in it is wrong."""
        super().__init__(routing, wrap=framed)

    def check_default(self, http_consumer: AnyRoute | Consumer | None = None) -> None:
        """Add consumers for what interface servers send and no route names.

        `http_consumer` answers requests that go to no other; None: Django's views do. Messages on
        "asgi.delay" are sent later, as in Channels 1.
        """
        # They load the project's middleware and URLs.
        from busway.django.delay import DELAY_CHANNEL, delay  # noqa: PLC0415
        from busway.django.views import view_route  # noqa: PLC0415

        if http_consumer is None and not self.takes_all("http.request"):
            http_consumer = view_route()
        super().check_default(http_consumer)
        if DELAY_CHANNEL not in self.channels:
            self.add_route(route(DELAY_CHANNEL, delay))
