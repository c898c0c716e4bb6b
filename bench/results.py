"""What was measured, by case, variant and contestant."""

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench.cases import case_named
from bench.cases.case import Metric

Figures = Mapping[str, float]


class Key(NamedTuple):
    """Names what was measured."""

    case: str
    variant: str
    contestant: str


class Results:
    """The figures of every round, and the failures."""

    def __init__(self, machine: Mapping[str, str]) -> None:
        #: Where it was measured, for people to read.
        self.machine = machine
        self.rounds: dict[Key, list[Figures]] = {}
        self.failures: dict[Key, str] = {}

    def add(self, key: Key, figures: Figures) -> None:
        """Keep the figures of one more round."""
        self.rounds.setdefault(key, []).append(figures)

    def fail(self, key: Key, reason: str) -> None:
        """Keep why something could not be measured; its earlier rounds no longer count."""
        self.failures[key] = reason
        self.rounds.pop(key, None)

    def figure(self, key: Key, metric: Metric) -> float | None:
        """The rounds combined; None where nothing was measured."""
        rounds = self.rounds.get(key)
        if not rounds:
            return None
        values = [figures[metric.key] for figures in rounds]
        return sum(values) if metric.combine == "sum" else median(values)

    def ratio(self, ours: Key, theirs: Key, metric: Metric) -> float | None:
        """How many times better ours is: the median of the ratios within each round."""
        pairs = zip(self.rounds.get(ours, []), self.rounds.get(theirs, []), strict=False)
        ratios = [_better(metric, a[metric.key], b[metric.key]) for a, b in pairs]
        return median(ratios) if ratios else None

    def save(self, path: Path) -> None:
        """Write everything as JSON."""
        document = {
            "machine": self.machine,
            "rounds": [[*key, figures] for key, figures in self.rounds.items()],
            "failures": [[*key, reason] for key, reason in self.failures.items()],
        }
        path.write_text(json.dumps(document, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Results":
        """Read what ``save`` wrote."""
        document = json.loads(path.read_text())
        results = cls(document["machine"])
        results.rounds = {Key(*row[:3]): row[3] for row in document["rounds"]}
        results.failures = {Key(*row[:3]): row[3] for row in document["failures"]}
        return results


def metric_of(case: str, key: str) -> Metric:
    """The metric of a case with this key."""
    return next(metric for metric in case_named(case).metrics if metric.key == key)


def _better(metric: Metric, ours: float, theirs: float) -> float:
    return theirs / ours if metric.better == "less" else ours / theirs
