"""The connections of one user of a bus: one to each server, made when it is needed."""

import time
from collections.abc import Callable
from random import SystemRandom
from typing import Any

from busway.bus.errors import LayerUnavailable
from busway.bus.redis.complaints import ServerError, explain, is_passing
from busway.bus.redis.connections import Link
from busway.bus.redis.scripts import Script
from busway.bus.redis.servers import Server
from busway.bus.redis.shards import Shard

PERSISTENCE = 2.0
"""Seconds for which something that was cut off is tried again."""

_FIRST, _LONGEST = 0.02, 0.5


class Links:
    """One connection to each server. Not thread-safe."""

    def __init__(self, link: Callable[[Server], Link]) -> None:
        """Make connections by `link`."""
        self._link = link
        self._links: dict[Server, Link] = {}

    def to(self, shard: Shard) -> Link:
        """Return the connection to a shard's server."""
        server = shard.server
        found = self._links.get(server)
        if found is None:
            found = self._links[server] = self._link(server)
        return found

    def run(self, script: Script, shard: Shard, *arguments: bytes) -> Any:
        """Run a script that may be run twice. Raises as `Link.run` does."""
        return persist(shard, lambda: self.to(shard).run(script, shard.key, *arguments))

    def close(self) -> None:
        """Close all; what is used again is connected again."""
        for link in self._links.values():
            link.close()


def persist(shard: Shard, ask: Callable[[], Any]) -> Any:
    """Ask a shard again and again, with pauses, while it is on its way to another server."""
    deadline = time.monotonic() + PERSISTENCE
    ceiling = _FIRST
    while True:
        try:
            return ask()
        except ServerError as error:
            if not is_passing(error):
                raise
            if time.monotonic() > deadline:
                raise LayerUnavailable(explain(error)) from error
        except LayerUnavailable:
            if time.monotonic() > deadline:
                raise
        time.sleep(SystemRandom().uniform(0, ceiling))
        ceiling = min(2 * ceiling, _LONGEST)
        shard.look_again()
