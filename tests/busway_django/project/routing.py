"""Routing of the tests' project."""

from busway.app.routing import RoutingItem

channel_routing: list[RoutingItem] = []
