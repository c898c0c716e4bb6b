"""How long to wait before a process that died is started again."""

from dataclasses import dataclass


@dataclass
class Backoff:
    """The delays between the starts of one process; it has no clock and no chance of its own.

    All times are seconds. A process that lived at least `healthy_after` is started again at
    once; one that dies sooner waits `first`, then twice that, and so on up to `limit`.
    """

    first: float = 0.2
    limit: float = 30.0
    healthy_after: float = 10.0
    failures: int = 0
    """How often in a row it died too soon."""

    def delay(self, lived: float, chance: float) -> float:
        """Return the seconds to wait, now that the process died after `lived` seconds.

        `chance` is a random number from 0 to 1: it takes off up to half of the delay, so that
        processes that died together do not come back together.
        """
        if lived >= self.healthy_after:
            self.failures = 0
            return 0.0
        # The exponent is bounded because a float is: 2.0**1024 would be an OverflowError.
        full = min(self.limit, self.first * 2.0 ** min(self.failures, 64))
        self.failures += 1
        return full * (1 - chance / 2)
