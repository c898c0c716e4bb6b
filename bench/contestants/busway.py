"""Busway: one interface server and one worker."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.child import free_port
from bench.contestants.contestant import Contestant, server
from bench.service import Service

_COMMAND = Path(sys.executable).with_name("busway")


class BuswayIpc(Contestant):
    """Busway on its embedded bus."""

    name = "busway"
    title = "Busway, IPC"
    is_peer = False

    def obstacle(self) -> str | None:
        if _COMMAND.exists():
            return None
        return "Busway is not installed beside this Python; run: make install"

    @contextmanager
    def running(self) -> Iterator[Service]:
        port = free_port()
        layer = f"ipc://bench-{os.getpid()}-{port}"
        with server(self.name, _serve(port, layer), port) as service:
            yield service


def _serve(port: int, layer: str) -> list[str]:
    return [
        *(str(_COMMAND), "serve", "busway_app:routing"),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--workers", "1", "--layer", layer),
    ]
