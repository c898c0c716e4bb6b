"""Round trip: one connection, one message at a time."""

import socket
import time
from statistics import quantiles
from typing import ClassVar

from bench.cases.case import LOAD_CPU, SERVER_CPU, Case, Metric, Variant
from bench.cases.echo import exchanges
from bench.load.crowd import STALL_S, Crowd
from bench.load.meter import Meter
from bench.target import Effort, Failure, Target


class RoundTrip(Case):
    name = "roundtrip"
    title = "Round trip, one connection"
    variants: ClassVar = {
        "sync": Variant("sync consumer", frozenset({"/echo/sync"})),
        "async": Variant("async consumer", frozenset({"/echo/async"})),
    }
    metrics = (
        Metric("p50_us", "p50", "µs", "less"),
        Metric("p99_us", "p99", "µs", "less"),
        SERVER_CPU,
        LOAD_CPU,
    )

    def measure(self, target: Target, variant: str, effort: Effort) -> dict[str, float]:
        with Crowd(target) as crowd:
            crowd.open(f"/echo/{variant}", 1)
            (connection,) = crowd.sockets.values()
            meter = Meter(target)
            trips = round_trips(connection, effort.seconds)
            cost = meter.cost(len(trips))
        hundredths = quantiles(trips, n=100)
        return {"p50_us": hundredths[49] / 1000, "p99_us": hundredths[98] / 1000, **cost}


def round_trips(connection: socket.socket, seconds: float) -> list[int]:
    """The nanoseconds of each round trip, made one after the other for so many seconds."""
    connection.settimeout(STALL_S)
    clock = time.perf_counter_ns
    end = clock() + int(seconds * 1e9)
    trips: list[int] = []
    for frame, expected in exchanges(connection.fileno()):
        start = clock()
        if start > end:
            break
        connection.sendall(frame)
        answer = connection.recv(4096)
        trips.append(clock() - start)
        if answer != expected:
            raise Failure(f"wrong answer: {answer[:80]!r} instead of {expected[:80]!r}")
    return trips
