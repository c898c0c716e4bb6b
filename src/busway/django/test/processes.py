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
        """Take what differs from the settings (see `main`), options, and inherited descriptors."""
        self._setup = setup
        self._words = words
        self._fds = fds
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline = -1

    def start(self) -> None:
        """Start the process. Raises `ProcessFailed` when it does not come to be ready."""
        ready, says_ready = os.pipe()
        holds, self._lifeline = os.pipe()
        options = ["--ready-fd", str(says_ready), "--lifeline-fd", str(holds), "--verbosity", "0"]
        try:
            self._process = subprocess.Popen(  # noqa: S603  (our own command line, and no shell)
                [
                    *(sys.executable, "-m", __name__, json.dumps(self._setup), self.command),
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
        try:
            self._wait_until_ready(ready)
        except BaseException:
            self.stop()
            raise
        finally:
            os.close(ready)

    def stop(self) -> None:
        """Let the process finish what it does and end. No error when it has."""
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_TIMEOUT)
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1

    def _wait_until_ready(self, fd: int) -> None:
        if not select.select([fd], [], [], START_TIMEOUT)[0]:
            raise ProcessFailed(self.command, f"was not ready in {START_TIMEOUT:g} s")
        if not os.read(fd, 16):
            raise ProcessFailed(self.command, "ended before it was ready")


class ServerProcess(LiveProcess):
    """The interface server."""

    command = "runweb"


class WorkerProcess(LiveProcess):
    """A worker."""

    command = "runworker"


def main(setup: dict[str, Any], words: list[str]) -> None:
    """Run a command with settings that a test has changed.

    `setup` has "databases" (alias → name), "layers" (alias → what CHANNEL_LAYERS says, without
    the ROUTING), "host" and "debug".
    """
    from django.core.management import execute_from_command_line  # noqa: PLC0415

    from busway.django.layers import channel_layers  # noqa: PLC0415

    for alias, name in setup["databases"].items():
        settings.DATABASES[alias]["NAME"] = name
    settings.CHANNEL_LAYERS = {
        alias: {**live, "ROUTING": channel_layers.configs[alias].get("ROUTING", [])}
        for alias, live in setup["layers"].items()
    }
    settings.DEBUG = setup["debug"]
    settings.ALLOWED_HOSTS = [*settings.ALLOWED_HOSTS, setup["host"]]
    execute_from_command_line(["manage.py", *words])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2:])
