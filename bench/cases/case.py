"""What a case is."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from bench.target import Effort, Target


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure that a case measures.

    ``better`` says which way is better; a figure that is ``neutral`` is context. Rounds are
    combined by their median, except for counts of things gone wrong, which are added up.
    """

    key: str
    title: str
    unit: str
    better: Literal["more", "less", "neutral"]
    combine: Literal["median", "sum"] = "median"


SERVER_CPU = Metric("server_cpu_us", "CPU of all server processes per operation", "µs", "neutral")
LOAD_CPU = Metric("load_cpu", "load generator's share of a core", "", "neutral")


class Case(ABC):
    """One kind of load. Runs in the load generator's process."""

    #: Unique, as written after ``--only``.
    name: ClassVar[str]

    #: For tables and the chart.
    title: ClassVar[str]

    #: What the case can be run with, and the paths that each variant needs.
    variants: ClassVar[Mapping[str, frozenset[str]]]

    #: The figures that ``measure`` returns, the most important first.
    metrics: ClassVar[tuple[Metric, ...]]

    #: Variants that have a round before the first that is not counted.
    warm_up: ClassVar[frozenset[str]] = frozenset()

    #: Whether one round is enough, because nothing in the figure depends on the moment.
    once: ClassVar[bool] = False

    @abstractmethod
    def measure(self, target: Target, variant: str, effort: Effort) -> dict[str, float]:
        """Put the load on the target, check what it answers, and return the figures by key.

        Raises:
            Failure: the target gave a wrong answer, or none.
        """
