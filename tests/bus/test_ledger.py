"""Writers and workers that are killed at random: every message is accounted for.

`BUSWAY_SOAK=600 pytest tests/bus/test_ledger.py` runs for 600 seconds, `long` for 90.
"""

import os
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from busway.bus.conformance.harness import eventually
from busway.bus.conformance.peers import Peer, Work, sleep
from busway.bus.ipc import IPCChannelLayer
from busway.bus.operations import Delivery, Operation, Send

SOAK = os.environ.get("BUSWAY_SOAK", "4")
SECONDS = 90.0 if SOAK == "long" else float(SOAK)
BATCH = 4
OPTIONS: dict[str, Any] = {
    "capacity": 50,
    "expiry": 3600.0,
    "policies": {"lanes": {"ordering": "key", "lane_capacity": 10}},
}


class Ledger:
    """A file of lines that survive the process that wrote them."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, line: str) -> None:
        """Append a line in one step."""
        os.write(self._fd, f"{line}\n".encode())


def write(work: Work, name: str) -> None:
    """Send numbered messages until killed, half of them ordered."""
    for n in count():
        ordered = Send("lanes", {"key": name, "n": n, "id": f"{name}.o{n}"})
        plain = Send("plain", {"n": n, "id": f"{name}.p{n}"})
        left: list[Operation] = [ordered, plain]
        while left:
            left = [each.operation for each in work.receiver.exchange(left, wake_below=1).refused]
            if left:
                sleep(work.receiver)


def handle(work: Work, name: str, path: Path) -> None:
    """Handle messages for random durations, and write down which, until told to stop."""
    ledger, dice = Ledger(path), random.Random(name)
    channels = ["lanes", "plain", f"stop?{name}"]
    held: list[Delivery] = []
    while True:
        done, held = held, []
        held = work.receiver.exchange((), done, channels, BATCH, wake_below=1).deliveries
        for delivery in done:
            ledger.write(f"done {delivery.message['id']}")
        for delivery in held:
            if "stop" in delivery.message:
                return
            work.receiver.begin(delivery)
            ledger.write(f"begun {delivery.message['id']}")
            time.sleep(dice.random() * 0.002)
        if not held:
            with suppress(TimeoutError):  # the writers may be the ones that are killed
                sleep(work.receiver)


class Crew:
    """Processes that all do the same, under names that are never used twice."""

    def __init__(self, stack: ExitStack, kind: str, start: "partial[IPCChannelLayer]") -> None:
        self.kind = kind
        self.kills = 0
        self.members: dict[str, Peer] = {}
        self._stack, self._factory, self._names = stack, start, count()

    def add(self, *args: object) -> None:
        """Start another one."""
        name = f"{self.kind}{next(self._names)}"
        peer = self.members[name] = self._stack.enter_context(Peer(self._factory, OPTIONS))
        peer.start(handle if self.kind == "worker" else write, name, *args)

    def kill(self, name: str) -> None:
        """Kill one, as `kill -9` does."""
        self.members.pop(name).kill()
        self.kills += 1


@pytest.fixture
def directory() -> Iterator[Path]:
    """Return a place for a bus and a ledger."""
    with TemporaryDirectory(dir="/dev/shm", prefix="busway-test-") as path:
        yield Path(path)


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 120)
def test_every_message_is_handled_once_or_counted_as_dropped(directory: Path) -> None:
    path, dice = directory / "ledger", random.Random(SECONDS)
    factory = partial(IPCChannelLayer, "ledger", directory=directory / "bus", size=8 * 1024 * 1024)
    with ExitStack() as stack:
        layer = factory(**OPTIONS)
        stack.callback(layer.close)
        writers, workers = Crew(stack, "writer", factory), Crew(stack, "worker", factory)
        for _ in range(4):
            writers.add()
            workers.add(path)
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            time.sleep(dice.random() * 0.2)
            if dice.random() < 0.7:
                workers.kill(dice.choice(list(workers.members)))
                workers.add(path)
            else:
                writers.kill(dice.choice(list(writers.members)))
                writers.add()
        for name in list(writers.members):
            writers.kill(name)
        # A process that joins looks for the dead, and gives back what they had not begun.
        factory(**OPTIONS).close()
        eventually(lambda: layer.statistics().messages_pending == 0, "everything is handled")
        for name, worker in workers.members.items():
            layer.send(f"stop?{name}", {"stop": True})
            worker.result()
        found = layer.statistics()
        accepted = found.messages_count - len(workers.members)
        check(path, accepted, dict(found.dropped), workers.kills)


def check(path: Path, accepted: int, dropped: dict[str, int], kills: int) -> None:
    """Compare what was written down with what the bus counted."""
    lines = [line.split() for line in path.read_text().splitlines()]
    begun = [name for verb, name in lines if verb == "begun"]
    done = [name for verb, name in lines if verb == "done"]
    died = dropped.pop("receiver died", 0)
    print(f"{accepted} accepted, {len(begun)} begun, {died} died with {kills} workers")  # noqa: T201
    assert dropped == {}
    assert [name for name, times in Counter(begun).items() if times > 1] == []
    # One that a worker had begun when it was killed may be missing in the ledger.
    assert accepted - kills <= len(begun) <= accepted
    assert accepted - len(begun) <= died <= accepted - len(done)
    assert died <= kills * BATCH
    lanes: dict[str, list[int]] = defaultdict(list)
    for name in begun:
        writer, number = name.split(".")
        if number[0] == "o":
            lanes[writer].append(int(number[1:]))
    assert lanes
    assert all(numbers == sorted(numbers) for numbers in lanes.values())
    assert len(begun) > 50
