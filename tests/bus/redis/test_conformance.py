"""The Redis layer keeps the contract, in every form and on every kind of server."""

from functools import partial
from secrets import token_hex

import pytest

from bus.topics import LONG, OfServers
from busway.bus.conformance import Factory, Suite
from busway.bus.receiver import Receiver
from busway.bus.redis import RedisChannelLayer
from servers.cluster import Cluster
from servers.redis import RedisServer
from servers.sentinel import Sentinels


class TestOneServer(Suite):
    """Every test of the contract, on one server."""

    across_processes = True

    @pytest.fixture
    def layer_factory(self, redis_server: RedisServer) -> Factory:
        """Return what makes layers on a bus of this test's own."""
        return partial(RedisChannelLayer, redis_server.url, prefix=token_hex(4))


class TestThreeShards(Suite if LONG else OfServers):  # type: ignore[misc]
    """Every test of the contract, on three servers."""

    across_processes = True
    lanes_apart = True

    @pytest.fixture
    def layer_factory(self, redis_shards: list[RedisServer]) -> Factory:
        """Return what makes layers on a bus of this test's own."""
        urls = [server.url for server in redis_shards]
        return partial(RedisChannelLayer, urls, prefix=token_hex(4))


class TestSentinel(Suite if LONG else OfServers):  # type: ignore[misc]
    """Every test of the contract, on a service that sentinels know."""

    across_processes = True

    @pytest.fixture
    def layer_factory(self, redis_sentinels: Sentinels) -> Factory:
        """Return what makes layers on a bus of this test's own."""
        return partial(RedisChannelLayer, redis_sentinels.layer_url, prefix=token_hex(4))


class TestCluster(Suite if LONG else OfServers):  # type: ignore[misc]
    """Every test of the contract, on a cluster of six nodes."""

    across_processes = True
    lanes_apart = True

    @pytest.fixture
    def layer_factory(self, redis_cluster: Cluster) -> Factory:
        """Return what makes layers on a bus of this test's own."""
        return partial(RedisChannelLayer, redis_cluster.layer_url, prefix=token_hex(4), slots=3)


@pytest.mark.parametrize("each_redis_server", ["redis-6.2", "redis-8", "valkey"], indirect=True)
class TestOtherServers(Suite if LONG else OfServers):  # type: ignore[misc]
    """The contract on Redis 6.2, Redis 8 and Valkey."""

    across_processes = True

    @pytest.fixture
    def layer_factory(self, each_redis_server: RedisServer) -> Factory:
        """Return what makes layers on a bus of this test's own."""
        return partial(RedisChannelLayer, each_redis_server.url, prefix=token_hex(4))


class EagerLayer(RedisChannelLayer):
    """A layer all of whose receivers may be handed messages while they sleep."""

    def receiver(self) -> Receiver:
        """Return a receiver that is eager."""
        receiver = super().receiver()
        receiver.eager = True
        return receiver


class TestEager(Suite):
    """Every test of the contract, with receivers that may be handed messages."""

    across_processes = True
    eager = True

    @pytest.fixture
    def layer_factory(self, redis_server: RedisServer) -> Factory:
        """Return what makes layers on a bus of this test's own."""
        return partial(EagerLayer, redis_server.url, prefix=token_hex(4))
