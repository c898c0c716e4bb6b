"""The servers that tests start do what tests want of them, and are gone afterwards."""

import os
import sys
from tempfile import TemporaryDirectory

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from servers import binaries
from servers.certificates import Authority
from servers.cluster import Cluster
from servers.hosts import Network, need_network
from servers.redis import RedisServer
from servers.sentinel import Sentinels
from servers.starting import until
from services import Service, is_running


def ping(url: str) -> bool:
    """Say whether a server answers at `url`."""
    with redis.Redis.from_url(url) as client:
        return bool(client.ping())


def test_each_kind_of_server_answers(each_redis_server: RedisServer) -> None:
    assert ping(each_redis_server.url)
    assert ping(each_redis_server.unix_url)


def test_shards_are_different_servers(redis_shards: list[RedisServer]) -> None:
    assert len({shard.info("server")["run_id"] for shard in redis_shards}) == 3


def test_a_server_is_gone_after_a_test_that_fails() -> None:
    server = RedisServer()

    def fail() -> None:
        with server:
            assert is_running(pids.setdefault("server", server.pid))
            server.pause()
            raise ZeroDivisionError

    pids: dict[str, int] = {}
    with pytest.raises(ZeroDivisionError):
        fail()
    assert not is_running(pids["server"])
    assert not server.directory.exists()


def test_a_server_is_gone_when_the_tests_are_killed() -> None:
    code = (
        "import threading, time\n"
        "from servers.redis import RedisServer\n"
        "with RedisServer() as server:\n"
        "    thread = threading.Thread(target=server.restart)\n"
        "    thread.start(); thread.join()\n"
        "    assert server.call('PING')\n"
        "    print('pid', server.pid); time.sleep(60)\n"
    )
    with TemporaryDirectory() as directory:
        environment = {"PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": directory}
        with Service([sys.executable, "-c", code], environment=environment) as tests:
            pid = int(tests.expect(r"pid (\d+)")[1])
    until(lambda: not is_running(pid), "the server ended with who started it")


def test_what_is_persistent_outlives_a_kill_and_nothing_else_does() -> None:
    with RedisServer(persistent=True) as lasting, RedisServer() as passing:
        for server in (lasting, passing):
            port = server.port
            server.call("SET", "key", "value")
            server.restart()
            assert server.port == port
        assert lasting.call("GET", "key") == b"value"
        assert passing.call("GET", "key") is None
        lasting.restart(empty=True)
        assert lasting.call("GET", "key") is None


def test_a_paused_server_hangs_until_it_goes_on() -> None:
    with RedisServer() as server:
        with redis.Redis(
            port=server.port, socket_timeout=0.1, retry=Retry(NoBackoff(), 0)
        ) as client:
            server.pause()
            with pytest.raises(redis.TimeoutError):
                client.ping()
        server.resume()
        assert ping(server.url)


def test_passwords_and_users_are_asked_for() -> None:
    with RedisServer(
        password="p@ss/word", users={"bus": "on >secret ~busway:* &* +@all"}
    ) as server:
        assert ping(server.url)
        assert ping(server.url_for("bus", "secret"))
        with pytest.raises(redis.AuthenticationError):
            ping(server.url_for(None, "wrong"))
        client = redis.Redis.from_url(server.url_for("bus", "secret"))
        with client, pytest.raises(redis.exceptions.NoPermissionError):
            client.set("other", "")


def test_tls_is_spoken_to_clients_with_certificates(authority: Authority) -> None:
    binary = binaries.need("redis")
    with RedisServer(binary=binary, tls=authority, client_certificates=True) as server:
        assert ping(server.url)
        with pytest.raises(redis.ConnectionError):
            ping(f"rediss://127.0.0.1:{server.port}?ssl_ca_certs={authority.certificate}")
        with pytest.raises(redis.ConnectionError):
            ping(f"redis://127.0.0.1:{server.port}")


def test_a_server_with_little_memory_refuses_writes() -> None:
    with RedisServer(maxmemory=1) as server, pytest.raises(redis.exceptions.OutOfMemoryError):
        server.call("SET", "key", "value")


def test_a_replica_follows_and_takes_no_writes() -> None:
    primary = RedisServer(password="x")
    with primary, RedisServer(password="x", replica_of=primary) as replica:
        replica.wait_until_follows()
        primary.call("SET", "key", "value")
        primary.call("WAIT", 1, 5000)
        assert replica.call("GET", "key") == b"value"
        with pytest.raises(redis.exceptions.ReadOnlyError):
            replica.call("SET", "key", "other")


def test_sentinels_make_another_server_the_primary() -> None:
    with Sentinels(password="x") as group:
        first = group.primary()
        second = group.failover()
        third = group.kill_primary()
        assert second is not first
        assert third is not second
        third.call("SET", "key", "value")
        second.start()
        until(lambda: second.info("replication")["role"] == "slave", "the old primary follows")


def test_a_clusters_slots_move_with_their_keys(redis_cluster: Cluster) -> None:
    slot = redis_cluster.nodes[0].call("CLUSTER", "KEYSLOT", "{moves}")
    before = redis_cluster.owner(slot)
    for number in range(150):
        before.call("SET", f"{{moves}}{number}", "value")
    assert slot in redis_cluster.used_slots()
    after = redis_cluster.move_slot(slot)
    assert after is not before
    assert redis_cluster.owner(slot) is after
    assert after.call("CLUSTER", "COUNTKEYSINSLOT", slot) == 150
    with pytest.raises(redis.exceptions.MovedError):
        before.call("GET", "{moves}1")
    assert redis_cluster.reshard([slot, 1]) == [slot, 1]


def test_a_cluster_survives_the_loss_of_a_node() -> None:
    with Cluster(password="x") as cluster:
        before = cluster.owner(0)
        after = cluster.kill_primary(0)
        assert after is not before
        after.call("SET", "{06S}", "value")  # a key in slot 0
        before.start()
        until(lambda: not before.is_primary, "the old primary follows")
        before.wait_until_follows()
        assert cluster.failover(0) is before


ASK = """
import sys, redis
from redis.backoff import NoBackoff
from redis.retry import Retry
host, port = sys.argv[1:]
once = {"socket_timeout": 0.5, "socket_connect_timeout": 0.5, "retry": Retry(NoBackoff(), 0)}
with redis.Redis(host, int(port), **once) as client:
    print(client.incr("times"))
"""


def test_a_cut_network_loses_packets_until_it_is_healed(network: Network) -> None:
    one, two = network.hosts
    with RedisServer(host=one.address, inside=one.inside) as server:
        ask = [sys.executable, "-c", ASK, server.host, str(server.port)]
        assert two.run(*ask) == "1\n"
        one.cut()
        with pytest.raises(RuntimeError, match="Timeout"):
            two.run(*ask)
        assert server.call("GET", "times") == b"1", "a Unix socket needs no network"
        one.heal()
        assert two.run(*ask) == "2\n"


def test_hosts_are_gone_with_their_network() -> None:
    need_network()
    with Network(1) as network:
        (host,) = network.hosts
        service = host.start(["sleep", "infinity"])
        assert is_running(service.pid)
    assert not is_running(service.pid)
    assert not is_running(host.pid)
