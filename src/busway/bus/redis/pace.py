"""How quick a consumer is, and so how many messages a server counts as begun with the first."""

import time

AHEAD = 0.005
"""Seconds of work that a mark may take along: each mark costs a round trip, and what is marked and
not begun is lost with a worker that dies."""

STEADY = 4
"""Batches for which that has to be several messages, before marks reach ahead."""

MAX_REACH = 128
"""Messages that a mark may take along."""

_TICK = 1e-6


class Pace:
    """The pace of one consumer."""

    def __init__(self) -> None:
        """Begin as if it were slow."""
        self.reach = 1
        """Messages that a mark takes along."""
        self._quick = 0
        """Batches in a row of which a mark could take several messages along."""
        self._start = 0.0

    def start(self) -> None:
        """Begin to measure: the consumer has its messages."""
        self._start = time.monotonic()

    def leave_out(self, seconds: float) -> None:
        """Do not count what was not the consumer's time."""
        self._start += seconds

    def measure(self, done: int) -> None:
        """Take note of how many messages the consumer has done by now."""
        if not done:
            return
        able = int(AHEAD * done / max(time.monotonic() - self._start, _TICK))
        self._quick = self._quick + 1 if able > 1 else 0
        self.reach = min(2 * self.reach, able, MAX_REACH) if self._quick >= STEADY else 1
