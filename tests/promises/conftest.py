"""The service under test."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from servers.redis import RedisServer
from services import Service

LONG = os.environ.get("BUSWAY_SOAK") == "long"
"""Whether the long form was asked for."""


def environment() -> dict[str, str]:
    """Return what a process needs to find the consumers."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


Serve = Callable[..., tuple[Service, tuple[str, int]]]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Return what starts a service on a routing of `apps`, and gives its address."""
    with ExitStack() as stack:

        def start(routing: str, *options: str) -> tuple[Service, tuple[str, int]]:
            (tmp_path / "in-hands").mkdir()
            service = Service(
                [
                    *("busway", "serve", f"promises.apps:{routing}", "--port", "0"),
                    *("--layer", f"ipc://test?directory={tmp_path}/bus", *options),
                ],
                cwd=Path(__file__).parents[1],
                environment={
                    "IN_HANDS": str(tmp_path / "in-hands"),
                    **environment(),
                },
            )
            stack.enter_context(service)
            found = service.expect(r"http://([\d.]+):(\d+) is ready")
            return service, (found[1], int(found[2]))

        yield start


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """Return a Redis server of this test's own."""
    with RedisServer() as server:
        yield server
