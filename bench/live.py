"""Progress in the terminal."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from bench.schedule import Step


class Live:
    """Shows how far a run is and what is measured at the moment."""

    def __init__(self, console: Console, steps: int) -> None:
        self._bar = Bar(
            TextColumn("{task.description:<60}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._task = self._bar.add_task("Starting", total=steps)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def begin(self, step: Step) -> None:
        """A measurement begins."""
        turn = f"round {step.round}" if step.round else "warm-up"
        text = f"{step.case.name} {step.variant}, {step.contestant.title}, {turn}"
        self._bar.update(self._task, description=text)

    def end(self) -> None:
        """The measurement has ended."""
        self._bar.advance(self._task)

    def failed(self, step: Step, reason: str) -> None:
        """The measurement has failed."""
        title = f"{step.case.name} {step.variant}, {step.contestant.title}"
        self._bar.console.print(f"[red]{title}: {reason}", highlight=False)
