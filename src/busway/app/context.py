"""Where a send goes: the process's layer, or the outbox of the consumer that is running."""

import os
from collections.abc import Callable
from contextvars import ContextVar
from threading import Lock

import msgspec

from busway.bus.layer import ChannelLayer
from busway.bus.operations import Operation
from busway.bus.urls import default_url, open_layer


class Outbox(msgspec.Struct):
    """What one consumer sends to `layer`, held until it has ended."""

    layer: ChannelLayer
    operations: list[Operation] = []
    open: bool = True
    """False: the consumer has ended. What its leftover tasks and threads send goes straight to
    the layer."""


outbox: ContextVar[Outbox | None] = ContextVar("busway_outbox", default=None)
"""The outbox of the running consumer. A context variable, since many async consumers share a
thread; reading one is also cheaper than reading a thread-local (21 ns to 36 ns)."""


class _Process:
    """The process's layer."""

    def __init__(self) -> None:
        self.layer: ChannelLayer | None = None
        self.open: Callable[[], ChannelLayer] | None = None
        self.lock = Lock()


_process = _Process()


def current_layer() -> ChannelLayer:
    """Return the layer that channels and groups use when they were given none.

    Inside a consumer it is its worker's, elsewhere the process's: what `set_layer` was given,
    or else the layer at the URL in the environment variable BUSWAY_LAYER, or else the bus of the
    current directory, opened at the first use. Thread-safe. Raises `ConfigurationError` when the
    URL is no good.
    """
    running = outbox.get()
    if running is not None:
        return running.layer
    layer = _process.layer
    if layer is not None:
        return layer
    if _process.open is not None:
        return _process.open()
    with _process.lock:
        if _process.layer is None:
            url = os.environ.get("BUSWAY_LAYER") or default_url()
            _process.layer = open_layer(url)
        return _process.layer


Opener = Callable[[], ChannelLayer]


def set_opener(opener: Opener | None) -> Opener | None:
    """Let `opener` say what the process's layer is, and return the one before it.

    For frameworks with settings of their own. It is asked each time, for what it returns may
    change (as in tests), so it keeps what it has opened. None: the layer is that of BUSWAY_LAYER.
    """
    with _process.lock:
        before, _process.open = _process.open, opener
    return before


def set_layer(layer: ChannelLayer | None) -> ChannelLayer | None:
    """Make `layer` the process's, and return the one before it; None: open one when needed.

    The layer before is not closed: it belongs to whoever made it.
    """
    with _process.lock:
        before, _process.layer = _process.layer, layer
    return before


def held_by(layer: ChannelLayer | None) -> list[Operation] | None:
    """Return the list that holds sends to `layer` (None: the current one) now, if any does."""
    running = outbox.get()
    if running is None or not running.open or (layer is not None and layer is not running.layer):
        return None
    return running.operations
