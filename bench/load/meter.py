"""What a stretch of load cost."""

import resource
import time

from bench import processes
from bench.target import Target


class Meter:
    """Measures from its creation: wall time, and CPU time of server and load generator."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._server_s = processes.cpu_s(target.pids)
        self._load_s = _own_cpu_s()
        self._start = time.perf_counter()

    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._start

    def cost(self, operations: int) -> dict[str, float]:
        """The CPU microseconds of all server processes per operation, and our own share of a core.

        A load generator near 1.0 is what was measured, not the server.
        """
        elapsed = self.elapsed_s()
        server_s = processes.cpu_s(self._target.pids) - self._server_s
        return {
            "server_cpu_us": 1e6 * server_s / max(operations, 1),
            "load_cpu": (_own_cpu_s() - self._load_s) / elapsed,
        }


def _own_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
