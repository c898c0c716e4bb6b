"""What the tests of the Redis layer share."""

from collections.abc import Iterator

import pytest

from busway.bus.redis import RedisChannelLayer
from servers.redis import RedisServer


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """Return a server of this test's own, which it may stop; it keeps nothing on disk."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def layer(server: RedisServer) -> Iterator[RedisChannelLayer]:
    """Return a layer on that server."""
    layer = RedisChannelLayer(server.url)
    yield layer
    layer.close()
