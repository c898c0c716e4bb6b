"""Who sends to the bus and found no room there: their sends wait, in order, and are tried again."""

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from busway.bus.errors import BusError, BuswayError
from busway.bus.operations import Leave, Send

_PATIENCE = 20
"""Waiting sends of one source that are tried in one exchange."""


class Source(Protocol):
    """Something that sends to the bus: a connection."""

    waiting: deque[Send] | None
    """Sends that found no room, in order; while there are any, new ones go behind them."""

    def refused(self, send: Send, error: BusError) -> bool:
        """Be told that there was no room; True: try again later, in order."""

    def impossible(self, send: Send, error: BuswayError) -> None:
        """Be told that a message can never be sent."""

    def drained(self) -> None:
        """Be told that everything that was waiting has been sent."""


class Stalled:
    """Sources whose sends wait for room. Each has its turn, once a round."""

    def __init__(self) -> None:
        """Start without any."""
        self._sources: dict[Source, None] = {}
        self.round = 0
        """How many of them have their turn in this round yet."""

    def __bool__(self) -> bool:
        return bool(self._sources)

    def count(self) -> int:
        """Return how many sends wait."""
        return sum(len(source.waiting or ()) for source in self._sources)

    def begin_round(self) -> None:
        """Let everybody try again."""
        self.round = len(self._sources)

    def end_round(self) -> None:
        """Let nobody try again until the next round."""
        self.round = 0

    def add(self, source: Source, sends: Sequence[Send]) -> None:
        """Let `sends` wait, before all others of their source."""
        if source.waiting is None:
            source.waiting = deque(sends)
            self._sources[source] = None
        else:
            source.waiting.extendleft(reversed(sends))

    def take(
        self, operations: list[Send | Leave], sources: list[Source | None], limit: int
    ) -> list[Source]:
        """Move waiting sends into an exchange, up to `limit`: of each source in turn a few.

        Returns whose they are.
        """
        taken: list[Source] = []
        # Some may have gone on, or away, since the round began.
        self.round = min(self.round, len(self._sources))
        while self.round and len(operations) < limit:
            self.round -= 1
            source = next(iter(self._sources))
            # To the end of the line, so that each has its turn.
            self._sources[source] = self._sources.pop(source)
            waiting = source.waiting or deque()
            for _ in range(min(_PATIENCE, len(waiting))):
                operations.append(waiting.popleft())
                sources.append(source)
            taken.append(source)
        return taken

    def release(self, sources: Sequence[Source]) -> None:
        """Let go on whoever of `sources` has sent everything that was waiting."""
        for source in sources:
            if not source.waiting and source in self._sources:
                self.abandon(source)
                source.drained()

    def abandon(self, source: Source) -> None:
        """Give up what `source` is waiting to send."""
        source.waiting = None
        self._sources.pop(source, None)
