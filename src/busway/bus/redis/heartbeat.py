"""How a process shows that it is alive, and sees to what others that died have left."""

import logging
import threading
from collections.abc import Callable

logger = logging.getLogger("busway.bus")

INTERVAL = 2.0
"""Seconds between two beats."""

ALIVE = 6.0
"""Seconds for which a process counts as alive after a beat."""


class Heartbeat:
    """A thread that calls `beat` every `INTERVAL` seconds until it is stopped."""

    def __init__(self, beat: Callable[[], None]) -> None:
        """Call `beat`, which raises nothing; it begins with `start`."""
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
        while not self._is_stopped:
            self._woken.wait(INTERVAL)
            self._woken.clear()
            if not self._is_stopped:
                self._beat()
