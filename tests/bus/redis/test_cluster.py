"""How the nodes of a cluster are found."""

from busway.bus.redis import cluster
from busway.bus.redis.servers import Server
from servers.cluster import Cluster

ATTEMPTS = 100


def test_every_node_is_asked_at_some_time(redis_cluster: Cluster) -> None:
    def asked() -> list[int]:
        found = [node.info("commandstats") for node in redis_cluster.nodes]
        names = ("cmdstat_cluster|slots", "cmdstat_cluster")  # since 7, and before
        return [sum(each.get(name, {"calls": 0})["calls"] for name in names) for each in found]

    primaries = [redis_cluster.nodes.index(node) for node in redis_cluster.primaries()]
    its = cluster.Cluster([Server(redis_cluster.url, {})])
    before = asked()
    for _ in range(ATTEMPTS):
        its._looked_at = 0.0
        its.refresh()
    grown = [after - count for count, after in zip(before, asked(), strict=True)]
    assert all(grown[number] > 0 for number in primaries)
