"""A cluster of six nodes keeps the contract, and moves under the feet of those who use it."""

import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from secrets import token_hex
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from bus.redis.servers import RedisServer, free_port
from busway.bus.conformance import Factory, Suite
from busway.bus.conformance.harness import Task, eventually
from busway.bus.errors import BusError
from busway.bus.operations import Send
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


class Node:
    """A node, as the one who moves slots sees it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.client = redis.Redis(port=port)
        self.id = self.do("CLUSTER", "MYID").decode()

    def do(self, *command: object) -> Any:
        return self.client.execute_command(*command)  # type: ignore[no-untyped-call]

    def has(self, slot: int) -> bool:
        for first, last, (_, port, *_), *_ in self.do("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return bool(port == self.port)
        return False


def masters(ports: list[int]) -> list[Node]:
    nodes = [Node(port) for port in ports]
    found = [node for node in nodes if node.do("ROLE")[0] == b"master"]
    for node in nodes:
        if node not in found:
            node.client.close()
    return found


def test_a_shard_that_moves_to_another_node_loses_nothing(cluster: list[int]) -> None:
    layer = RedisChannelLayer(
        f"redis+cluster://127.0.0.1:{cluster[0]}", prefix=token_hex(4), slots=1, capacity=10_000
    )
    layer.send("work", {"n": 0})
    nodes = masters(cluster)
    slot = key_slot(layer.parts[0].key)
    source = next(node for node in nodes if node.has(slot))
    target = next(node for node in nodes if node is not source)
    stop = threading.Event()
    sent: list[int] = []

    def send() -> None:
        operations = [Send("work", {"n": n}) for n in range(1, 100_000)]
        with layer.receiver() as sender:
            while not stop.is_set():
                try:
                    sender.exchange(operations[len(sent) : len(sent) + 1])
                except BusError:
                    continue
                sent.append(len(sent) + 1)

    task = Task(send)
    eventually(lambda: len(sent) > 20, "messages are sent")
    target.do("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
    source.do("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
    while keys := source.do("CLUSTER", "GETKEYSINSLOT", slot, 3):
        source.do("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
    for node in (target, source, *nodes):
        node.do("CLUSTER", "SETSLOT", slot, "NODE", target.id)
    before = len(sent)
    eventually(lambda: len(sent) > before + 20, "messages are sent after the move")
    stop.set()
    task.result()
    found = []
    while (message := layer.receive(["work"])[1]) is not None:
        found.append(message["n"])
    assert found == [0, *sent]
    layer.close()
    for node in nodes:
        node.client.close()
