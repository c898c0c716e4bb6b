"""One supervised process, from its start to its end."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ChildSpec:
    """How to start a process of the service, and what it is to the supervisor."""

    name: str
    """What it is called in logs, for example "worker 2"."""
    command: tuple[str, ...]
    """Its command line, without the options `--ready-fd` and `--lifeline-fd` that are added."""
    fds: tuple[int, ...] = ()
    """Open descriptors that it inherits under the same numbers: listening sockets."""
    rolls: bool = False
    """True: a roll replaces it, so that it runs changed code. False: it stays up."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables added to the supervisor's own."""


class Child:
    """A started process. Made and used in the supervisor's event loop.

    `reap` has to be called when the process may have ended: on SIGCHLD.
    """

    def __init__(self, spec: ChildSpec, lifeline: int) -> None:
        """Start the process. `lifeline` is the read end of the supervisor's lifeline.

        Raises `OSError` when it cannot be started.
        """
        self.spec = spec
        self.started = time.monotonic()
        loop = asyncio.get_running_loop()
        # Set to True when the process says that it is ready, to False when it ends before.
        self._ready: asyncio.Future[bool] = loop.create_future()
        # Set to the exit status as `subprocess` has it: negative for a signal.
        self._ended: asyncio.Future[int] = loop.create_future()
        self._loop = loop
        self._asked = False
        self._pipe, write_end = os.pipe()
        os.set_blocking(self._pipe, False)
        try:
            self._process = _spawn(spec, write_end, lifeline)
        except OSError:
            os.close(self._pipe)
            raise
        finally:
            os.close(write_end)
        loop.add_reader(self._pipe, self._read_pipe)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def was_ready(self) -> bool:
        """Whether the process has been ready, if only once."""
        return self._ready.done() and self._ready.result()

    @property
    def lived(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    async def ready(self) -> bool:
        """Wait until the process is ready (True) or has ended before it was (False)."""
        return await asyncio.shield(self._ready)

    async def ended(self) -> int:
        """Wait until the process has ended; returns its status, negative for a signal."""
        return await asyncio.shield(self._ended)

    def reap(self) -> bool:
        """Notice that the process has ended; returns whether it has."""
        if self._ended.done():
            return True
        if self._process.poll() is None:
            return False
        self._ended.set_result(self._process.returncode)
        # What it said before it ended still counts.
        self._read_pipe()
        self._be_ready(False)
        return True

    async def stop(self, grace: float) -> bool:
        """Ask the process to stop; kill it after `grace` seconds. Returns False if killed so.

        It is asked once, however often this is called: a second SIGTERM would end a worker at
        once. Cancelling leaves it asked, and running.
        """
        if not self._asked:
            self._asked = True
            self._signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.ended(), grace)
            return True
        self.kill()
        await self.ended()
        return False

    def kill(self) -> None:
        """Kill the process now; no error when it has ended."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if not self._ended.done():
            self._process.send_signal(number)

    def _read_pipe(self) -> None:
        if self._pipe < 0:
            return
        try:
            said = os.read(self._pipe, 16)
        except BlockingIOError:
            return
        self._loop.remove_reader(self._pipe)
        os.close(self._pipe)
        self._pipe = -1
        if said:
            self._be_ready(True)

    def _be_ready(self, ready: bool) -> None:
        if not self._ready.done():
            self._ready.set_result(ready)


def describe(status: int) -> str:
    """Return words for the exit `status` of a process: "exit code 1" or "signal SIGKILL"."""
    if status >= 0:
        return f"exit code {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"


def _spawn(spec: ChildSpec, ready: int, lifeline: int) -> subprocess.Popen[bytes]:
    command = [*spec.command, "--ready-fd", str(ready), "--lifeline-fd", str(lifeline)]
    # A Ctrl-C in the terminal reaches the whole process group; it is for the supervisor, which
    # stops its children in order. They inherit SIGINT blocked; see `ignore_interrupts`.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return subprocess.Popen(  # noqa: S603  (our own command line, and no shell)
            command,
            pass_fds=(ready, lifeline, *spec.fds),
            env={**os.environ, **spec.environment},
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
