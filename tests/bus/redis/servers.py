"""Private Redis servers, which tests may stop."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import redis

_PATIENCE = 10.0


def free_port() -> int:
    """Return a port that nobody listens on, and whose bus port of a cluster exists."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port < 55000:
            return port


class RedisServer:
    """A server of a test's own on a Unix socket, which keeps nothing on disk."""

    def __init__(self, folder: Path, *options: str) -> None:
        found = shutil.which("redis-server") or shutil.which("valkey-server")
        if found is None:
            if os.environ.get("CI"):
                pytest.fail("no redis-server on the PATH")
            pytest.skip("no redis-server on the PATH")
        self.program = found
        self._folder = folder
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        quiet = ["--port", "0", "--save", "", "--appendonly", "no"]
        self._command = [found, *quiet, "--unixsocket", str(self.socket), *options]
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = subprocess.Popen(
            self._command,
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                self.command("PING")
            except redis.ConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return

    def stop(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait(_PATIENCE)

    def restart(self) -> None:
        """Kill it and start it anew, without its data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Let it answer nobody."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it answer again."""
        self._process.send_signal(signal.SIGCONT)

    def command(self, *command: str) -> Any:
        """Do a command."""
        with redis.Redis(unix_socket_path=str(self.socket)) as client:
            return client.execute_command(*command)

    def info(self, field: str) -> Any:
        """Return a field of INFO."""
        return self.command("INFO", "all")[field]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
