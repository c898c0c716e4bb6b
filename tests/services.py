"""Real processes for tests: started, watched through what they print, and never left behind."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

PATIENCE = 30.0
"""Seconds that anything may take on a busy machine; a test that passes never waits so long."""


class Service:
    """A process group whose output (both streams in one) can be waited for."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """Start `command`; a command that begins with "busway" runs this environment's."""
        if command[0] == "busway":
            command = [sys.executable, "-m", "busway", *command[1:]]
        self._lines: list[str] = []
        self._read = 0
        self._news = threading.Condition()
        self._closed = False
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            pass_fds=pass_fds,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._follow, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process id of the first process."""
        return self._process.pid

    @property
    def output(self) -> str:
        """Everything that was printed so far."""
        with self._news:
            return "\n".join(self._lines)

    def expect(self, pattern: str) -> re.Match[str]:
        """Wait for a line that has `pattern` in it, after the last one that was expected."""
        deadline = time.monotonic() + PATIENCE
        with self._news:
            while True:
                while self._read < len(self._lines):
                    line = self._lines[self._read]
                    self._read += 1
                    if found := re.search(pattern, line):
                        return found
                if self._closed or not self._news.wait(max(0.0, deadline - time.monotonic())):
                    printed = "\n".join(self._lines)
                    ending = "the output ended" if self._closed else "time is up"
                    raise AssertionError(f"{ending} without {pattern!r} after:\n{printed}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the first process alone."""
        self._process.send_signal(number)

    def ended(self) -> int:
        """Wait for the first process to end; returns its exit status."""
        return self._process.wait(PATIENCE)

    def all_ended(self) -> None:
        """Wait until every process that inherited the output has ended."""
        self._reader.join(PATIENCE)
        if self._reader.is_alive():
            raise AssertionError(f"processes are left of:\n{self.output}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(PATIENCE)
        self.all_ended()

    def _follow(self) -> None:
        if self._process.stdout is None:
            return
        with self._process.stdout as stream:
            for line in stream:
                with self._news:
                    self._lines.append(line.rstrip("\n"))
                    self._news.notify_all()
        with self._news:
            self._closed = True
            self._news.notify_all()


def is_running(pid: int) -> bool:
    """Say whether process `pid` exists and is no zombie."""
    found = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return found.stdout.strip()[:1] not in ("", "Z")
