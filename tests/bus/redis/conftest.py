"""A private Redis server for the tests of a worker of pytest."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import redis


@pytest.fixture(scope="session")
def redis_socket() -> Iterator[Path]:
    """Return the socket of a server of our own, which keeps nothing on disk."""
    server = shutil.which("redis-server") or shutil.which("valkey-server")
    if server is None:
        if os.environ.get("CI"):
            pytest.fail("no redis-server on the PATH")
        pytest.skip("no redis-server on the PATH")
    with TemporaryDirectory(prefix="busway-redis-") as folder:
        path = Path(folder) / "redis.sock"
        options = ["--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no"]
        process = subprocess.Popen(
            [server, *options], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            _wait_for(path)
            yield path
        finally:
            process.terminate()
            process.wait(10)


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 10
    with redis.Redis(unix_socket_path=str(path)) as client:
        while True:
            try:
                client.ping()
            except redis.ConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return
