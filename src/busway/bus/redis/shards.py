"""Where things are: the shards of a bus, and which of them has a channel."""

from collections.abc import Sequence
from zlib import crc32

from redis.crc import key_slot

from busway.bus.redis.cluster import Cluster
from busway.bus.redis.servers import Server


class Shard:
    """A part of a bus that one script works on: everything below one prefix, on one server."""

    def __init__(self, number: int, server: Server, prefix: str) -> None:
        """`number` counts from 0."""
        self.number = number
        self.server = server
        self.key = f"{prefix}:{{{number}}}:".encode()
        """What the names of its keys begin with."""

    def look_again(self) -> None:
        """Find out anew which server it is on."""


class ClusterShard(Shard):
    """A shard on a cluster: its keys share a slot, which moves from node to node."""

    def __init__(self, number: int, cluster: Cluster, prefix: str) -> None:
        """`number` counts from 0."""
        self._cluster = cluster
        self.number = number
        self.key = f"{prefix}:{{{number}}}:".encode()
        self._slot = key_slot(self.key)

    @property
    def server(self) -> Server:  # type: ignore[override]
        """The node that has it now. Raises `LayerUnavailable` when none says so."""
        return self._cluster.node(self._slot)

    def look_again(self) -> None:
        """Find out anew which node it is on."""
        self._cluster.refresh()


def shard_of(address: str, lane: str, count: int) -> int:
    """Return the number of the shard, of `count`, that has a message: by its lane, or channel."""
    return crc32((lane or address).encode()) % count


def make_shards(servers: Sequence[Server], prefix: str) -> list[Shard]:
    """Return the shards of a bus, one a server."""
    return [Shard(number, server, prefix) for number, server in enumerate(servers)]


def make_cluster_shards(cluster: Cluster, count: int, prefix: str) -> list[Shard]:
    """Return the shards of a bus on a cluster."""
    return [ClusterShard(number, cluster, prefix) for number in range(count)]
