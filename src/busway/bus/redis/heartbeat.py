"""How a process shows that it is alive, and sees to what others that died have left."""

import threading
from collections.abc import Callable
from random import SystemRandom

INTERVAL = 2.0
"""Seconds between two beats."""

AGAIN = 0.5
"""Seconds within which one that failed is tried again: at random, so that not all come at once."""

ALIVE = 6.0
"""Seconds for which a process counts as alive after a beat."""


class Heartbeat:
    """A thread that calls `beat` every `INTERVAL` seconds until it is stopped."""

    def __init__(self, beat: Callable[[], bool]) -> None:
        """Call `beat`, which raises nothing, and returns whether it was heard."""
        self._beat = beat
        self._woken = threading.Event()
        self._is_stopped = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, unless it has begun."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="busway-heartbeat", daemon=True)
            self._thread.start()

    def hurry(self) -> None:
        """Beat now."""
        self._woken.set()

    def stop(self) -> None:
        """End, and wait until it has ended."""
        self._is_stopped = True
        self._woken.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        pause = INTERVAL
        while not self._is_stopped:
            self._woken.wait(pause)
            self._woken.clear()
            if not self._is_stopped:
                pause = INTERVAL if self._beat() else SystemRandom().uniform(0, AGAIN)
