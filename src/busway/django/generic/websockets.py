"""Consumers of WebSockets as classes, sync and async."""

from busway.django.generic.demultiplexer import (
    AsyncWebsocketDemultiplexer,
    WebsocketDemultiplexer,
)
from busway.django.generic.multiplexer import WebsocketMultiplexer
from busway.django.generic.sockets import (
    AsyncJsonWebsocketConsumer,
    AsyncWebsocketConsumer,
    JsonWebsocketConsumer,
    WebsocketConsumer,
)

__all__ = [
    "AsyncJsonWebsocketConsumer",
    "AsyncWebsocketConsumer",
    "AsyncWebsocketDemultiplexer",
    "JsonWebsocketConsumer",
    "WebsocketConsumer",
    "WebsocketDemultiplexer",
    "WebsocketMultiplexer",
]
