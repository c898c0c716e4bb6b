"""Watches for consumers that turn out slow, so that they delay no others.

A slow consumer must not hold up what was finished before it in its batch, nor sit on what was
not begun. Its own thread cannot help: it is in the consumer.
"""

import logging
from collections.abc import Sequence
from threading import Event, Thread
from typing import Protocol

from busway.bus.errors import BusError

logger = logging.getLogger("busway.worker")

PATIENCE = 0.02
"""Seconds that a batch may take before it is relieved, and between two looks."""

_QUIET_LOOKS = 25
"""The guard goes to sleep after so many looks that found nobody in a batch."""


class Watched(Protocol):
    """A consumer thread."""

    def relieve(self, patience: float) -> bool:
        """See `busway.app.consumer_thread`."""


class Guard:
    """A thread that looks after consumer threads. It sleeps while they have nothing to do."""

    def __init__(self) -> None:
        """Prepare the thread; `start` starts it."""
        self._watched: Sequence[Watched] = ()
        self._needed = Event()
        self._closed = Event()
        self._thread = Thread(target=self._run, name="busway-guard", daemon=True)

    @property
    def is_awake(self) -> bool:
        """Whether it looks after the threads now; False while it sleeps."""
        return self._needed.is_set()

    def start(self, watched: Sequence[Watched]) -> None:
        """Look after `watched` from now on."""
        self._watched = watched
        self._thread.start()

    def watch(self) -> None:
        """Say that a batch has begun. Cheap when the guard is awake."""
        if not self._needed.is_set():  # setting it takes a lock
            self._needed.set()

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._needed.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        quiet = 0
        while True:
            self._needed.wait()
            if self._closed.wait(PATIENCE):
                return
            if self._look():
                quiet = 0
                continue
            quiet += 1
            if quiet >= _QUIET_LOOKS:
                quiet = 0
                self._needed.clear()
                if self._closed.is_set() or self._look():  # begun just before the clear()
                    self._needed.set()

    def _look(self) -> bool:
        """Relieve who needs it; returns whether anybody is in a batch."""
        busy = False
        for watched in self._watched:
            try:
                busy |= watched.relieve(PATIENCE)
            except BusError as error:
                # Nothing was changed: the thread itself meets it after its consumer.
                logger.warning("a slow batch could not be relieved: %s", error)
        return busy
