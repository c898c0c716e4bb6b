"""Who sends to the bus and found no room there: their sends wait, in order, and are tried again.

Few at a time, so that being refused costs little beside what gets through.
"""

from collections import OrderedDict, deque
from collections.abc import Sequence
from itertools import islice
from typing import Protocol

from busway.bus import names
from busway.bus.bundles import MAX_COUNT
from busway.bus.errors import BusError, BuswayError, ChannelFull
from busway.bus.operations import Leave, Send


class Source(Protocol):
    """Something that sends to the bus: a connection."""

    waiting: deque[Send] | None
    """Sends that found no room, in order; while there are any, new ones go behind them."""

    def refused(self, send: Send) -> bool:
        """Be told that there was no room; True: try again later, in order."""

    def impossible(self, send: Send, error: BuswayError) -> None:
        """Be told that a message can never be sent."""

    def drained(self) -> None:
        """Be told that everything that was waiting has been sent."""


_Lack = str | Source | None
"""What there is too little of: room in a channel (or prefix), in the lane of a source, or on the
bus altogether."""


class _Line:
    """Sources that wait for the same. Each has its turn; a round ends when one is refused."""

    __slots__ = ("accepted", "lack", "pace", "refused", "sources", "tried")

    def __init__(self, lack: _Lack) -> None:
        self.lack = lack
        self.sources: OrderedDict[Source, None] = OrderedDict()
        self.pace = MAX_COUNT
        """Sends to try next."""
        self.tried = self.refused = 0
        """Of the exchange under way."""
        self.accepted = 0
        """Sends that found room in this round, before that."""

    def take(
        self, operations: list[Send | Leave], sources: list[Source | None], limit: int
    ) -> Sequence[Source]:
        """Move sends into an exchange, up to `limit`; returns whose they are."""
        limit = min(limit, self.pace)
        turns = list(islice(self.sources, limit))
        for source in turns:
            # To the end of the line, so that each has its turn.
            self.sources.move_to_end(source)
            waiting = source.waiting or deque()
            for _ in range(min(limit // len(turns), len(waiting))):
                operations.append(waiting.popleft())
                sources.append(source)
                self.tried += 1
        return turns

    def note(self, count: int, lack: _Lack) -> None:
        """Note that some of what was tried was refused."""
        if lack == self.lack:
            self.refused += count
        else:
            self.tried -= count  # it says nothing about the others

    def settle(self) -> bool:
        """Choose how many to try next; returns whether the round goes on."""
        tried, refused = self.tried, self.refused
        self.tried = self.refused = 0
        self.accepted += tried - refused
        if not refused:
            self.pace = max(self.pace, tried * 2)
            return True
        # One more than found room: who is refused is woken when there is some. No less than half,
        # since others may just have been quicker.
        self.pace = max(self.accepted + 1, tried // 2)
        self.accepted = 0
        return False


class Stalled:
    """Sources whose sends wait for room, in a line for each thing that there is too little of."""

    def __init__(self) -> None:
        """Start without any."""
        self.lines: dict[_Lack, _Line] = {}
        """By what is lacking. No line is empty."""
        self._line_of: dict[Source, _Line] = {}
        self.open: dict[_Line, None] = {}
        """Lines of which some have their turn in this round yet."""
        self._tried: dict[Source, _Line] = {}
        """Whose sends are in the exchange under way, and out of which line."""

    def __bool__(self) -> bool:
        return bool(self._line_of)

    def count(self) -> int:
        """Return how many sends wait."""
        return sum(len(source.waiting or ()) for source in self._line_of)

    def begin_round(self) -> None:
        """Let everybody try again."""
        self.open = dict.fromkeys(self.lines.values())

    def holds_up(self, send: Send) -> bool:
        """Say whether others wait for room in the channel that `send` is for."""
        return names.address(send.channel) in self.lines

    def add(self, source: Source, sends: Sequence[Send], error: BusError) -> None:
        """Let `sends` wait, before all others of their source."""
        if source.waiting is None:
            source.waiting = deque(sends)
        else:
            source.waiting.extendleft(reversed(sends))
        lack = _lack(source, error)
        if tried := self._tried.get(source):
            tried.note(len(sends), lack)
        line = self._line_of.get(source)
        if line is not None and line.lack != lack:
            self._remove(source, line)
            line = None
        if line is None:
            self._stand(source, lack)

    def stand_behind(self, source: Source, send: Send) -> None:
        """Let `send` wait behind those that `holds_up` found."""
        source.waiting = deque((send,))
        self._stand(source, names.address(send.channel))

    def _stand(self, source: Source, lack: _Lack) -> None:
        line = self.lines.get(lack)
        if line is None:
            line = self.lines[lack] = _Line(lack)
        line.sources[source] = None
        self._line_of[source] = line

    def _remove(self, source: Source, line: _Line) -> None:
        del self._line_of[source], line.sources[source]
        if not line.sources:
            del self.lines[line.lack]
            self.open.pop(line, None)

    def take(
        self, operations: list[Send | Leave], sources: list[Source | None], limit: int
    ) -> None:
        """Move waiting sends into an exchange, up to `limit`: of each line in turn a few."""
        for line in list(self.open):
            left = limit - len(operations)
            if left <= 0:
                break
            del self.open[line]
            self.open[line] = None
            self._tried.update(dict.fromkeys(line.take(operations, sources, left), line))

    def settle(self) -> None:
        """Let go on whoever has sent everything; end the round of lines that found no room."""
        tried, self._tried = self._tried, {}
        for line in set(tried.values()):
            if not line.settle():
                self.open.pop(line, None)
        for source in tried:
            if not source.waiting and source in self._line_of:
                self.abandon(source)
                source.drained()

    def abandon(self, source: Source) -> None:
        """Give up what `source` is waiting to send."""
        source.waiting = None
        self._tried.pop(source, None)
        if line := self._line_of.get(source):
            self._remove(source, line)


def _lack(source: Source, error: BusError) -> _Lack:
    """Say what there was too little of: see `_Lack`."""
    if not isinstance(error, ChannelFull):
        return None
    return source if error.reason == "lane" else error.channel
