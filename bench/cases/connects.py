"""Connects: how fast sockets open, consumer included."""

from typing import ClassVar

from bench.cases.case import LOAD_CPU, SERVER_CPU, Case, Metric, Variant
from bench.load.crowd import AT_ONCE, Crowd
from bench.load.meter import Meter
from bench.target import Effort, Target

#: Sockets opened per second of effort.
_SOCKETS_PER_S = 500


class Connects(Case):
    name = "connects"
    title = f"Connects, {AT_ONCE} at a time"
    variants: ClassVar = {"open": Variant("", frozenset({"/open"}))}
    metrics = (
        Metric("connects_per_s", "connects", "/s", "more"),
        SERVER_CPU,
        LOAD_CPU,
    )

    def measure(self, target: Target, variant: str, effort: Effort) -> dict[str, float]:
        count = int(_SOCKETS_PER_S * effort.seconds)
        with Crowd(target) as crowd:
            meter = Meter(target)
            crowd.open("/open", count)
            per_s = count / meter.elapsed_s()
            cost = meter.cost(count)
        return {"connects_per_s": per_s, **cost}
