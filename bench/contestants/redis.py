"""A private Redis server that keeps nothing."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench import child
from bench.child import Child, free_port


@dataclass(frozen=True, slots=True)
class Store:
    """A running Redis server."""

    url: str
    child: Child


def obstacle() -> str | None:
    """Why there can be no Redis, and the remedy; None when there can."""
    if shutil.which("redis-server"):
        return None
    return "redis-server is not installed; on Debian: apt install redis-server"


@contextmanager
def running() -> Iterator[Store]:
    """A Redis server on a free port of the loopback interface."""
    port = free_port()
    with (
        tempfile.TemporaryDirectory(prefix="busway-bench-") as folder,
        child.running("redis", _command(port, folder)) as process,
    ):
        yield Store(f"redis://127.0.0.1:{port}/0", process)


def _command(port: int, folder: str) -> list[str]:
    return [
        *("redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", folder),
        *("--save", "", "--appendonly", "no", "--loglevel", "warning"),
    ]
