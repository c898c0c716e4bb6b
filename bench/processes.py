"""What Linux tells about processes: families, CPU time, memory, who owns a connection."""

import os
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")

# Seconds over which a process must be idle to count as at rest.
_REST_S = 0.1


@dataclass(frozen=True, slots=True)
class Process:
    """A line of the process table. ``cpu_s`` is user and system time in seconds."""

    pid: int
    parent: int
    session: int
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of one or more processes, in bytes, from ``/proc/PID/smaps_rollup``.

    ``pss`` counts a page shared by n processes as 1/n, ``rss`` counts it fully.
    """

    pss: int
    rss: int


def family(roots: Collection[int]) -> list[Process]:
    """The processes with these ids, all their descendants, and all in a session they began."""
    table = {process.pid: process for process in map(_process, _pids()) if process is not None}
    return [process for process in table.values() if _descends(process, roots, table)]


def cpu_s(roots: Collection[int]) -> float:
    """CPU seconds that a family has used so far."""
    return sum(process.cpu_s for process in family(roots))


def memory(pids: Iterable[int]) -> Memory:
    """Memory of these processes together."""
    rollups = [_rollup(pid) for pid in pids]
    return Memory(
        pss=sum(rollup["Pss"] for rollup in rollups),
        rss=sum(rollup["Rss"] for rollup in rollups),
    )


def settle(roots: Collection[int], within_s: float = 5.0) -> None:
    """Wait until a family is at rest, such as after many sockets closed, but not for ever."""
    deadline = time.monotonic() + within_s
    used = cpu_s(roots)
    while time.monotonic() < deadline:
        time.sleep(_REST_S)
        before, used = used, cpu_s(roots)
        if used - before < 0.05 * _REST_S + 1 / _TICKS_PER_S:
            return


def owner(roots: Collection[int], port: int, client_port: int) -> int:
    """The process of a family that holds the server's end of a loopback TCP connection."""
    link = f"socket:[{_inode(port, client_port)}]"
    for process in family(roots):
        if link in _links(process.pid):
            return process.pid
    raise LookupError(f"no process of {sorted(roots)} holds the connection from {client_port}")


def _pids() -> list[int]:
    return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal()]


def _process(pid: int) -> Process | None:
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command, in parentheses, may contain spaces; the fields after it are numbers (proc(5)).
    fields = stat.rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    return Process(pid, int(fields[1]), int(fields[3]), ticks / _TICKS_PER_S)


def _descends(process: Process, roots: Collection[int], table: dict[int, Process]) -> bool:
    ancestor: Process | None = process
    while ancestor is not None:
        if ancestor.pid in roots or ancestor.session in roots:
            return True
        ancestor = table.get(ancestor.parent)
    return False


def _rollup(pid: int) -> dict[str, int]:
    """The sums of smaps_rollup, in bytes."""
    lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:]
    pairs = (line.split(":") for line in lines)
    return {name: int(value.split()[0]) * 1024 for name, value in pairs}


def _inode(port: int, client_port: int) -> str:
    ends = [f"0100007F:{port:04X}", f"0100007F:{client_port:04X}"]
    for line in (_PROC / "net" / "tcp").read_text().splitlines():
        fields = line.split()
        if fields[1:3] == ends:
            return fields[9]
    raise LookupError(f"no connection from {client_port} to {port}")


def _links(pid: int) -> set[str]:
    folder = _PROC / str(pid) / "fd"
    links = set()
    for descriptor in folder.iterdir():
        with suppress(FileNotFoundError):
            links.add(str(descriptor.readlink()))
    return links
