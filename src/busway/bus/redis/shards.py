"""Where things are: the shards of a bus, and which of them has a channel."""

from collections.abc import Sequence
from zlib import crc32

from busway.bus.redis.connections import Server


class Shard:
    """A part of a bus that one script works on: everything below one prefix, on one server."""

    def __init__(self, number: int, server: Server, prefix: str) -> None:
        """`number` counts from 0."""
        self.number = number
        self.server = server
        self.key = f"{prefix}:{{{number}}}:".encode()
        """What the names of its keys begin with."""


def shard_of(address: str, lane: str, count: int) -> int:
    """Return the number of the shard, of `count`, that has a message: by its lane, or channel."""
    return crc32((lane or address).encode()) % count


def make_shards(servers: Sequence[Server], prefix: str) -> list[Shard]:
    """Return the shards of a bus, one a server."""
    return [Shard(number, server, prefix) for number, server in enumerate(servers)]
