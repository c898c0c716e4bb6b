"""Echo: many connections, one message in flight on each."""

import os
import time
from collections.abc import Iterator
from itertools import cycle
from typing import ClassVar, TypeAlias

from bench.cases.case import LOAD_CPU, SERVER_CPU, Case, Metric, Variant
from bench.load import wire
from bench.load.crowd import Crowd
from bench.load.meter import Meter
from bench.target import Effort, Failure, Target

CONNECTIONS = 50

#: Bytes of a message.
SIZE = 64

#: Different messages per connection before they repeat.
_DISTINCT = 64

#: A frame to send, and the bytes that must come back.
Exchange: TypeAlias = tuple[bytes, bytes]


class Echo(Case):
    name = "echo"
    title = f"Echo, {CONNECTIONS} connections"
    variants: ClassVar = {
        "sync": Variant("sync consumer", frozenset({"/echo/sync"})),
        "async": Variant("async consumer", frozenset({"/echo/async"})),
    }
    metrics = (
        Metric("messages_per_s", "messages", "/s", "more"),
        SERVER_CPU,
        LOAD_CPU,
    )

    def measure(self, target: Target, variant: str, effort: Effort) -> dict[str, float]:
        with Crowd(target) as crowd:
            crowd.open(f"/echo/{variant}", CONNECTIONS)
            conversation = Conversation(crowd)
            meter = Meter(target)
            messages = conversation.run(effort.seconds)
            per_s = messages / meter.elapsed_s()
            cost = meter.cost(messages)
            conversation.finish()
        return {"messages_per_s": per_s, **cost}


class Conversation:
    """Keeps one message in flight on every socket of a crowd, and checks each answer."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        # What to send next on each socket, and what must come back first.
        self._exchanges = {fd: exchanges(fd) for fd in crowd.sockets}
        self._expected: dict[int, bytes] = {}

    def run(self, seconds: float) -> int:
        """Converse for so long, and return how many answers came. Leaves one in flight on each."""
        for fd in self._exchanges:
            self._say(fd)
        return self._converse(time.perf_counter() + seconds)

    def finish(self) -> None:
        """Wait for the answers that are still under way."""
        pending = set(self._expected)
        while pending:
            for fd in self._crowd.ready():
                check(fd, os.read(fd, 4096), self._expected[fd])
                pending.discard(fd)

    def _say(self, fd: int) -> None:
        frame, self._expected[fd] = next(self._exchanges[fd])
        os.write(fd, frame)

    def _converse(self, until: float) -> int:
        """The hot loop: everything it touches is a local name."""
        exchanges, expected, ready = self._exchanges, self._expected, self._crowd.ready
        read, write, clock = os.read, os.write, time.perf_counter
        answers = 0
        while clock() < until:
            fds = ready()
            for fd in fds:
                data = read(fd, 4096)
                if data != expected[fd]:
                    check(fd, data, expected[fd])
                frame, expected[fd] = next(exchanges[fd])
                write(fd, frame)
            answers += len(fds)
        return answers


def exchanges(connection: int) -> Iterator[Exchange]:
    """Messages that differ by connection and by number, without end."""
    messages = [f"{connection}-{n}-".ljust(SIZE, "x").encode() for n in range(_DISTINCT)]
    return cycle([(wire.client_frame(text), wire.server_frame(text)) for text in messages])


def check(fd: int, data: bytes, expected: bytes) -> None:
    """Read until the expected bytes are complete; raise Failure when others come."""
    os.set_blocking(fd, True)
    while len(data) < len(expected) and expected.startswith(data):
        more = os.read(fd, len(expected) - len(data))
        if not more:
            raise Failure("the server closed the socket instead of answering")
        data += more
    os.set_blocking(fd, False)
    if data != expected:
        raise Failure(f"wrong answer: {data[:80]!r} instead of {expected[:80]!r}")
