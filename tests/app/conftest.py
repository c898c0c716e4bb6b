"""Fixtures for the tests of the app room."""

from collections.abc import Iterator

import pytest

from app.harness import Peer
from busway.app.context import set_layer, set_opener
from busway.bus.layer import ChannelLayer
from busway.bus.memory import MemoryChannelLayer


@pytest.fixture(autouse=True)
def no_framework() -> Iterator[None]:
    """Let no framework that other tests use say what the current layer is."""
    opener, layer = set_opener(None), set_layer(None)
    yield
    set_opener(opener)
    set_layer(layer)


@pytest.fixture
def layer() -> Iterator[ChannelLayer]:
    """Return a layer of this test's own."""
    layer = MemoryChannelLayer()
    yield layer
    layer.close()


@pytest.fixture
def peer(layer: ChannelLayer) -> Peer:
    """Return somebody who sends messages and reads the answers."""
    return Peer(layer)
