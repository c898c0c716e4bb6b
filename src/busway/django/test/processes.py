"""The processes of a live server, which run a project as a test sees it."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, ClassVar

from django.conf import settings

from busway.bus.errors import BuswayError

START_TIMEOUT = 60.0
"""Seconds that a process may take to be ready."""

STOP_TIMEOUT = 10.0
"""Seconds that a process may take to stop, before it is killed."""


class ProcessFailed(BuswayError):
    """A process of a live server did not start."""

    def __init__(self, command: str, why: str) -> None:
        super().__init__(command, why)
        self.command = command
        self.why = why

    def __str__(self) -> str:
        return f"{self.command} of the live server {self.why}; what it wrote says why"


class LiveProcess:
    """A command of `manage.py`, with the databases and layers of the test."""

    command: ClassVar[str] = ""
    """The command."""

    def __init__(
        self, setup: dict[str, Any], words: Sequence[str], fds: Sequence[int] = ()
    ) -> None:
        """Take what differs from the settings, options, and inherited descriptors.

        What `setup` has: see `main` in `busway.django.test.__main__`.
        """
        self._setup = setup
        self._words = words
        self._fds = fds
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = self._lifeline = -1

    def start(self) -> None:
        """Start the process; `wait_until_ready` follows."""
        self._ready, says_ready = os.pipe()
        holds, self._lifeline = os.pipe()
        options = ["--ready-fd", str(says_ready), "--lifeline-fd", str(holds), "--verbosity", "0"]
        try:
            self._process = subprocess.Popen(  # noqa: S603  (our own command line, and no shell)
                [
                    *(
                        sys.executable,
                        "-m",
                        "busway.django.test",
                        json.dumps(self._setup),
                        self.command,
                    ),
                    *(*options, *self._words),
                ],
                pass_fds=(says_ready, holds, *self._fds),
                env={
                    **os.environ,
                    "DJANGO_SETTINGS_MODULE": settings.SETTINGS_MODULE or "",
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                },
            )
        finally:
            os.close(says_ready)
            os.close(holds)

    def wait_until_ready(self) -> None:
        """Wait until the process does its work. Raises `ProcessFailed` when it does not."""
        if not select.select([self._ready], [], [], START_TIMEOUT)[0]:
            raise ProcessFailed(self.command, f"was not ready in {START_TIMEOUT:g} s")
        if not os.read(self._ready, 16):
            raise ProcessFailed(self.command, "ended before it was ready")

    def stop(self) -> None:
        """Let the process finish what it does and end. No error when it has."""
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_TIMEOUT)
            self._process.kill()
            self._process.wait()
            self._process = None
        for fd in (self._ready, self._lifeline):
            if fd >= 0:
                os.close(fd)
        self._ready = self._lifeline = -1


class ServerProcess(LiveProcess):
    """The interface server."""

    command = "runweb"


class WorkerProcess(LiveProcess):
    """A worker."""

    command = "runworker"
