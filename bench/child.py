"""Child processes that never outlive the benchmark."""

import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Collection
from contextlib import suppress
from types import TracebackType
from typing import Self

from bench import processes
from bench.target import Failure

_STOP_WITHIN_S = 5.0


class Child:
    """A running command. A context manager that stops it and all that it started."""

    def __init__(self, name: str, command: list[str], **environment: str) -> None:
        self._name = name
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=os.environ | environment,
            start_new_session=True,
        )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        self._log.close()

    def stop(self) -> None:
        """Ask it to end, and kill what is left of its family after a few seconds."""
        members = [process.pid for process in processes.family([self.pid])]
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_WITHIN_S)
        _kill(members)
        self._process.wait()

    def check_alive(self) -> None:
        """Raise Failure when it has ended."""
        if self._process.poll() is not None:
            raise Failure(f"{self._name} has ended: {self.last_words()}")

    def last_words(self, size: int = 1000) -> str:
        """The end of what it printed, in bytes of that size at most."""
        log = self._log.fileno()
        start = max(0, os.fstat(log).st_size - size)
        return os.pread(log, size, start).decode(errors="replace").strip() or "it printed nothing"


def free_port() -> int:
    """A TCP port of the loopback interface that nothing uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _kill(pids: Collection[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
