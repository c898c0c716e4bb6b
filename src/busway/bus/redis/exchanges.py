"""An exchange as steps: which requests go to which shards, one after another or at once.

No I/O here: whoever drives the steps makes the calls they yield, and sends the replies in.
"""

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from busway.bus import names
from busway.bus.errors import LayerUnavailable
from busway.bus.operations import Delivery, Operation, Outcome, Refusal, Return
from busway.bus.redis import packing
from busway.bus.redis.books import GROWING, Books
from busway.bus.redis.complaints import ServerError, explain
from busway.bus.redis.orders import Letter
from busway.bus.redis.seats import NOTHING, Asked, Call, Seat

if TYPE_CHECKING:
    from busway.bus.redis.layer import RedisChannelLayer

Steps = Generator[Sequence[Call], Sequence[Any], Outcome]
"""Yields calls to make at the same time, gets their replies; returns the outcome."""


class Exchanges:
    """Plans the exchanges of one receiver."""

    def __init__(self, layer: "RedisChannelLayer", books: Books, ring: Callable[[], None]) -> None:
        """Plan by `books`; `ring` has the receiver look again."""
        self._layer = layer
        self._ring = ring
        self._books = books
        self.doubt: Sequence[Call] = ()
        """Calls whose replies were lost, with the connections and all attempts to ask again."""
        self._applied: list[Operation] = []
        """What the exchange under way, or the last one if it failed, has applied so far."""
        self._settled: dict[int, Operation] = {}
        """What exchanges that failed have applied and nobody has given again, by identity."""
        self._taken: list[Delivery] = []
        """What it has taken so far."""
        self._spare: list[Delivery] = []
        """What exchanges have taken that failed afterwards, or were cut off."""
        self._handed: list[Delivery] = []
        """What was handed over with rings."""

    def steps(
        self,
        operations: Sequence[Operation],
        done: Sequence[Delivery],
        channels: Sequence[str],
        limit: int,
        wake_below: int,
        *,
        hold: bool,
    ) -> Steps:
        """Return the steps of an exchange: see `Receiver.exchange`."""
        kept: Sequence[int] | None = None
        given = operations
        if self._is_behind():
            kept = yield from self._resume(operations)
            operations = [operations[index] for index in kept]
        steps = self._all(operations, done, channels, limit, wake_below, hold=hold)
        outcome = yield from self._end(steps, operations, done)
        if self._settled:
            for each in given:
                self._settled.pop(_identity(each), None)
        if kept is not None:
            refused = [replace(each, index=kept[each.index]) for each in outcome.refused]
            outcome = replace(outcome, refused=refused)
        return outcome

    def begin(
        self,
        operations: Sequence[Operation],
        done: Sequence[Delivery],
        channels: Sequence[str],
        limit: int,
        wake_below: int,
        *,
        hold: bool,
    ) -> Call | None:
        """Return the call that is all of nearly every exchange; None: it takes `steps`."""
        seats = self._books.seats
        if len(seats) > 1 or self._is_behind() or self._spare or self._handed:
            return None
        asked, batches = self._prepare(operations, done, channels, limit, wake_below, hold=hold)
        return self._books.call(seats[0], asked, batches[0] if batches else None)

    def end(self, call: Call, reply: Any) -> Outcome | Steps:
        """Return the outcome of what `begin` began, or the steps that are left of it."""
        books, asked = self._books, call.asked
        if isinstance(reply, ServerError) or reply[1]:
            return self._end(self._answered(call, reply), asked.operations, asked.done)
        deliveries = books.settle(call, asked, reply, was_refused=False)
        if books.void or books.unfit or books.held.lost or books.held.gone:
            steps = self._filled(call, reply, Outcome(deliveries, []))
            return self._end(steps, asked.operations, asked.done)
        return Outcome(deliveries, [], books.take_joined())

    @property
    def is_unsettled(self) -> bool:
        """Whether an exchange that may bring messages, or has brought some, is not at its end."""
        return bool(self._taken or self._applied) or any(
            call.asked.listening for call in self.doubt
        )

    def accept(self, letters: list[Letter]) -> None:
        """Take what was handed over with rings.

        Not while it may come with a reply as well, which is known when that is there.
        """
        if not self.is_unsettled:
            self._handed += self._books.accept(letters)
            letters.clear()

    def keep(self, deliveries: Sequence[Delivery]) -> None:
        """Keep what was taken for the next exchange that wants something."""
        self._spare += deliveries

    def at_hand(self, limit: int) -> list[Delivery]:
        """Return what was handed over; nothing if something else is to be done first."""
        if self._books.unfit or self._spare:
            return []
        found, self._handed = self._handed[:limit], self._handed[limit:]
        return found

    def _is_behind(self) -> bool:
        """Say whether it is to be found out first what became of an exchange that failed."""
        return bool(self.doubt or self._applied or self._taken or self._settled)

    def _end(
        self, steps: Steps, operations: Sequence[Operation], done: Sequence[Delivery]
    ) -> Steps:
        """Do what is left of an exchange, and what is to be done after each."""
        outcome = yield from steps
        if self._books.held.lost or self._books.held.gone:
            self._books.write_off(each.delivery for each in _returns(operations))
            self._books.held.lost.difference_update(each.place for each in done)
        if self._books.unfit:
            self._applied, self._taken = [], []  # all of it is in the outcome
            self._remember(operations, outcome.refused, outcome.deliveries)
            yield from self._discard()
        if self._applied or self._taken:
            self._applied, self._taken = [], []
        return replace(outcome, joined=self._books.take_joined())

    def _remember(
        self,
        operations: Sequence[Operation],
        refused: Sequence[Refusal],
        taken: Sequence[Delivery] = (),
    ) -> None:
        """Take note of what is done, before a further step that may fail."""
        left_out = {id(each.operation) for each in refused}
        self._applied += [each for each in operations if id(each) not in left_out]
        self._taken += taken

    def _all(
        self,
        operations: Sequence[Operation],
        done: Sequence[Delivery],
        channels: Sequence[str],
        limit: int,
        wake_below: int,
        *,
        hold: bool,
    ) -> Steps:
        asked, batches = self._prepare(operations, done, channels, limit, wake_below, hold=hold)
        self._spare, self._handed = self._spare + self._handed, []
        if asked.limit and self._spare and (spare := self._take_spare(channels, limit)):
            self._taken += spare  # to be kept for the next if this one fails
            asked = replace(asked, limit=0, wake_below=0)
            outcome = yield from self._ask(asked, batches)
            self._ring()  # nobody else wakes it: it is not registered
            return Outcome(spare, outcome.refused)
        return (yield from self._ask(asked, batches))

    def _prepare(
        self,
        operations: Sequence[Operation],
        done: Sequence[Delivery],
        channels: Sequence[str],
        limit: int,
        wake_below: int,
        *,
        hold: bool,
    ) -> tuple[Asked, Sequence[packing.Batch | None]]:
        """Make an exchange ready to be asked for. Raises `UsageError`."""
        layer, books = self._layer, self._books
        returned: Sequence[Delivery] = ()
        batches: Sequence[packing.Batch | None] = ()
        if operations:
            batches = layer.pack(operations)
        if operations or books.given_up:
            returned = books.returned(operations)
        if not channels:
            limit = 0
        else:
            books.listen_to(channels)
        if limit:
            layer.live()
            if hold:
                books.pace.measure(len(done))
        asked = Asked(operations, returned, done, limit, wake_below, hold, bool(channels))
        return asked, batches

    def _ask(self, asked: Asked, batches: Sequence[packing.Batch | None]) -> Steps:
        seats = self._books.seats
        if len(seats) > 1:
            seats = self._concerned(asked, batches)
            if len(seats) > 1:
                return (yield from self._several(asked, batches))
        batch = batches[seats[0].shard.number] if batches else None
        call = self._books.call(seats[0], asked, batch)
        (reply,) = yield (call,)
        return (yield from self._answered(call, reply))

    def _resume(
        self, operations: Sequence[Operation]
    ) -> Generator[Sequence[Call], Sequence[Any], list[int]]:
        """Find out what became of an exchange that failed; returns the places of what is left.

        An operation that is given again, the same object, was not lost and is not done twice, even
        if others are given before it. What was taken is handed over by the next exchange that wants
        something.
        """
        if self.doubt:
            calls = self.doubt
            for call in calls:
                call.request.again = True
            replies = yield calls
            error = None
            for call, reply in zip(calls, replies, strict=True):
                try:
                    refused = self._books.refusals(call.asked, call.batch, reply)
                except LayerUnavailable as failure:
                    error = failure
                    continue
                if not isinstance(reply, ServerError):
                    sent = _in_batch(call.batch, call.asked.operations)
                    taken = self._books.settle(call, call.asked, reply, was_refused=bool(refused))
                    self._remember(sent, refused, taken)
            if error is not None:
                raise error
        self._spare += self._taken
        self._taken = []
        self._settled |= {_identity(each): each for each in self._applied}
        self._applied = []
        return [
            index
            for index, each in enumerate(operations)
            if not (
                self._has_gone_back(each.delivery)
                if isinstance(each, Return)
                else id(each) in self._settled
            )
        ]

    def _has_gone_back(self, delivery: Delivery) -> bool:
        held = self._books.held
        return held.find(delivery) is None and not held.misses(delivery)

    def _take_spare(self, channels: Sequence[str], limit: int) -> list[Delivery]:
        """Return what failed exchanges have taken off `channels`."""
        found: list[Delivery] = []
        left: list[Delivery] = []
        for each in self._spare:
            is_wanted = len(found) < limit and names.address(each.channel) in channels
            (found if is_wanted else left).append(each)
        self._spare = left
        return found

    def leftover(self) -> Generator[Sequence[Call], Sequence[Any], list[Delivery]]:
        """Find out what failed exchanges have taken and nobody was given; returns it."""
        if any(call.asked.limit for call in self.doubt):
            with suppress(LayerUnavailable):  # others may have said
                yield from self._resume(())
        found = self._spare + self._taken + self._handed
        self._spare, self._taken, self._handed = [], [], []
        return found

    def _discard(self) -> Generator[Sequence[Call], Sequence[Any], None]:
        """Drop what nobody can be given, and count it."""
        unfit, self._books.unfit = self._books.unfit, []
        calls = []
        for seat in self._books.seats:
            mine = [each for each in unfit if self._books.home(each[1]) == seat.shard.number]
            if mine:
                asked = replace(NOTHING, done=[each for _, each in mine])
                counts = Counter((names.address(each.channel), why) for why, each in mine)
                batch = packing.dropped(counts)
                calls.append(self._books.call(seat, asked, batch))
                calls[-1].request.full = True  # it takes away, and adds a count
        replies = yield calls
        for call, reply in zip(calls, replies, strict=True):
            if not isinstance(reply, ServerError):
                self._books.settle(call, call.asked, reply, was_refused=False)
        # There is less than was found, and nobody may wake the receiver for the rest.
        self._ring()

    def _concerned(self, asked: Asked, batches: Sequence[packing.Batch | None]) -> Sequence[Seat]:
        """Return the seats that an exchange has something to do at; at least one."""
        numbers = {number for number, batch in enumerate(batches) if batch is not None}
        numbers.update(map(self._books.home, chain(asked.done, asked.returned)))
        if asked.listening:
            numbers.update(self._books.sources)
            numbers.update(seat.shard.number for seat in self._books.seats if seat.subscription)
        return [self._books.seats[number] for number in sorted(numbers)] or self._books.seats[:1]

    def _several(self, asked: Asked, batches: Sequence[packing.Batch | None]) -> Steps:
        """Do an exchange with several shards: first the operations, then, all at once, the rest."""
        refused: list[Refusal] = []
        calls = []
        nothing = replace(asked, returned=(), done=(), limit=0, listening=False)
        for seat in self._books.seats:
            number = seat.shard.number
            returned = [each for each in asked.returned if self._books.home(each) == number]
            batch = batches[number] if batches else None
            if batch is not None or returned:
                part = replace(nothing, returned=returned)
                calls.append((part, batch, self._books.call(seat, part, batch)))
        if calls:
            replies = yield [call for *_, call in calls]
            full = []
            error = None
            for (part, batch, call), reply in zip(calls, replies, strict=True):
                try:
                    found = self._books.refusals(part, batch, reply)
                except LayerUnavailable as failure:
                    error = failure
                    continue
                refused += found
                sent = _in_batch(batch, part.operations)
                if isinstance(reply, ServerError):
                    full.append((call.seat, part, sent, found))
                else:
                    self._remember(sent, found)
                    self._books.settle(call, part, reply, was_refused=False)
            self._applied += _returns(asked.operations)
            if error is not None:
                raise error
            refused.sort(key=lambda refusal: refusal.index)
            for seat, part, sent, found in full:
                yield from self._do_on_full(seat, part)
                self._remember(sent, found)
        if refused:
            asked = replace(asked, done=())
        deliveries = yield from self._take_all(replace(asked, operations=(), returned=()))
        return Outcome(deliveries, refused)

    def _do_on_full(
        self, seat: Seat, asked: Asked
    ) -> Generator[Sequence[Call], Sequence[Any], list[Delivery]]:
        """Do on a server without memory what adds nothing to it; returns what was taken.

        Messages to groups are counted as dropped there.
        """
        left = [each for each in asked.operations if not isinstance(each, GROWING)]
        batch = self._layer.pack(left)[seat.shard.number] if left else None
        asked = replace(asked, operations=left)
        call = self._books.call(seat, asked, batch)
        call.request.full = True
        (reply,) = yield (call,)
        if isinstance(reply, ServerError):
            raise LayerUnavailable(explain(reply))
        return self._books.settle(call, asked, reply, was_refused=False)

    def _take_all(self, asked: Asked) -> Generator[Sequence[Call], Sequence[Any], list[Delivery]]:
        """Finish what is done, and take from all shards; register with them to sleep.

        Shards are asked for equal shares, then those that gave all of it for what is missing. Only
        when there is too little the receiver is registered: else it could be woken for a message
        while it is at work, and another sleeps.
        """
        done: dict[int, list[Delivery]] = {}
        for delivery in asked.done:
            done.setdefault(self._books.home(delivery), []).append(delivery)
        sources = set(self._books.sources) if asked.listening else set()
        elsewhere = [
            s for s in self._books.seats if s.subscription and s.shard.number not in sources
        ]
        deliveries: list[Delivery] = []
        left, first = asked.limit, True
        open_ = [self._books.seats[number] for number in sorted(sources)]
        while first or (left and open_):
            shares = _shares(left, open_, self._books.turn)
            parts: list[tuple[Seat, Asked]] = []
            for seat in self._books.seats if first else open_:
                mine = done.pop(seat.shard.number, []) if first else []
                share = shares.get(seat.shard.number, 0)
                turns_away = first and asked.listening and (seat in elsewhere or not asked.limit)
                if mine or share or turns_away:
                    listens = bool(share) or turns_away
                    parts.append(
                        (
                            seat,
                            replace(asked, done=mine, limit=share, listening=listens, wake_below=0),
                        )
                    )
            taken = yield from self._take_round(parts)
            deliveries += chain.from_iterable(found for found, _ in taken.values())
            left = asked.limit - len(deliveries)
            open_ = [
                seat
                for seat in open_
                if taken.get(seat.shard.number, ((), 0))[1] == shares.get(seat.shard.number, 0)
            ]
            first = False
        if asked.limit and len(deliveries) < asked.wake_below:
            # What came meanwhile rings at once.
            part = replace(asked, done=(), limit=0)
            seats = [self._books.seats[number] for number in sorted(sources)]
            yield from self._take_round([(seat, part) for seat in seats], sleeps=True)
        return deliveries

    def _take_round(
        self, parts: Sequence[tuple[Seat, Asked]], *, sleeps: bool = False
    ) -> Generator[Sequence[Call], Sequence[Any], dict[int, tuple[list[Delivery], int]]]:
        """Do exchanges at the same time; returns what each gave, and how many it counts as."""
        calls = []
        place = self._books.held.next
        for seat, part in parts:
            call = self._books.call(seat, part, None)
            call.request.place = place
            call.request.sleeps = sleeps
            place += part.limit
            calls.append(call)
        if not calls:
            return {}
        replies = yield calls
        found = {}
        error: ServerError | None = None
        for (seat, part), call, reply in zip(parts, calls, replies, strict=True):
            if isinstance(reply, ServerError):
                error = reply
                continue
            deliveries = self._books.settle(call, part, reply, was_refused=False)
            self._taken += deliveries
            found[seat.shard.number] = (deliveries, len(deliveries) + self._books.void)
        if error is not None:
            raise LayerUnavailable(explain(error))
        return found

    def _answered(self, call: Call, reply: Any) -> Steps:
        """Go on with what the only shard has said."""
        asked = call.asked
        refused = list(self._books.refusals(asked, call.batch, reply))
        if isinstance(reply, ServerError):
            if refused:
                asked = replace(asked, done=())
            return Outcome((yield from self._do_on_full(call.seat, asked)), refused)
        deliveries = self._books.settle(call, asked, reply, was_refused=bool(refused))
        return (yield from self._filled(call, reply, Outcome(deliveries, refused)))

    def _filled(self, call: Call, reply: Any, outcome: Outcome) -> Steps:
        """Take on if group messages to nobody took the place of others."""
        asked, deliveries = call.asked, outcome.deliveries
        if reply[0] and self._books.void and len(deliveries) < asked.limit:
            self._remember(asked.operations, outcome.refused, deliveries)
            yield from self._take_on(call.seat, asked, deliveries)
        return outcome

    def _take_on(
        self, seat: Seat, asked: Asked, deliveries: list[Delivery]
    ) -> Generator[Sequence[Call], Sequence[Any], None]:
        """Add what else there is."""
        asked = replace(asked, operations=(), returned=(), done=())
        limit = asked.limit
        while self._books.void and len(deliveries) < limit:
            asked = replace(asked, limit=limit - len(deliveries))
            call = self._books.call(seat, asked, None)
            (reply,) = yield (call,)
            if isinstance(reply, ServerError):
                raise LayerUnavailable(explain(reply))
            found = self._books.settle(call, asked, reply, was_refused=False)
            self._taken += found
            deliveries += found


def _returns(operations: Sequence[Operation]) -> list[Return]:
    return [each for each in operations if isinstance(each, Return)]


def _identity(operation: Operation) -> int:
    """Return what an operation that is given again is known by."""
    return id(operation.delivery if isinstance(operation, Return) else operation)


def _in_batch(batch: packing.Batch | None, operations: Sequence[Operation]) -> list[Operation]:
    """Return the operations that are in a batch, and so go to its shard.

    There are none in what puts messages back, or counts them.
    """
    if batch is None or not operations:
        return []
    return [operations[index] for places in batch.places for index in places]


def _shares(limit: int, seats: Sequence[Seat], turn: int) -> dict[int, int]:
    """Return how many messages to take from each seat, by the numbers of their shards."""
    if not seats:
        return {}
    each, rest = divmod(limit, len(seats))
    return {
        seat.shard.number: each + ((place + turn) % len(seats) < rest)
        for place, seat in enumerate(seats)
    }
