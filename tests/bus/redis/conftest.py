"""A private Redis server for the tests of a worker of pytest."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bus.redis.servers import RedisServer


@pytest.fixture(scope="session")
def redis_socket() -> Iterator[Path]:
    """Return the socket of a server that many tests share."""
    with TemporaryDirectory(prefix="busway-redis-") as folder, RedisServer(Path(folder)) as server:
        yield server.socket
