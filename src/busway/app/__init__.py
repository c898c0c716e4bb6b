"""Your code's side of the bus: consumers, routing, what they send, and the worker."""

from busway.app.async_consumers import AsyncJsonWebsocketConsumer, AsyncWebsocketConsumer
from busway.app.channels import Channel, Group
from busway.app.consumers import BaseConsumer, JsonWebsocketConsumer, WebsocketConsumer
from busway.app.decorators import enforce_ordering
from busway.app.exceptions import (
    CloseConnection,
    ConsumeLater,
    DenyConnection,
    PartlyFailed,
    RequestAborted,
    RequestTimeout,
    ResponseLater,
    WebsocketCloseException,
)
from busway.app.http import respond
from busway.app.message import Message
from busway.app.routing import Router, include, route, route_class
from busway.app.streaming import abody_chunks, astream_response, body_chunks, stream_response
from busway.app.worker import Worker

__all__ = [
    "AsyncJsonWebsocketConsumer",
    "AsyncWebsocketConsumer",
    "BaseConsumer",
    "Channel",
    "CloseConnection",
    "ConsumeLater",
    "DenyConnection",
    "Group",
    "JsonWebsocketConsumer",
    "Message",
    "PartlyFailed",
    "RequestAborted",
    "RequestTimeout",
    "ResponseLater",
    "Router",
    "WebsocketCloseException",
    "WebsocketConsumer",
    "Worker",
    "abody_chunks",
    "astream_response",
    "body_chunks",
    "enforce_ordering",
    "include",
    "respond",
    "route",
    "route_class",
    "stream_response",
]
