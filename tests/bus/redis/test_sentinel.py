"""Services that sentinels know, and what happens when their master dies."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from bus.redis.servers import RedisServer, free_port
from busway.bus.conformance.harness import eventually
from busway.bus.errors import BusError, LayerUnavailable
from busway.bus.redis import RedisChannelLayer


class Service(NamedTuple):
    """A master, its replica, and a sentinel that watches them as "main"."""

    master: RedisServer
    replica: RedisServer
    url: str
    replica_url: str


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    ports = [free_port() for _ in range(3)]
    folders = [tmp_path / name for name in ("a", "b", "c")]
    for folder in folders:
        folder.mkdir()
    settings = folders[2] / "sentinel.conf"
    settings.write_text(
        f"port {ports[2]}\n"
        f"sentinel monitor main 127.0.0.1 {ports[0]} 1\n"
        "sentinel down-after-milliseconds main 500\n"
        "sentinel failover-timeout main 3000\n"
    )
    with ExitStack() as stack:
        local = ("--bind", "127.0.0.1", "--repl-diskless-sync-delay", "0", "--port")
        master = stack.enter_context(RedisServer(folders[0], *local, str(ports[0])))
        of = ("--replicaof", f"127.0.0.1 {ports[0]}")
        replica = stack.enter_context(RedisServer(folders[1], *local, str(ports[1]), *of))
        eventually(lambda: replica.info("master_link_status") == "up", "the replica is in step")
        command = [master.program, str(settings), "--sentinel"]
        sentinel = subprocess.Popen(command, cwd=folders[2], stdout=subprocess.DEVNULL)
        stack.callback(sentinel.wait, 10)
        stack.callback(sentinel.terminate)
        url = f"redis+sentinel://127.0.0.1:{ports[2]}/main"
        layer = RedisChannelLayer(url)

        def knows_all() -> bool:
            try:
                layer.send("ready", {})
            except BusError:
                return False
            return True

        eventually(knows_all, "the sentinel knows the master")
        layer.close()
        yield Service(master, replica, url, f"redis://127.0.0.1:{ports[1]}")


def test_a_layer_follows_the_master(service: Service) -> None:
    layer = RedisChannelLayer(service.url)
    layer.send("work", {"n": 1})
    eventually(lambda: service.replica.info("master_link_status") == "up", "it is in step")
    service.master.stop()

    def works() -> bool:
        try:
            layer.send("later", {"n": 2})
        except BusError:
            return False
        return layer.receive(["later"]) == ("later", {"n": 2})

    eventually(works, "another server is the master")
    assert layer.receive(["work"]) == ("work", {"n": 1})
    layer.close()


def test_a_replica_says_what_to_name_instead(service: Service) -> None:
    layer = RedisChannelLayer(service.replica_url)
    with pytest.raises(LayerUnavailable, match="replica"):
        layer.send("work", {})
    layer.close()
