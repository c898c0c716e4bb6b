"""The guard looks after threads in a batch, and sleeps when there is none."""

import threading
import time
from collections.abc import Iterator

import pytest

from app.harness import PATIENCE
from busway.app import guard as module
from busway.app.guard import Guard
from busway.bus.errors import LayerUnavailable


class Thread:
    """Something to look after: it counts the looks, and says whether it is busy."""

    def __init__(self) -> None:
        self.busy = True
        self.fails = False
        self.looked = threading.Semaphore(0)

    def relieve(self, patience: float) -> bool:
        assert patience == module.PATIENCE
        self.looked.release()
        if self.fails:
            raise LayerUnavailable("gone")
        return self.busy


@pytest.fixture
def thread() -> Thread:
    return Thread()


@pytest.fixture
def guard(thread: Thread) -> Iterator[Guard]:
    guard = Guard()
    guard.start([thread])
    yield guard
    guard.close()


def looks(thread: Thread) -> int:
    """Count the looks since the last count."""
    count = 0
    while thread.looked.acquire(blocking=False):
        count += 1
    return count


def test_it_looks_as_long_as_somebody_is_busy(guard: Guard, thread: Thread) -> None:
    guard.watch()
    for _ in range(30):
        assert thread.looked.acquire(timeout=PATIENCE)


def test_it_sleeps_when_nobody_is_and_wakes_for_the_next(guard: Guard, thread: Thread) -> None:
    thread.busy = False
    for _ in range(2):
        guard.watch()
        assert thread.looked.acquire(timeout=PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while guard.is_awake:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        looks(thread)
        assert not thread.looked.acquire(timeout=10 * module.PATIENCE)


def test_a_bus_that_fails_does_not_end_it(
    guard: Guard, thread: Thread, caplog: pytest.LogCaptureFixture
) -> None:
    thread.fails = True
    guard.watch()
    for _ in range(3):
        assert thread.looked.acquire(timeout=PATIENCE)
    assert "a slow batch could not be relieved: gone" in caplog.text


def test_it_can_be_closed_before_it_was_started() -> None:
    Guard().close()
