"""Idle: what a socket that does nothing costs in memory."""

from typing import ClassVar

from bench import processes
from bench.cases.case import Case, Metric, Variant
from bench.load.crowd import Crowd
from bench.target import Effort, Target

SOCKETS = 5000
_SOCKETS_QUICK = 1000

#: Sockets opened before the first look, so that what is allocated once is not counted.
_FIRST = 100


class Idle(Case):
    name = "idle"
    title = f"Memory per idle socket, {SOCKETS:,} open"
    variants: ClassVar = {"open": Variant("", frozenset({"/open"}), warms_up=False, most_rounds=1)}
    metrics = (
        Metric("server_kb", "interface server, PSS", "KB", "less"),
        Metric("server_rss_kb", "interface server, RSS", "KB", "neutral"),
        Metric("all_kb", "all processes, PSS", "KB", "neutral"),
    )

    def measure(self, target: Target, variant: str, effort: Effort) -> dict[str, float]:
        count = SOCKETS if effort.full else _SOCKETS_QUICK
        with Crowd(target) as crowd:
            crowd.open("/open", _FIRST)
            server = interface_server(target, crowd)
            before = look(target, server)
            crowd.open("/open", count)
            after = look(target, server)
        growth = [(b - a) / count / 1024 for a, b in zip(before, after, strict=True)]
        return dict(zip(("server_kb", "server_rss_kb", "all_kb"), growth, strict=True))


def interface_server(target: Target, crowd: Crowd) -> int:
    """The process that holds the crowd's connections."""
    client_port = next(iter(crowd.sockets.values())).getsockname()[1]
    return processes.owner(target.pids, target.port, client_port)


def look(target: Target, server: int) -> tuple[int, int, int]:
    """PSS and RSS of the interface server, and PSS of all processes, in bytes, when at rest."""
    processes.settle(target.pids)
    alone = processes.memory([server])
    everyone = processes.memory(process.pid for process in processes.family(target.pids))
    return alone.pss, alone.rss, everyone.pss
