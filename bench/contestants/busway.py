"""Busway: one interface server and one worker."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from bench.child import free_port
from bench.contestants import redis
from bench.contestants.contestant import EVERY_PATH, Contestant, server
from bench.service import Service

# Bytes, more than a bus takes by default.
_BUS_SIZE = 512 << 20

_COMMAND = Path(sys.executable).with_name("busway")


class BuswayIpc(Contestant):
    """Busway on its embedded bus."""

    name = "busway"
    title = "Busway, IPC"
    is_peer = False
    paths: ClassVar = EVERY_PATH - {"/echo/async"}

    #: In `busway_app`. Sync and async consumers have a worker each: in one worker, a channel
    #: that both share is read by the sync ones' thread, which hands messages over.
    routing: ClassVar = "routing"

    def obstacle(self) -> str | None:
        if _COMMAND.exists():
            return None
        return "Busway is not installed beside this Python; use: make bench"

    @contextmanager
    def running(self) -> Iterator[Service]:
        port = free_port()
        with (
            tempfile.TemporaryDirectory(prefix="busway-bench-", dir=_shared_memory()) as folder,
            server(
                self.name, _serve(self.routing, port, f"ipc://bench?directory={folder}"), port
            ) as service,
        ):
            yield service


class BuswayIpcAsync(BuswayIpc):
    """Busway with async consumers."""

    name = "busway-async"
    title = "Busway, async"
    paths: ClassVar = frozenset({"/echo/async"})
    routing: ClassVar = "async_routing"


class BuswayRedis(BuswayIpc):
    """Busway with a Redis of its own for everything."""

    name = "busway-redis"
    title = "Busway, Redis"

    def obstacle(self) -> str | None:
        return super().obstacle() or redis.obstacle()

    @contextmanager
    def running(self) -> Iterator[Service]:
        port = free_port()
        with (
            redis.running() as store,
            server(self.name, _serve(self.routing, port, store.url), port) as service,
        ):
            yield Service(port, (*service.children, store.child))


def _shared_memory() -> str | None:
    """Where Busway keeps its bus unless told otherwise, if there is room; None is on disk."""
    folder = Path("/dev/shm")
    roomy = folder.is_dir() and shutil.disk_usage(folder).free > _BUS_SIZE
    return str(folder) if roomy else None


def _serve(routing: str, port: int, layer: str) -> list[str]:
    return [
        *(str(_COMMAND), "serve", f"busway_app:{routing}"),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--workers", "1", "--verbosity", "0", "--layer", layer),
    ]
