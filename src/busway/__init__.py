"""Busway: realtime for Django and any Python on a message bus."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from busway.app import (
        AsyncJsonWebsocketConsumer,
        AsyncWebsocketConsumer,
        BaseConsumer,
        Channel,
        CloseConnection,
        ConsumeLater,
        DenyConnection,
        Group,
        JsonWebsocketConsumer,
        Message,
        PartlyFailed,
        RequestAborted,
        RequestTimeout,
        ResponseLater,
        Router,
        WebsocketCloseException,
        WebsocketConsumer,
        Worker,
        abody_chunks,
        astream_response,
        body_chunks,
        enforce_ordering,
        include,
        respond,
        route,
        route_class,
        stream_response,
    )

__version__ = "0.1.0"

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


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: interface servers need no consumers' code."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module("busway.app"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
