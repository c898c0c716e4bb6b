"""Fixtures for pytest, with pytest-django: `busway.pytest_plugin` makes them known."""

from collections.abc import Iterator

import pytest

from busway.bus.layer import ChannelLayer
from busway.django.layers import DEFAULT_CHANNEL_LAYER, channel_layers
from busway.django.test.layers import memory_layers
from busway.django.test.live import ChannelLiveServer
from busway.django.test.websocket import WSClient


@pytest.fixture
def channel_layer() -> Iterator[ChannelLayer]:
    """Have empty memory layers in place of all of CHANNEL_LAYERS; gives the default one."""
    with memory_layers(channel_layers) as layers:
        yield layers[DEFAULT_CHANNEL_LAYER]


@pytest.fixture
def ws_client(channel_layer: ChannelLayer) -> WSClient:
    """Return a WebSocket on an empty memory layer."""
    del channel_layer
    return WSClient()


@pytest.fixture
def live_channel_server(transactional_db: None) -> Iterator[ChannelLiveServer]:
    """Serve the project with real processes; `url` and `ws_url` say where."""
    del transactional_db
    with ChannelLiveServer() as server:
        yield server
