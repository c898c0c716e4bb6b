"""Fixtures for the tests of the web interface server."""

from collections.abc import Iterator

import pytest

from busway.bus.layer import ChannelLayer
from busway.bus.memory import MemoryChannelLayer
from interfaces.web.harness import RawClient, WebServer, Worker


@pytest.fixture
def layer() -> Iterator[ChannelLayer]:
    """Return a layer of this test's own."""
    layer = MemoryChannelLayer()
    yield layer
    layer.close()


@pytest.fixture
def server(layer: ChannelLayer) -> Iterator[WebServer]:
    """Return a running server with the default options."""
    with WebServer(layer) as server:
        yield server


@pytest.fixture
def worker(layer: ChannelLayer) -> Iterator[Worker]:
    """Return a worker that accepts, echoes and answers."""
    with Worker(layer) as worker:
        yield worker


@pytest.fixture
def client(server: WebServer) -> Iterator[RawClient]:
    """Return a TCP connection to the server."""
    with RawClient(server.port) as client:
        yield client
