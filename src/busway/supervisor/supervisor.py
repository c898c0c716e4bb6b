"""Keeps the processes of a service running.

One task tends each place: it starts a process, waits for its end and starts the next. A roll
puts a new process in a place before the old one is stopped. All of it happens in one event
loop, in the main thread; the supervisor has no other threads and no channel layer of its own,
so it can start processes at any time.
"""

import asyncio
import logging
import os
import random
import signal
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from busway.supervisor.backoff import Backoff
from busway.supervisor.children import Child, ChildSpec, describe

logger = logging.getLogger("busway.supervisor")

SLOW_START = 10.0
"""Seconds after which a start that takes long is mentioned."""


class _Place:
    """Where one process at a time does its work."""

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.backoff = Backoff()
        # The process that does the work here, ready or not; None between two of them.
        self.child: Child | None = None
        # Held while `child` is changed, so that a place never gets two.
        self.lock = asyncio.Lock()
        # Set from when a roll filled the place until its process ends.
        self.filled = asyncio.Event()
        # Set when a process has been ready here for the first time.
        self.proven = asyncio.Event()


class Supervisor:
    """Runs processes until it is told to stop. Made and run once, in an event loop."""

    def __init__(
        self,
        specs: Sequence[ChildSpec],
        *,
        grace: float = 10.0,
        start_timeout: float = 60.0,
        changes: AsyncIterator[Iterable[str]] | None = None,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        """Prepare to run `specs`.

        Args:
            specs: the processes. Those that do not roll are stopped before those that do.
            grace: seconds from the request to stop until what still runs is killed.
            start_timeout: seconds that a process started by a roll has to become ready.
            changes: yields the paths of changed files; each time, processes are rolled. With
                it, a process that ends with an error at its start waits for the next change.
                None: no reloading.
            on_ready: called once, when every process is ready.
        """
        self._places = [_Place(spec) for spec in specs]
        self._grace = grace
        self._start_timeout = start_timeout
        self._changes = changes
        self._on_ready = on_ready
        self._children: set[Child] = set()
        self._roll_wanted = asyncio.Event()
        self._main: asyncio.Task[None] | None = None
        self._stopping = False
        self._terminal = False
        self._status = 0
        # Only this process holds the write end; it is never written to.
        self._lifeline, self._life = os.pipe()

    async def run(self) -> int:
        """Start everything, keep it running until SIGTERM or SIGINT, then stop it.

        SIGHUP rolls the processes; a second SIGTERM or SIGINT kills what has not stopped yet.
        Returns the exit status: 0, or 1 when a process could not be started in the first place.
        """
        # nohup starts us with SIGHUP ignored: the end of the terminal is not ours then.
        self._terminal = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and _has_terminal()
        with self._signals():
            self._main = asyncio.create_task(self._keep_running())
            # Not awaited directly: a cancelled task is how the work ends, and no error.
            await asyncio.wait({self._main})
            await self._stop_all()
        os.close(self._life)
        os.close(self._lifeline)
        if not self._main.cancelled():
            self._main.result()
        return self._status

    @contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        handlers: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGINT: self._stop,
            signal.SIGTERM: self._stop,
            signal.SIGHUP: self._hang_up,
            signal.SIGCHLD: self._reap,
        }
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)

    def _hang_up(self) -> None:
        """Roll; but stop when the terminal that this was started in has been closed."""
        if self._terminal and not _has_terminal():
            self._stop()
        else:
            self._roll_wanted.set()

    def _reap(self) -> None:
        for child in list(self._children):
            if child.reap():
                self._children.discard(child)

    # -- keeping it running ---------------------------------------------------------------

    async def _keep_running(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            if self._changes is not None:
                tasks.create_task(self._reload(self._changes))
            first = next((place for place in self._places if place.spec.rolls), None)
            for place in self._places:
                # One worker goes first, so that a mistake in the code is reported once.
                waits = place.spec.rolls and place is not first
                tasks.create_task(self._tend(place, first if waits else None))
            tasks.create_task(self._roll_on_request())
            tasks.create_task(self._announce())

    async def _tend(self, place: _Place, after: _Place | None = None) -> None:
        """Have a process in `place` at all times, as soon as one has been ready in `after`."""
        if after is not None:
            await after.proven.wait()
        while True:
            async with place.lock:
                if place.child is None:
                    place.child = self._start(place.spec)
                child = place.child
            if child is None:
                await self._pause(place, 0.0)
                continue
            if await child.ready():
                place.proven.set()
            status = await child.ended()
            async with place.lock:
                if place.child is not child:
                    continue
                place.child = None
                place.filled.clear()
            if not await self._after_death(place, child, status):
                return

    async def _after_death(self, place: _Place, child: Child, status: int) -> bool:
        """Say that `child` died, and wait until the next can be started; False: none shall be."""
        name, how = place.spec.name, describe(status)
        watched = self._changes is not None and place.spec.rolls
        if child.was_ready:
            logger.warning("%s (pid %d) died: %s; starting another", name, child.pid, how)
            await self._pause(place, child.lived)
        elif watched and status > 0:
            logger.error("%s did not start: %s; waiting for a change of the code", name, how)
            await place.filled.wait()
        elif watched or place.proven.is_set():
            # A signal is no mistake in the code: no change of it is to be expected.
            logger.error("%s did not start: %s; trying again", name, how)
            await self._pause(place, child.lived)
        else:
            logger.error("%s did not start: %s; stopping", name, how)
            self._status = 1
            self._stop()
            return False
        return True

    async def _pause(self, place: _Place, lived: float) -> None:
        delay = place.backoff.delay(lived, random.random())  # noqa: S311  (jitter)
        if delay >= 1.0:
            logger.info("%s starts again in %.0f s", place.spec.name, delay)
        await _happens(place.filled, delay)

    async def _announce(self) -> None:
        """Call `on_ready` when every process is ready, and name those that take long."""
        for place in self._places:
            while not await _happens(place.proven, SLOW_START):
                if place.child is not None:
                    logger.info("%s is still starting", place.spec.name)
        if self._on_ready is not None:
            self._on_ready()

    def _start(self, spec: ChildSpec) -> Child | None:
        """Start a process; None, and a line in the log, when the system has no room for one."""
        try:
            child = Child(spec, self._lifeline)
        except OSError as error:
            logger.error("cannot start %s: %s", spec.name, error)  # noqa: TRY400
            return None
        self._children.add(child)
        logger.debug("%s started (pid %d)", spec.name, child.pid)
        return child

    # -- rolling ----------------------------------------------------------------------------

    async def _reload(self, changes: AsyncIterator[Iterable[str]]) -> None:
        try:
            async for paths in changes:
                logger.info("changed: %s; rolling", ", ".join(sorted(paths)))
                self._roll_wanted.set()
        except OSError as error:
            logger.error("cannot watch for changes: %s; send SIGHUP to reload", error)  # noqa: TRY400

    async def _roll_on_request(self) -> None:
        while True:
            await self._roll_wanted.wait()
            self._roll_wanted.clear()
            await self._roll()

    async def _roll(self) -> None:
        """Replace processes one at a time; leave off at the first that fails to start."""
        for place in self._places:
            if not place.spec.rolls:
                continue
            if not await self._replace(place):
                if not self._roll_wanted.is_set():
                    stay = "there is none" if place.child is None else "the old ones stay"
                    logger.error("the new %s did not start; %s", place.spec.name, stay)
                return
        logger.info("rolled")

    async def _replace(self, place: _Place) -> bool:
        """Put a new process in `place`, then stop the old one; False if the new one fails."""
        async with place.lock:
            new = self._start(place.spec)
            if new is None:
                return False
            if not await self._becomes_ready(new):
                new.kill()
                await new.ended()
                return False
            old, place.child = place.child, new
            place.filled.set()
            place.proven.set()
        if old is not None and not await old.stop(self._grace):
            logger.warning(
                "%s (pid %d) did not stop in %.1f s and was killed",
                place.spec.name,
                old.pid,
                self._grace,
            )
        return True

    async def _becomes_ready(self, child: Child) -> bool:
        """Wait for `child`; False when it ends, takes too long or another roll is wanted."""
        ready = asyncio.create_task(child.ready())
        wanted = asyncio.create_task(self._roll_wanted.wait())
        try:
            await asyncio.wait(
                {ready, wanted}, timeout=self._start_timeout, return_when=asyncio.FIRST_COMPLETED
            )
            if not ready.done() and not wanted.done():
                logger.error("%s was not ready in %g s", child.spec.name, self._start_timeout)
            return ready.done() and ready.result()
        finally:
            ready.cancel()
            wanted.cancel()

    # -- stopping -----------------------------------------------------------------------------

    def _stop(self) -> None:
        """Begin to stop; the second time, kill what is left."""
        if self._main is not None and not self._stopping:
            self._stopping = True
            logger.debug("stopping")
            self._main.cancel()
            return
        for child in self._children:
            child.kill()

    async def _stop_all(self) -> None:
        """Stop the processes that stay up in a roll first: they bring work to the others."""
        self._stopping = True
        deadline = asyncio.get_running_loop().time() + self._grace
        for rolls, share in ((False, 2 / 3), (True, 1.0)):
            grace = share * max(0.0, deadline - asyncio.get_running_loop().time())
            group = [child for child in self._children if child.spec.rolls is rolls]
            stopped = await asyncio.gather(*(child.stop(grace) for child in group))
            for child, in_time in zip(group, stopped, strict=True):
                if not in_time:
                    logger.warning(
                        "%s (pid %d) did not stop in %.1f s and was killed",
                        child.spec.name,
                        child.pid,
                        grace,
                    )


async def _happens(event: asyncio.Event, seconds: float) -> bool:
    """Wait for `event`, up to `seconds`; True when it is set."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True


def _has_terminal() -> bool:
    """Tell whether this process has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
