"""Busway for Django: add `busway.django` to INSTALLED_APPS.

Under the names of Channels 1: `from busway.django import Channel, Group, route, include`.
"""

from busway.app.routing import include, route, route_class
from busway.django.channels import Channel, Group
from busway.django.layers import DEFAULT_CHANNEL_LAYER, channel_layers

__all__ = [
    "DEFAULT_CHANNEL_LAYER",
    "Channel",
    "Group",
    "channel_layers",
    "include",
    "route",
    "route_class",
]
