"""The Redis layer keeps the contract, in every form and on every kind of server.

`BUSWAY_SOAK=long` runs the whole suite on each kind; else those are given the topics that depend
most on what the server does.
"""

import os
from functools import partial
from secrets import token_hex

import pytest

from busway.bus.conformance import (
    Factory,
    Suite,
    accounts,
    groups,
    holding,
    inspection,
    lanes,
    machine,
    timing,
)
from busway.bus.redis import RedisChannelLayer
from servers.cluster import Cluster
from servers.redis import RedisServer
from servers.sentinel import Sentinels

LONG = os.environ.get("BUSWAY_SOAK") == "long"


class Topics(
    accounts.Counts,
    accounts.Flush,
    groups.GroupMessages,
    groups.Endings,
    holding.Holding,
    inspection.Channels,
    inspection.Shards,
    lanes.LanesAtWork,
    machine.Machine,
    timing.Delay,
):
    """What the scripts use most of a server's commands for."""


class TestOneServer(Suite):
    """Every test of the contract, on one server."""

    across_processes = True

    @pytest.fixture
    def layer_factory(self, redis_server: RedisServer) -> Factory:
        """Return what makes layers on a bus of this test's own."""
        return partial(RedisChannelLayer, redis_server.url, prefix=token_hex(4))


class TestThreeShards(Suite if LONG else Topics):  # type: ignore[misc]
    """Every test of the contract, on three servers."""

    across_processes = True
    lanes_apart = True

    @pytest.fixture
    def layer_factory(self, redis_shards: list[RedisServer]) -> Factory:
        """Return what makes layers on a bus of this test's own."""
        urls = [server.url for server in redis_shards]
        return partial(RedisChannelLayer, urls, prefix=token_hex(4))


class TestSentinel(Suite if LONG else Topics):  # type: ignore[misc]
    """Every test of the contract, on a service that sentinels know."""

    across_processes = True

    @pytest.fixture
    def layer_factory(self, redis_sentinels: Sentinels) -> Factory:
        """Return what makes layers on a bus of this test's own."""
        return partial(RedisChannelLayer, redis_sentinels.layer_url, prefix=token_hex(4))


class TestCluster(Suite if LONG else Topics):  # type: ignore[misc]
    """Every test of the contract, on a cluster of six nodes."""

    across_processes = True
    lanes_apart = True

    @pytest.fixture
    def layer_factory(self, redis_cluster: Cluster) -> Factory:
        """Return what makes layers on a bus of this test's own."""
        return partial(RedisChannelLayer, redis_cluster.layer_url, prefix=token_hex(4), slots=3)


@pytest.mark.parametrize("each_redis_server", ["redis-6.2", "redis-8", "valkey"], indirect=True)
class TestOtherServers(Suite if LONG else Topics):  # type: ignore[misc]
    """The contract on Redis 6.2, Redis 8 and Valkey."""

    across_processes = True

    @pytest.fixture
    def layer_factory(self, each_redis_server: RedisServer) -> Factory:
        """Return what makes layers on a bus of this test's own."""
        return partial(RedisChannelLayer, each_redis_server.url, prefix=token_hex(4))
