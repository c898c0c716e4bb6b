"""Servers in trouble while messages flow: everybody goes on by himself, and nothing is forgotten.

`BUSWAY_SOAK=long` gives troubles the length that they have in earnest.
"""

import os
import time
from collections.abc import Callable
from secrets import token_hex

import pytest
from redis.crc import key_slot

from bus.redis.traffic import CHANNEL, CONNECTIONS, Traffic
from servers.cluster import Cluster
from servers.redis import RedisServer
from servers.sentinel import Sentinels
from servers.starting import until

LONG = os.environ.get("BUSWAY_SOAK") == "long"
DURABLE = {"appendfsync": "always"}


def trouble(server: RedisServer, what: Callable[[], None], *, times: int = 1) -> Traffic:
    """Let messages flow on `server` while `what` is done to it; returns what came of it."""
    with Traffic(server.url) as traffic:
        traffic.goes_on()
        for _ in range(times):
            what()
            traffic.goes_on()
        until(lambda: server.connections() <= CONNECTIONS, "no connection leaks")
        traffic.end()
    assert traffic.doubled == []
    return traffic


@pytest.mark.soak
@pytest.mark.timeout(600)
class TestOneServer:
    """One server."""

    def test_a_restart_with_persistence_loses_nothing(self) -> None:
        with RedisServer(persistent=True, options=DURABLE) as server:
            traffic = trouble(server, server.restart, times=20 if LONG else 3)
            assert traffic.lost == set()

    def test_a_long_absence_with_persistence_loses_nothing(self) -> None:
        # Longer than a process counts as alive that is not heard of.
        with RedisServer(persistent=True, options=DURABLE) as server:

            def be_away() -> None:
                server.kill()
                time.sleep(30 if LONG else 7)
                server.start()

            traffic = trouble(server, be_away)
            assert traffic.lost == set()

    def test_what_a_restart_without_persistence_loses_is_counted(self, server: RedisServer) -> None:
        counted = []
        with Traffic(server.url) as traffic:
            for waiting in (50, 0, 7):
                for n in range(waiting):
                    traffic.layer.send("nobody", {"n": n})
                traffic.goes_on()
                server.restart()
                traffic.goes_on()
                # Counts are lost with the rest: each restart begins a new account.
                counted.append(traffic.layer.statistics().dropped["server restarted"])
            traffic.end()
        assert traffic.doubled == []
        # What was under way with each of the parties may be counted and yet be sent again.
        parties = len(traffic.writers) + len(traffic.workers)
        assert 0 <= sum(counted) - 57 - len(traffic.lost) <= 3 * parties, (counted, traffic.lost)

    def test_scripts_may_be_forgotten_at_any_time(self, server: RedisServer) -> None:
        def forget() -> None:
            for _ in range(200 if LONG else 20):
                server.call("SCRIPT", "FLUSH")
                time.sleep(0.01)

        assert trouble(server, forget).lost == set()

    def test_connections_may_be_cut_at_any_time(self, server: RedisServer) -> None:
        def cut() -> None:
            for _ in range(200 if LONG else 20):
                for kind in ("normal", "pubsub"):
                    server.call("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
                time.sleep(0.01)

        assert trouble(server, cut).lost == set()

    def test_a_server_may_hang(self, server: RedisServer) -> None:
        def hang() -> None:
            server.pause()
            time.sleep(30 if LONG else 8)
            server.resume()

        assert trouble(server, hang).lost == set()

    def test_memory_may_run_out_and_be_there_again(self, server: RedisServer) -> None:
        def fill() -> None:
            server.call("CONFIG", "SET", "maxmemory", "1mb")
            time.sleep(10 if LONG else 1)
            server.call("CONFIG", "SET", "maxmemory", "0")

        assert trouble(server, fill).lost == set()

    def test_a_server_may_be_a_replica_for_a_while(self, server: RedisServer) -> None:
        with RedisServer() as other:

            def demote() -> None:
                server.call("CONFIG", "SET", "replica-serve-stale-data", "yes")
                server.call("REPLICAOF", other.host, other.port + 1)
                time.sleep(10 if LONG else 3)
                server.call("REPLICAOF", "NO", "ONE")

            assert trouble(server, demote).lost == set()


@pytest.mark.soak
@pytest.mark.timeout(600)
class TestSeveral:
    """Sentinel and Cluster."""

    def test_a_service_fails_over(self) -> None:
        with Sentinels() as group, Traffic(group.layer_url) as traffic:
            traffic.goes_on()
            for _ in range(5 if LONG else 1):
                group.failover()
                traffic.goes_on()
            dead = group.primary()
            group.kill_primary()
            traffic.goes_on()
            dead.start()
            traffic.end()

    def test_slots_move_and_nothing_is_lost(self, redis_cluster: Cluster) -> None:
        url, prefix = redis_cluster.layer_url, token_hex(4)
        with Traffic(url, prefix=prefix, slots=3) as traffic:
            traffic.goes_on()
            for _ in range(10 if LONG else 2):
                for part in traffic.layer.parts:
                    redis_cluster.move_slot(key_slot(part.key), at_once=3)
                    traffic.goes_on()
            traffic.end()
        assert traffic.doubled == []
        assert traffic.lost == set()

    def test_a_node_of_a_cluster_dies(self) -> None:
        with Cluster() as cluster, Traffic(cluster.layer_url, slots=4) as traffic:
            traffic.goes_on()
            place = traffic.layer.shard_of(CHANNEL, "")
            cluster.kill_primary(key_slot(traffic.layer.parts[place].key))
            traffic.goes_on()
            traffic.end()
