"""A cluster of six nodes keeps the contract, and moves under the feet of those who use it."""

import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from secrets import token_hex

import pytest

from bus.redis.servers import RedisServer, free_port
from busway.bus.conformance import Factory, Suite
from busway.bus.conformance.harness import eventually
from busway.bus.redis import RedisChannelLayer


def is_whole(server: RedisServer) -> bool:
    return "cluster_state:ok" in str(server.command("CLUSTER", "INFO"))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[int]]:
    """Return the ports of a cluster's nodes."""
    servers, ports = [], []
    try:
        for _ in range(6):
            port = free_port()
            folder = tmp_path_factory.mktemp("node")
            options = ["--port", str(port), "--cluster-enabled", "yes", "--cluster-node-timeout"]
            servers.append(RedisServer(folder, *options, "1000", "--bind", "127.0.0.1"))
            ports.append(port)
        cli = shutil.which("redis-cli")
        assert cli is not None
        nodes = [f"127.0.0.1:{port}" for port in ports]
        create = [cli, "--cluster", "create", *nodes, "--cluster-replicas", "1", "--cluster-yes"]
        subprocess.run(create, check=True, capture_output=True, timeout=60)
        for server in servers:
            eventually(partial(is_whole, server), "the cluster is whole")
        yield ports
    finally:
        for server in servers:
            server.stop()


class TestCluster(Suite):
    """Every test of the contract, on a cluster."""

    across_processes = True
    lanes_apart = True

    @pytest.fixture
    def layer_factory(self, cluster: list[int]) -> Factory:
        """Return what makes layers on a bus of this test's own."""
        url = f"redis+cluster://127.0.0.1:{cluster[0]}"
        return partial(RedisChannelLayer, url, prefix=token_hex(4), slots=3)
