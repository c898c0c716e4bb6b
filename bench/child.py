"""Child processes that never outlive the benchmark."""

import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

from bench import processes
from bench.target import Failure

_STOP_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Child:
    """A running command, and the file that receives what it prints."""

    name: str
    process: subprocess.Popen[bytes]
    log: IO[bytes]

    @property
    def pid(self) -> int:
        return self.process.pid

    def check_alive(self) -> None:
        """Raise Failure when it has ended."""
        if self.process.poll() is not None:
            raise Failure(f"{self.name} has ended: {self.last_words()}")

    def last_words(self, size: int = 600) -> str:
        """The end of what it printed, in bytes of that size at most."""
        log = self.log.fileno()
        start = max(0, os.fstat(log).st_size - size)
        return os.pread(log, size, start).decode(errors="replace").strip() or "it printed nothing"


@contextmanager
def running(name: str, command: list[str], **environment: str) -> Iterator[Child]:
    """Run a command; on leaving, stop it and all that it started."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | environment,
            start_new_session=True,
        )
        try:
            yield Child(name, process, log)
        finally:
            _stop(process)


def free_port() -> int:
    """A TCP port of the loopback interface that nothing uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, and kill what is left of its family after a few seconds."""
    members = [member.pid for member in processes.family([process.pid])]
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_WITHIN_S)
    _kill(members)
    process.wait()


def _kill(pids: Collection[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
