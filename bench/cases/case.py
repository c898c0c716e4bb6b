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


SERVER_CPU = Metric("server_cpu_us", "server CPU each", "µs", "neutral")
LOAD_CPU = Metric("load_cpu", "load generator", "cores", "neutral")


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to run a case, with the paths that it needs of a contestant.

    ``warms_up`` says whether there is a round before the first that does not count, and
    ``most_rounds`` bounds the number of those that do, where one takes long or changes nothing.
    """

    title: str
    paths: frozenset[str]
    warms_up: bool = True
    most_rounds: int = 100


class Case(ABC):
    """One kind of load. Runs in the load generator's process."""

    #: Unique, as written after ``--only``.
    name: ClassVar[str]

    #: For tables and the chart.
    title: ClassVar[str]

    #: The ways to run it, by name.
    variants: ClassVar[Mapping[str, Variant]]

    #: The figures that ``measure`` returns, the most important first.
    metrics: ClassVar[tuple[Metric, ...]]

    @abstractmethod
    def measure(self, target: Target, variant: str, effort: Effort) -> dict[str, float]:
        """Put the load on the target, check what it answers, and return the figures by key.

        Raises:
            Failure: the target gave a wrong answer, or none.
        """
