"""A private Redis server that keeps nothing."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench import child
from bench.child import Child


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
    """A Redis server on a Unix socket: all that use it are on this machine."""
    with (
        tempfile.TemporaryDirectory(prefix="busway-bench-") as folder,
        child.running("redis", _command(folder)) as process,
    ):
        yield Store(f"unix://{folder}/redis.sock", process)


def _command(folder: str) -> list[str]:
    return [
        *("redis-server", "--port", "0", "--unixsocket", f"{folder}/redis.sock", "--dir", folder),
        *("--save", "", "--appendonly", "no", "--loglevel", "warning"),
    ]
