"""Fixtures for every test: a place for a bus, and servers that a worker of the suite starts when it
first needs one."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from servers import binaries
from servers.certificates import Authority
from servers.cluster import Cluster
from servers.hosts import Network, need_network
from servers.redis import RedisServer
from servers.sentinel import Sentinels


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return one more than there are cores: many tests wait, for a death or a return."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.fixture
def bus_place() -> Iterator[Path]:
    """Return a directory for buses of this test's own.

    Its path is short: those of a bus's sockets have a limit, and `tmp_path` has the test's name.
    """
    with TemporaryDirectory(prefix="busway-test-") as path:
        yield Path(path)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """Return a server that tests share: use a prefix of your own, and do not stop it."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session", params=binaries.NAMES)
def each_redis_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """Return a shared server of each kind: Redis 6.2, 8, the one that is installed, Valkey."""
    with RedisServer(binary=binaries.need(request.param)) as server:
        yield server


@pytest.fixture(scope="session")
def redis_shards() -> Iterator[list[RedisServer]]:
    """Return three servers that tests share."""
    with RedisServer() as one, RedisServer() as two, RedisServer() as three:
        yield [one, two, three]


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[Cluster]:
    """Return a cluster of six nodes that tests share: move slots, but kill no node."""
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def redis_sentinels() -> Iterator[Sentinels]:
    """Return a primary, two replicas and three sentinels that tests share: kill none."""
    with Sentinels() as sentinels:
        yield sentinels


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return who signs certificates."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def network() -> Iterator[Network]:
    """Return two hosts of this test's own."""
    need_network()
    with Network() as network:
        yield network
