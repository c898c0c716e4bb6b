"""A layer that is away for a while: how long to wait before it is tried again, and what to say."""

import logging
from random import SystemRandom

from busway.bus.errors import BusError

logger = logging.getLogger("busway.worker")

_FIRST, _LONGEST = 0.05, 1.0
"""Seconds within which it is tried again, at first and in the end."""


class Absence:
    """Counts the attempts to reach a layer."""

    def __init__(self) -> None:
        self._ceiling = 0.0

    def pause(self, error: BusError) -> float:
        """Return the seconds to wait after `error`: at random, so that not all come at once."""
        if not self._ceiling:
            logger.error("%s; trying again", error)
        self._ceiling = min(2 * self._ceiling or _FIRST, _LONGEST)
        return SystemRandom().uniform(0, self._ceiling)

    def end(self) -> None:
        """Note that the layer is there."""
        if self._ceiling:
            self._ceiling = 0.0
            logger.warning("the bus is available again")
