"""Deadlines of many connections, with one timer for all of them. No clock of its own."""

from heapq import heappop, heappush
from math import ceil
from typing import Protocol


class Timed(Protocol):
    """Something that a `Wheel` reminds of the time."""

    slot: int
    """Where the wheel keeps it; 0: nowhere."""

    def expire(self, now: float) -> None:
        """Be told that its deadline has passed, at `now` (seconds, of any steady clock)."""


class Wheel:
    """Keeps a deadline each for many objects, in slots of `resolution` seconds.

    A deadline is never reported early, and at most `resolution` late.
    """

    __slots__ = ("_heap", "_resolution", "_slots")

    def __init__(self, resolution: float = 0.25) -> None:
        self._resolution = resolution
        self._slots: dict[int, set[Timed]] = {}
        self._heap: list[int] = []

    def set(self, item: Timed, deadline: float) -> None:
        """Give `item` a deadline, instead of any that it had."""
        if item.slot:
            self.discard(item)
        slot = max(ceil(deadline / self._resolution), 1)
        members = self._slots.get(slot)
        if members is None:
            members = self._slots[slot] = set()
            heappush(self._heap, slot)
        members.add(item)
        item.slot = slot

    def hasten(self, item: Timed, deadline: float) -> None:
        """Give `item` a deadline unless it has an earlier one. That may be one of the past:
        whoever has many deadlines in a second, of which few come, asks for what it is then."""
        if not item.slot or deadline < item.slot * self._resolution:
            self.set(item, deadline)

    def discard(self, item: Timed) -> None:
        """Forget the deadline of `item`, if it has one."""
        members = self._slots.get(item.slot)
        if members is not None:
            members.discard(item)
        item.slot = 0

    def due(self, now: float) -> list[Timed]:
        """Take out and return what has a deadline at or before `now`."""
        found: list[Timed] = []
        while self._heap and self._heap[0] * self._resolution <= now:
            members = self._slots.pop(heappop(self._heap))
            for item in members:
                item.slot = 0
            found.extend(members)
        return found
