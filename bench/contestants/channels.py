"""Django Channels 4 with channels_redis, on uvicorn and on daphne."""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from bench import peers
from bench.child import free_port
from bench.contestants import redis
from bench.contestants.bare import uvicorn
from bench.contestants.contestant import Contestant, server
from bench.service import Service

_APPLICATION = "channels_app:application"


class Channels(Contestant):
    """Channels 4, with a Redis of its own for groups."""

    @abstractmethod
    def command(self, port: int) -> list[str]:
        """The command of the server."""

    def obstacle(self) -> str | None:
        return redis.obstacle()

    @contextmanager
    def running(self) -> Iterator[Service]:
        port = free_port()
        with (
            redis.running() as store,
            server(self.name, self.command(port), port, BENCH_REDIS_URL=store.url) as service,
        ):
            yield Service(port, (*service.children, store.child))


class ChannelsOnUvicorn(Channels):
    name = "channels-uvicorn"
    title = "Channels 4 on uvicorn"

    def command(self, port: int) -> list[str]:
        return uvicorn(_APPLICATION, port)


class ChannelsOnDaphne(Channels):
    name = "channels-daphne"
    title = "Channels 4 on daphne"

    def command(self, port: int) -> list[str]:
        return [
            *(str(peers.PYTHON), "-m", "daphne", "--verbosity", "0"),
            *("--bind", "127.0.0.1", "--port", str(port), _APPLICATION),
        ]
