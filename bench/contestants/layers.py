"""Channel layers on Redis, with nothing around them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from bench import peers
from bench.child import free_port
from bench.contestants import redis
from bench.contestants.contestant import APPS, Contestant, server
from bench.service import Service


class Layer(Contestant):
    """A layer that sends to itself, with a Redis of its own."""

    group = "Layer on Redis"
    paths: ClassVar = frozenset({"/single", "/many"})
    python: ClassVar[Path]
    #: As `layer_server.py` calls it.
    backend: ClassVar[str]

    def obstacle(self) -> str | None:
        return redis.obstacle()

    @contextmanager
    def running(self) -> Iterator[Service]:
        port = free_port()
        with redis.running() as store:
            command = [str(self.python), str(APPS / "layer_server.py"), str(port), store.url]
            with server(self.name, [*command, self.backend], port) as service:
                yield Service(port, (*service.children, store.child), probe="/ready")


class BuswayLayer(Layer):
    """Busway's."""

    name = "busway-layer"
    title = "Busway"
    is_peer = False
    python = Path(sys.executable)
    backend = "busway"


class ChannelsRedis(Layer):
    """The one of Channels 4."""

    name = "channels-redis"
    title = "channels_redis"
    python = peers.PYTHON
    backend = "channels"
