"""How many messages a worker takes at once. No clock of its own."""

TARGET = 0.005
"""Seconds that a batch should take: long enough to share the cost of an exchange among many
messages, short enough that nobody waits for those before it."""

MAX_LIMIT = 32
"""Messages in the largest batch. With larger ones worker and interface server wait for each other
instead of working at the same time; with smaller ones they exchange more often: measured at 50
sockets, 32 gave a quarter more than 16, and a fifth more than 128."""

MAX_LIMIT_APART = 64
"""The same where an exchange waits for a network: measured, 64 gave 5 % more than 32 at 50 sockets,
and a sixth at 100."""


class Pace:
    """Chooses the size of the next batch by how long recent consumers took."""

    def __init__(self, most: int = MAX_LIMIT) -> None:
        """Start with single messages; the largest batch has `most`."""
        self._most = most
        self.limit = 1
        """Messages to take next."""
        self._mean = TARGET

    def measure(self, count: int, seconds: float) -> None:
        """Take into account that `count` consumers took `seconds` together.

        Slower ones count at once, faster ones little by little, so that a batch is seldom late.
        """
        mean = seconds / count
        self._mean = mean if mean > self._mean else self._mean + (mean - self._mean) * 0.3
        fitting = int(TARGET / self._mean) if self._mean > TARGET / self._most else self._most
        self.limit = max(1, min(fitting, self.limit * 2))
