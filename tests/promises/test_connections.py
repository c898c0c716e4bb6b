"""Connections to Redis are closed with what they were for, in 24 processes."""

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest

from promises.conftest import LONG, environment
from servers.redis import RedisServer
from servers.starting import start, until
from services import Service

SECONDS = 600 if LONG else 10
WEBS, WORKERS, LAYERS, SOCKETS = 4, 8, 8, 4
"""Processes of each kind; the last two open and close."""

OWN = 3
"""Connections of a process that receives: for messages, for being woken, and for its heart."""


@pytest.fixture
def run() -> Iterator["Run"]:
    with ExitStack() as stack:
        yield Run(stack)


class Run:
    """Starts processes that end with the test."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def __call__(self, *command: str) -> Service:
        """Start one."""
        return self._stack.enter_context(start(command, environment=environment()))


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 170)
def test_the_number_of_connections_does_not_grow(server: RedisServer, run: Run) -> None:
    layer = ("--layer", f"{server.url}?capacity=1000")
    webs = [run("busway", "web", "--port", "0", *layer) for _ in range(WEBS)]
    for _ in range(WORKERS):
        run("busway", "worker", "promises.apps:echoing", *layer)
    ports = [web.expect(r"ready on http://[\d.]+:(\d+)")[1] for web in webs]
    lasting = OWN * (WEBS + WORKERS)
    until(lambda: server.connections() == lasting, "all processes are connected")
    churners = [run("python", "-m", "promises.churn", "layers", server.url) for _ in range(LAYERS)]
    churners += [
        run("python", "-m", "promises.churn", "sockets", "127.0.0.1", port)
        for port in ports[:SOCKETS]
    ]
    for churner in churners:
        churner.expect("times 2")
    samples = watch(server, SECONDS)
    for churner in churners:
        churner.signal(signal.SIGTERM)
    for churner in churners:
        assert churner.ended() == 0, churner.output
    half = len(samples) // 2
    times = sum(churner.output.count("times") for churner in churners)
    print(  # noqa: T201
        f"opened and closed {times} times in {SECONDS} s: {lasting} connections at the beginning, "
        f"at most {max(samples[:half])} in the first half and {max(samples[half:])} in the second, "
        f"{server.connections()} when all that was opened had ended"
    )
    assert max(samples[half:]) <= 1.2 * max(samples[:half])
    until(lambda: server.connections() == lasting, "what was opened is closed")


def watch(server: RedisServer, seconds: float) -> Sequence[int]:
    """Return how many connections there were, every now and then."""
    samples = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        samples.append(server.connections())
        time.sleep(0.05)
    return samples
