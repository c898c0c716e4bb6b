"""The Redis layer keeps the contract."""

from functools import partial
from pathlib import Path
from secrets import token_hex

import pytest

from busway.bus.conformance import Factory, Suite
from busway.bus.redis import RedisChannelLayer


class TestOneServer(Suite):
    """Every test of the contract, on one server."""

    across_processes = True

    @pytest.fixture
    def layer_factory(self, redis_socket: Path) -> Factory:
        """Return what makes layers on a bus of this test's own."""
        return partial(RedisChannelLayer, f"unix://{redis_socket}", prefix=token_hex(4))


class TestThreeShards(Suite):
    """Every test of the contract, on three servers."""

    across_processes = True
    lanes_apart = True

    @pytest.fixture
    def layer_factory(self, redis_socket: Path) -> Factory:
        """Return what makes layers on a bus of this test's own."""
        urls = [f"unix://{redis_socket}?db={number}" for number in range(3)]
        return partial(RedisChannelLayer, urls, prefix=token_hex(4))
