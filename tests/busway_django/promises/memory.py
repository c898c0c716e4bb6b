"""What memory a process takes: its peak, above what it takes when it is idle."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

LIMIT = 50.0
"""MB that a process may take above idle."""


class Use(NamedTuple):
    """MB of one process."""

    idle: float
    peak: float

    @property
    def growth(self) -> float:
        """How far the peak was above idle."""
        return self.peak - self.idle


@contextmanager
def measured(pids: Mapping[str, int]) -> Iterator[dict[str, Use]]:
    """Measure processes, by their names, while a `with` block runs; then the dict is filled.

    Memory is the resident set with all of the shared pages in it, so with what they touch of
    the bus: the most that could be said of it.
    """
    idle = {name: _resident(pid, "VmRSS") for name, pid in pids.items()}
    for pid in pids.values():
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
    uses: dict[str, Use] = {}
    yield uses
    for name, pid in pids.items():
        uses[name] = Use(idle[name], _resident(pid, "VmHWM"))


def _resident(pid: int, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.removesuffix("kB")) / 1000
    raise AssertionError(f"process {pid} has no {field}")
