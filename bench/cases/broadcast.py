"""Broadcast: one client triggers messages to everybody, one at a time or in bursts."""

import os
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from bench.cases.case import LOAD_CPU, SERVER_CPU, Case, Metric, Variant
from bench.load import wire
from bench.load.crowd import Crowd
from bench.load.meter import Meter
from bench.target import Effort, Failure, Target

MEMBERS = 1000

#: Messages that one trigger makes in a burst.
BURST = 50
_BURST_QUICK = 10

_PATHS = frozenset({"/group", "/trigger"})

#: Bytes of a message.
_SIZE = 64

#: Seconds of silence after which what has not come counts as lost.
_QUIET_S = 4.0


class Broadcast(Case):
    name = "broadcast"
    title = f"Broadcast to {MEMBERS:,} sockets"
    variants: ClassVar = {
        "single": Variant("one at a time", _PATHS),
        "burst": Variant(f"bursts of {BURST}", _PATHS, warms_up=False, most_rounds=2),
    }
    metrics = (
        Metric("deliveries_per_s", "deliveries", "/s", "more"),
        Metric("lost", "lost", "messages", "neutral", "sum"),
        Metric("disordered", "out of order", "messages", "neutral", "sum"),
        SERVER_CPU,
        LOAD_CPU,
    )

    def measure(self, target: Target, variant: str, effort: Effort) -> dict[str, float]:
        size = 1 if variant == "single" else BURST if effort.full else _BURST_QUICK
        with Crowd(target) as members, Crowd(target) as triggers:
            members.open("/group", MEMBERS)
            triggers.open("/trigger", 1)
            meter = Meter(target)
            heard = Heard()
            while not heard.sent or heard.seconds < effort.seconds:
                heard += broadcast(triggers, members, size, heard.sent)
            cost = meter.cost(heard.deliveries)
        if not heard.deliveries:
            raise Failure("nothing was delivered")
        return {
            "deliveries_per_s": heard.deliveries / heard.seconds,
            "lost": heard.lost,
            "disordered": heard.disordered,
            **cost,
        }


@dataclass(frozen=True, slots=True)
class Heard:
    """What the members received of broadcasts.

    Seconds count from the trigger to the last delivery. ``sent`` is the number of messages that
    were made for the whole group.
    """

    sent: int = 0
    deliveries: int = 0
    lost: int = 0
    disordered: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Heard") -> "Heard":
        return Heard(
            self.sent + other.sent,
            self.deliveries + other.deliveries,
            self.lost + other.lost,
            self.disordered + other.disordered,
            self.seconds + other.seconds,
        )


def broadcast(triggers: Crowd, members: Crowd, size: int, serial: int) -> Heard:
    """Trigger a broadcast of ``size`` messages and listen until it is complete or silent."""
    tag = f"{serial:08d}".ljust(_SIZE - 4, "x")
    messages = [f"{tag}-{number:03d}".encode() for number in range(size)]
    audience = Audience(members, messages)
    (trigger,) = triggers.sockets
    start = time.perf_counter()
    os.write(trigger, wire.client_frame(f"{size} {tag}".encode()))
    seconds = audience.listen() - start
    return audience.heard(seconds)


class Audience:
    """Checks that each socket of a crowd receives exactly the bytes that all should receive.

    A socket keeps only how far it is in these bytes. One that receives others, a stray, keeps all
    that it got, to find out which messages these are.
    """

    def __init__(self, members: Crowd, messages: list[bytes]) -> None:
        self._members = members
        self._messages = messages
        self._index = {message: number for number, message in enumerate(messages)}
        self._expected = b"".join(map(wire.server_frame, messages))
        # Bytes of a message on the wire; all have the same length.
        self._size = len(self._expected) // len(messages)
        self._progress = dict.fromkeys(members.sockets, 0)
        self._strays: dict[int, bytes] = {}

    def listen(self) -> float:
        """Receive until everything has come or nothing comes; return when the last part came."""
        expected, progress, poll = self._expected, self._progress, self._members.epoll.poll
        read, clock = os.read, time.perf_counter
        missing = len(expected) * len(progress)
        last = clock()
        while missing > 0 and (events := poll(_QUIET_S)):
            for fd, _ in events:
                data = read(fd, 65536)
                at = progress[fd]
                if data and fd not in self._strays and expected.startswith(data, at):
                    progress[fd] = at + len(data)
                else:
                    self._examine(fd, data)
                missing -= progress[fd] - at
            last = clock()
        return last

    def heard(self, seconds: float) -> Heard:
        """The sum over all sockets."""
        sent = len(self._messages)
        deliveries = sum(at // self._size for at in self._progress.values())
        lost = sent * len(self._progress) - deliveries
        disordered = 0
        for stream in self._strays.values():
            numbers = self._numbers(wire.split(stream)[0])
            disordered += sum(b < a for a, b in pairwise(numbers))
        return Heard(sent, deliveries, lost, disordered, seconds)

    def _examine(self, fd: int, data: bytes) -> None:
        """Take pings out of what a socket received; it is a stray if the rest is unexpected."""
        if not data:
            raise Failure("the server closed a member's socket")
        before = self._strays.pop(fd, self._expected[: self._progress[fd]])
        frames, rest = wire.split(before + data)
        for frame in frames:
            if frame.opcode == wire.PING:
                os.write(fd, wire.pong(frame))
        texts = [frame for frame in frames if frame.opcode == wire.TEXT]
        stream = b"".join(wire.server_frame(frame.payload) for frame in texts) + rest
        if self._expected.startswith(stream):
            self._progress[fd] = len(stream)
        else:
            self._strays[fd] = stream
            self._progress[fd] = self._size * len(set(self._numbers(texts)))

    def _numbers(self, frames: list[wire.Frame]) -> list[int]:
        """Which messages of this broadcast these are, in the order of their coming."""
        return [self._index[frame.payload] for frame in frames if frame.payload in self._index]
