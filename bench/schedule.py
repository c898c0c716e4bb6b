"""Runs the cases: contestants take turns, round by round, so that noise meets them alike."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench import processes
from bench.cases.case import Case
from bench.contestants.contestant import Contestant
from bench.results import Figures, Key, Results
from bench.service import Service
from bench.target import Effort, Failure, Order

_ROOT = Path(__file__).parent.parent

# Seconds after which a measurement counts as hung.
_HUNG_S = 90.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a run is: seconds of load in each round, and how many rounds."""

    effort: Effort
    warm_up: Effort
    rounds: int


FULL = Plan(Effort(1.5), Effort(0.5), rounds=3)
QUICK = Plan(Effort(0.5, full=False), Effort(0.2, full=False), rounds=1)


@dataclass(frozen=True, slots=True)
class Step:
    """One measurement. Round 0 warms up and does not count."""

    case: Case
    variant: str
    contestant: Contestant
    round: int

    @property
    def key(self) -> Key:
        return Key(self.case.name, self.variant, self.contestant.name)


class Progress(Protocol):
    """Is told what happens."""

    def begin(self, step: Step) -> None: ...
    def end(self) -> None: ...
    def failed(self, step: Step, reason: str) -> None: ...


class Schedule:
    """The measurements of a run, in their order."""

    def __init__(
        self, cases: Sequence[Case], contestants: Sequence[Contestant], plan: Plan
    ) -> None:
        self.cases = cases
        self.contestants = contestants
        self._plan = plan

    def __len__(self) -> int:
        return sum(1 for case in self.cases for _ in self.steps(case))

    def steps(self, case: Case) -> Iterator[Step]:
        """The measurements of one case: every contestant in turn, then the next round."""
        for number in range(self._plan.rounds + 1):
            for name, variant in case.variants.items():
                if number <= variant.most_rounds and (number or variant.warms_up):
                    for contestant in self.contestants:
                        if variant.paths <= contestant.paths:
                            yield Step(case, name, contestant, number)

    def run(self, results: Results, progress: Progress) -> None:
        """Measure everything. What fails is noted in the results, and the rest goes on."""
        for case in self.cases:
            with ExitStack() as running:
                self._run_case(case, running, results, progress)

    def _run_case(
        self, case: Case, running: ExitStack, results: Results, progress: Progress
    ) -> None:
        """Start the contestants of a case anew, so that no case inherits the last one's state."""
        steps = list(self.steps(case))
        services = _start({step.contestant.name: step.contestant for step in steps}, running)
        for step in steps:
            progress.begin(step)
            if step.key not in results.failures:
                try:
                    figures = self._measure(step, services[step.contestant.name])
                except Failure as failure:
                    results.fail(step.key, str(failure))
                    progress.failed(step, str(failure))
                else:
                    if step.round:
                        results.add(step.key, figures)
            progress.end()

    def _measure(self, step: Step, service: Service) -> Figures:
        service.wait_until_ready()
        effort = self._plan.effort if step.round else self._plan.warm_up
        try:
            figures = _load(Order(step.case.name, step.variant, service.target, effort))
        except Failure as failure:
            raise Failure(f"{service.last_words()}\n{failure}") from None
        processes.settle(service.target.pids)
        return figures


def _start(contestants: Mapping[str, Contestant], running: ExitStack) -> dict[str, Service]:
    """Start them all at the same time."""
    return {
        name: running.enter_context(contestant.running())
        for name, contestant in contestants.items()
    }


def _load(order: Order) -> Figures:
    """Carry out an order in a process of its own."""
    command = [sys.executable, "-m", "bench.load"]
    try:
        outcome = subprocess.run(
            command,
            input=order.to_json(),
            capture_output=True,
            cwd=_ROOT,
            text=True,
            timeout=_HUNG_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Failure(f"not done after {_HUNG_S:.0f} s") from None
    if outcome.returncode:
        raise Failure(f"the load generator broke: {outcome.stderr[-1000:]}")
    answer = json.loads(outcome.stdout)
    if "failure" in answer:
        raise Failure(answer["failure"])
    figures: Figures = answer["metrics"]
    return figures
