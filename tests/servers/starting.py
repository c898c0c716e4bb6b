"""Processes that end with the tests, however those end: also when they are killed."""

import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from services import PATIENCE, Service

T = TypeVar("T")

# The kernel kills a process when the thread that started it ends. So that must be a thread that
# lives as long as this process, and not one that a test has for a moment.
_starter = ThreadPoolExecutor(1, thread_name_prefix="servers")
_MORTAL = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()


def start(
    command: Sequence[str],
    *,
    inside: Sequence[str] = (),
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Service:
    """Start `command`, through the command `inside` if given: see `Host.inside`.

    "python" and "busway" are this environment's.
    """
    own = {"python": (sys.executable,), "busway": (sys.executable, "-m", "busway")}
    words = [*own.get(command[0], (command[0],)), *command[1:]]
    return _starter.submit(
        Service, [*inside, *_MORTAL, *words], cwd=cwd, environment=environment
    ).result()


def until(condition: Callable[[], T | None], what: str) -> T:
    """Return the first true value of `condition`, tried for `PATIENCE` seconds; else fail."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {PATIENCE:g} seconds: {what}")
        time.sleep(0.01)
