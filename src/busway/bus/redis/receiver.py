"""The reader of a Redis layer: an exchange as one script a shard, and waiting."""

import asyncio
import random
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from busway.bus import names, records
from busway.bus.codec import Envelope, Kind, decode_message
from busway.bus.errors import BusError, ChannelFull, InvalidArgument, LayerClosed, LayerUnavailable
from busway.bus.layer import Delivery, Operation, Outcome, Receiver, Refusal, Return, Send
from busway.bus.redis import wire
from busway.bus.redis.bell import Bell
from busway.bus.redis.connections import Link, LinkBroken, ServerError
from busway.bus.redis.held import Held
from busway.bus.redis.links import PERSISTENCE, Links, explain, is_passing, persist
from busway.bus.redis.scripts import script
from busway.bus.redis.shards import Shard

if TYPE_CHECKING:
    from busway.bus.redis.layer import RedisChannelLayer

T = TypeVar("T")

LOOK_INTERVAL = 5.0
"""Seconds after which a receiver looks without having been woken: a connection may have died and
not said so."""

QUICK = 0.0003
"""Seconds for a message in which a consumer counts as quick: telling the server of each that is
begun would cost it a tenth."""

STEADY = 4
"""Batches that a consumer has to be quick for, before marks reach ahead."""

MAX_REACH = 128
"""Messages that may be marked as begun before they are."""

_EXCHANGE = script("exchange")


class _Request(NamedTuple):
    """What `exchange` was asked, made ready."""

    operations: Sequence[Operation]
    returned: Sequence[Delivery]
    done: Sequence[Delivery]
    limit: int
    wake_below: int
    hold: bool
    listening: bool


_NOTHING = _Request((), (), (), 0, 0, False, False)


class _Call(msgspec.Struct, gc=False):
    """An exchange with one shard."""

    seat: "_Seat"
    asked: _Request
    batch: wire.Batch | None
    request: wire.Request
    arguments: Sequence[bytes]


class _Seat:
    """A receiver's place at one shard."""

    def __init__(self, shard: Shard, layer: "RedisChannelLayer", links: Links) -> None:
        self.shard = shard
        self._links = links
        self.number = 0
        """Requests made."""
        self.epoch = layer.epoch(shard)
        self.life = 0
        """In which life of the layer's process the shard got to know the receiver; 0: in none."""
        self.subscription = ""
        """The subscription that the receiver is registered with, or empty."""
        self.channels: Sequence[str] = ()
        self.marked = 0
        """Up to which place the shard counts messages as begun."""
        self.due = 0.0
        """When the shard's next delayed message is due: seconds since the epoch, or 0."""

    @property
    def link(self) -> Link:
        """The connection to the shard's server."""
        return self._links.to(self.shard)

    def send(self, call: _Call) -> None:
        """Send a request."""
        arguments = (call.request.encode(), *call.arguments)
        self.link.send(_EXCHANGE, self.shard.key, *arguments)

    def run(self, call: _Call) -> Any:
        """Send a request and return the reply; the script may have been forgotten."""
        return self.link.run(_EXCHANGE, self.shard.key, call.request.encode(), *call.arguments)


_Steps = Generator[Sequence[_Call], Sequence[Any], Outcome]


class RedisReceiver(Receiver):
    """A reader of a Redis layer."""

    blocks = True

    def __init__(self, layer: "RedisChannelLayer", name: str) -> None:
        """Make the reader `name` of `layer`."""
        self.name = name
        self._layer = layer
        self._bell = Bell()
        self._held = Held()
        self._links = Links(layer.link)
        self._seats = [_Seat(shard, layer, self._links) for shard in layer.shards]
        self._channels: tuple[str, ...] = ()
        self._given: Sequence[str] = ()
        self._subscription = ""
        self._sources: dict[int, list[str]] = {}
        """Which of the channels may be on a shard, by its number."""
        self._doubt: Sequence[_Call] = ()
        """Calls whose replies were lost, with the connections and all attempts to ask again."""
        self._spare: list[Delivery] = []
        """What calls in doubt turned out to have taken."""
        self._loose: dict[int, Sequence[bytes]] = {}
        """What the last exchange took off each shard, and is not held."""
        self._void = 0
        """Group messages to nobody among what came last."""
        self._passing = self._laned = False
        """Whether none of the channels is normal, whether any has lanes."""
        self._reach = 1
        """Messages that a mark takes along."""
        self._quick = 0
        """Batches in a row that were quick."""
        self._taken_at = 0.0
        self._turn = 0
        self._closed = False

    # -- exchange -----------------------------------------------------------------------

    def exchange(
        self,
        operations: Sequence[Operation] = (),
        done: Sequence[Delivery] = (),
        channels: Sequence[str] = (),
        limit: int = 0,
        *,
        wake_below: int = 0,
        hold: bool = True,
    ) -> Outcome:
        """See `Receiver.exchange`. It blocks for a round trip."""
        steps = self._steps(operations, done, channels, limit, wake_below, hold=hold)
        try:
            calls = next(steps)
            while True:
                self._ready(calls)
                calls = steps.send(self._run(calls))
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome

    async def aexchange(
        self,
        operations: Sequence[Operation] = (),
        done: Sequence[Delivery] = (),
        channels: Sequence[str] = (),
        limit: int = 0,
        *,
        wake_below: int = 0,
        hold: bool = True,
    ) -> Outcome:
        """See `Receiver.aexchange`.

        When it is cancelled, what was taken goes back in front of the others.
        """
        steps = self._steps(operations, done, channels, limit, wake_below, hold=hold)
        try:
            calls = next(steps)
            while True:
                if not self._is_ready(calls):
                    await _in_thread(self._ready, calls)
                replies: list[Any] = []
                try:
                    await self._arun(calls, replies)
                except asyncio.CancelledError:
                    self._give_back(self._end(steps, calls, replies))
                    raise
                calls = steps.send(replies)
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome

    def _end(self, steps: _Steps, calls: Sequence[_Call], replies: list[Any]) -> list[Delivery]:
        """Finish an exchange that nobody waits for any more; returns what it took."""
        try:
            replies += [self._receive(call) for call in calls[len(replies) :]]
            self._doubt = ()
            while True:
                replies = self._run(steps.send(replies))
        except StopIteration as end:
            deliveries: list[Delivery] = end.value.deliveries
            return deliveries
        except BusError:
            return []

    def _give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Put back what was taken for somebody who is gone."""
        operations: list[Operation] = [Return(each) for each in deliveries if each.place]
        loose, self._loose = self._loose, {}
        with suppress(BusError):
            if operations:
                self.exchange(operations)
            for number, raw in loose.items():
                seat = self._seats[number]
                seat.number += 1
                request = wire.Request(self.name, seat.number)
                data, turns = wire.loose(raw)
                if data:
                    request.segments = [[6, *turns]]
                    self._run([_Call(seat, _NOTHING, None, request, data)])

    def _steps(
        self,
        operations: Sequence[Operation],
        done: Sequence[Delivery],
        channels: Sequence[str],
        limit: int,
        wake_below: int,
        *,
        hold: bool,
    ) -> _Steps:
        """Yield calls to make at the same time, get their replies; returns the outcome."""
        layer = self._layer
        self._check_open()
        if self._doubt:
            return (
                yield from self._resume(operations, done, channels, limit, wake_below, hold=hold)
            )
        if self._loose:
            self._loose = {}
        returned: list[Delivery] = []
        batches: Sequence[wire.Batch | None] = ()
        if operations:
            batches = layer.pack(operations)
            returned = [o.delivery for o in operations if isinstance(o, Return)]
            self._check_returned(returned)
        if not channels:
            limit = 0
        elif channels is not self._given:
            if tuple(channels) != self._channels:
                self._listen_to(tuple(channels))
            self._given = channels if isinstance(channels, tuple) else ()
        if limit:
            layer.live()
            if hold:
                self._measure(len(done))
            if self._spare:
                return (yield from self._with_spare(operations, done, channels, limit))
        asked = _Request(operations, returned, done, limit, wake_below, hold, bool(channels))
        seats = self._seats
        if len(seats) > 1:
            seats = self._concerned(asked, batches)
            if len(seats) > 1:
                return (yield from self._several(asked, batches))
        batch = batches[seats[0].shard.number] if batches else None
        return (yield from self._single(seats[0], asked, batch))

    def _resume(
        self,
        operations: Sequence[Operation],
        done: Sequence[Delivery],
        channels: Sequence[str],
        limit: int,
        wake_below: int,
        *,
        hold: bool,
    ) -> _Steps:
        """Find out what became of the last exchange, then do this one.

        What was not done is done by that. An operation that is given again, the same object, was
        not lost and is not done twice.
        """
        calls, self._doubt = self._doubt, ()
        for call in calls:
            call.request.again = True
        replies = yield calls
        applied = {id(each) for call in calls for each in call.asked.operations}
        for call, reply in zip(calls, replies, strict=True):
            refused = self._refusals(call.asked, call.batch, reply)
            applied -= {id(each.operation) for each in refused}
            if not isinstance(reply, ServerError):
                self._spare += self._settle(call, call.asked, reply, was_refused=bool(refused))
        kept = [
            (index, operation)
            for index, operation in enumerate(operations)
            if id(operation) not in applied
            and not (isinstance(operation, Return) and not self._held.find(operation.delivery))
        ]
        left = [operation for _, operation in kept]
        outcome = yield from self._steps(left, done, channels, limit, wake_below, hold=hold)
        again = [
            Refusal(kept[each.index][0], each.operation, each.error) for each in outcome.refused
        ]
        return Outcome(outcome.deliveries, again)

    def _with_spare(
        self,
        operations: Sequence[Operation],
        done: Sequence[Delivery],
        channels: Sequence[str],
        limit: int,
    ) -> _Steps:
        """Do an exchange that takes what a call in doubt had taken."""
        spare, self._spare = self._spare[:limit], self._spare[limit:]
        outcome = yield from self._steps(operations, done, channels, 0, 0, hold=True)
        return Outcome(spare, outcome.refused)

    def _concerned(self, asked: _Request, batches: Sequence[wire.Batch | None]) -> list["_Seat"]:
        """Return the seats that an exchange has something to do at; at least one."""
        numbers = {number for number, batch in enumerate(batches) if batch is not None}
        numbers.update(map(self._home, chain(asked.done, asked.returned)))
        if asked.listening:
            numbers.update(self._sources)
            numbers.update(seat.shard.number for seat in self._seats if seat.subscription)
        return [self._seats[number] for number in sorted(numbers)] or self._seats[:1]

    def _home(self, delivery: Delivery) -> int:
        """Return the number of the shard that a delivery came from."""
        bundle = self._held.find(delivery)
        if bundle is not None:
            return bundle.shard
        return self._layer.shard_of(names.address(delivery.channel), delivery.lane)

    def _several(self, asked: _Request, batches: Sequence[wire.Batch | None]) -> _Steps:
        """Do an exchange with several shards: first the operations, then, all at once, the rest."""
        refused: list[Refusal] = []
        calls = []
        nothing = asked._replace(returned=(), done=(), limit=0, listening=False)
        for seat in self._seats:
            number = seat.shard.number
            returned = [each for each in asked.returned if self._home(each) == number]
            batch = batches[number] if batches else None
            if batch is not None or returned:
                part = nothing._replace(returned=returned)
                calls.append((part, batch, self._call(seat, part, batch)))
        if calls:
            replies = yield [call for *_, call in calls]
            for (part, batch, call), reply in zip(calls, replies, strict=True):
                refused += self._refusals(part, batch, reply)
                if not isinstance(reply, ServerError):
                    self._settle(call, part, reply, was_refused=False)
            refused.sort(key=lambda refusal: refusal.index)
        if refused:
            asked = asked._replace(done=())
        deliveries = yield from self._take_all(asked._replace(operations=(), returned=()))
        return Outcome(deliveries, refused)

    def _take_all(
        self, asked: _Request
    ) -> Generator[Sequence[_Call], Sequence[Any], list[Delivery]]:
        """Finish what is done, and take from all shards; register with them to sleep.

        Shards are asked for equal shares, then those that gave all of it for what is missing. Only
        when there is too little the receiver is registered: else it could be woken for a message
        while it is at work, and another sleeps.
        """
        done: dict[int, list[Delivery]] = {}
        for delivery in asked.done:
            done.setdefault(self._home(delivery), []).append(delivery)
        sources = set(self._sources) if asked.listening else set()
        elsewhere = [s for s in self._seats if s.subscription and s.shard.number not in sources]
        deliveries: list[Delivery] = []
        left, first = asked.limit, True
        open_ = [self._seats[number] for number in sorted(sources)]
        while first or (left and open_):
            shares = _shares(left, open_, self._turn)
            parts: list[tuple[_Seat, _Request]] = []
            for seat in self._seats if first else open_:
                mine = done.pop(seat.shard.number, []) if first else []
                share = shares.get(seat.shard.number, 0)
                turns_away = first and asked.listening and (seat in elsewhere or not asked.limit)
                if mine or share or turns_away:
                    listens = bool(share) or turns_away
                    parts.append(
                        (
                            seat,
                            asked._replace(done=mine, limit=share, listening=listens, wake_below=0),
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
            part = asked._replace(done=(), limit=0)
            seats = [self._seats[number] for number in sorted(sources)]
            yield from self._take_round([(seat, part) for seat in seats], sleeps=True)
        return deliveries

    def _take_round(
        self, parts: Sequence[tuple["_Seat", _Request]], *, sleeps: bool = False
    ) -> Generator[Sequence[_Call], Sequence[Any], dict[int, tuple[list[Delivery], int]]]:
        """Do exchanges at the same time; returns what each gave, and how many it counts as."""
        calls = []
        place = self._held.next
        for seat, part in parts:
            call = self._call(seat, part, None)
            call.request.place = place
            call.request.sleeps = sleeps
            place += part.limit
            calls.append(call)
        if not calls:
            return {}
        replies = yield calls
        found = {}
        for (seat, part), call, reply in zip(parts, calls, replies, strict=True):
            if isinstance(reply, ServerError):
                raise LayerUnavailable(explain(reply))
            deliveries = self._settle(call, part, reply, was_refused=False)
            found[seat.shard.number] = (deliveries, len(deliveries) + self._void)
        return found

    def _refusals(self, asked: _Request, batch: wire.Batch | None, reply: Any) -> Sequence[Refusal]:
        """Return what a shard refused."""
        if isinstance(reply, ServerError):
            if not str(reply).startswith("OOM") or batch is None:
                raise LayerUnavailable(explain(reply))
            indexes = {index for places in batch.places for index in places}
            return [each for each in _out_of_memory(asked.operations) if each.index in indexes]
        if reply[1] and batch is not None:
            return wire.refusals(reply[1], batch, asked.operations, self._layer.plans)
        return ()

    def _single(self, seat: "_Seat", asked: _Request, batch: wire.Batch | None) -> _Steps:
        """Do an exchange with one shard."""
        call = self._call(seat, asked, batch)
        refused: list[Refusal] = []
        (reply,) = yield (call,)
        refused += self._refusals(asked, batch, reply)
        if isinstance(reply, ServerError):
            # What would add to a full server is refused, the rest is done.
            asked = asked._replace(operations=(), done=())
            call = self._call(seat, asked, None)
            (reply,) = yield (call,)
            if isinstance(reply, ServerError):
                raise LayerUnavailable(explain(reply))
        deliveries = self._settle(call, asked, reply, was_refused=bool(refused))
        left = asked.limit - len(deliveries)
        if reply[0] and left and self._void:
            # Group messages to nobody took the place of messages that may still wait.
            more = yield from self._single(
                seat, asked._replace(operations=(), returned=(), done=(), limit=left), None
            )
            deliveries += more.deliveries
        return Outcome(deliveries, refused)

    def _call(self, seat: _Seat, asked: _Request, batch: wire.Batch | None) -> _Call:
        held = self._held
        epoch = self._layer.epoch(seat.shard)
        if seat.epoch != epoch:
            if seat.epoch:
                self._start_again(seat)
            seat.epoch = epoch
        seat.number += 1
        request = wire.Request(self.name, seat.number)
        if seat.life != self._layer.life and asked.limit:
            request.process = self._layer.process
        if batch is not None:
            request.rules, request.segments = batch.rules, batch.segments
        if asked.done:
            request.done = wire.turns_done(asked.done)
        if asked.done or asked.returned:
            shard = seat.shard.number
            touched = held.touch(chain(asked.done, asked.returned))
            if touched:
                changes = held.changes(touched, shard)
                request.finished, request.gone = changes.finished, changes.gone
            if asked.returned:
                changes = held.changes(held.touch(asked.returned), shard)
                request.returned_finished, request.returned_gone = changes.finished, changes.gone
                request.returned = [
                    number
                    for delivery in asked.returned
                    if (bundle := held.find(delivery)) is not None
                    for number in (bundle.first, delivery.place - bundle.first + 1)
                ]
        request.wake_below = asked.wake_below
        if asked.listening:
            request.channels = self._sources.get(seat.shard.number, ())
            request.limit = asked.limit
            request.hold = asked.hold and not self._passing
            request.earlier = seat.subscription
            if seat.subscription != self._subscription:
                request.earlier_channels = seat.channels
            request.subscription = self._subscription
            request.place = held.next
            if self._reach > 1 and asked.hold:
                request.reach = self._reach
            request.laned = self._laned
            self._turn += asked.limit > 0
            request.turn = self._turn
        arguments = batch.arguments() if batch is not None else ()
        return _Call(seat, asked, batch, request, arguments)

    def _settle(
        self, call: _Call, asked: _Request, reply: Sequence[bytes], *, was_refused: bool
    ) -> list[Delivery]:
        """Take note of what a shard did; returns what it gave."""
        seat, request, life = call.seat, call.request, self._layer.life
        if request.process:
            seat.life = life
        if asked.done or asked.returned:
            gone = asked.returned if was_refused else chain(asked.done, asked.returned)
            self._held.remove(self._held.touch(gone))
        self._void = 0
        deliveries = self._deliver(seat, reply[0], request) if reply[0] else []
        if reply[0] and (not request.hold or self._passing):
            self._loose[seat.shard.number] = reply[0]
        if asked.limit:
            seat.due = float(reply[2])
        if asked.listening:
            taken = len(deliveries) + self._void
            wanted = request.sleeps or (asked.limit > 0 and taken < asked.wake_below)
            seat.subscription = self._subscription if wanted else ""
            seat.channels = request.channels
        return deliveries

    def _deliver(
        self, seat: _Seat, bundles: Sequence[bytes], request: wire.Request
    ) -> list[Delivery]:
        deliveries = []
        held = self._held
        place = request.place
        for bundle in bundles:
            envelopes = wire.envelopes(bundle)
            source = envelopes[0].channel
            is_held = request.hold and "!" not in source and "?" not in source
            if is_held:
                held.take(seat.shard.number, place, len(envelopes))
            for envelope in envelopes:
                members: tuple[str, ...] = ()
                if envelope.kind:
                    members = self._note(envelope)
                    if not members:
                        self._void += envelope.kind is Kind.GROUP_MESSAGE
                        continue
                deliveries.append(
                    Delivery(
                        envelope.channel,
                        decode_message(envelope.body),
                        members,
                        envelope.id,
                        envelope.sent,
                        envelope.attempt,
                        envelope.lane,
                        place if is_held else 0,
                    )
                )
                place += is_held
        if request.reach and place > request.place:
            seat.marked = request.place + request.reach - 1
        return deliveries

    def _note(self, envelope: Envelope) -> tuple[str, ...]:
        """See to a notice; for a group message, return this process's members."""
        layer = self._layer
        groups = layer.groups
        if envelope.kind is Kind.GROUP_MESSAGE:
            return groups.members(envelope.group, envelope.channel, layer.now())
        if envelope.kind is Kind.JOINED:
            groups.add(envelope.group, envelope.channel, envelope.sent + layer.group_expiry)
        elif envelope.group:
            groups.discard(envelope.group, envelope.channel)
        else:
            groups.leave(envelope.channel)
        return ()

    def _listen_to(self, channels: tuple[str, ...]) -> None:
        for name in channels:
            names.check_receivable(name)
        self._channels = channels
        self._subscription = records.subscription_name(channels)
        self._passing = all("!" in name or "?" in name for name in channels)
        layer = self._layer
        ordered = [layer.policies.find(name)[1].ordering is not None for name in channels]
        self._laned = any(ordered)
        everywhere = range(len(layer.shards))
        sources: dict[int, list[str]] = {}
        for name, is_ordered in zip(channels, ordered, strict=True):
            for number in everywhere if is_ordered else (layer.shard_of(name, ""),):
                sources.setdefault(number, []).append(name)
        self._sources = sources

    def _check_returned(self, returned: Sequence[Delivery]) -> None:
        for delivery in returned:
            if self._held.find(delivery) is None:
                raise InvalidArgument(
                    "the delivery to return",
                    delivery.channel,
                    "one that this receiver holds: not done, and not returned before",
                )

    # -- calls --------------------------------------------------------------------------

    def _is_ready(self, calls: Sequence[_Call]) -> bool:
        """Say whether all connections are there that `calls` need."""
        return all(
            call.seat.link.is_connected
            and (
                not call.request.wake_below
                or self._bell.listens(call.seat.shard.server, self._bell_name(call.seat))
            )
            for call in calls
        )

    def _ready(self, calls: Sequence[_Call]) -> None:
        for call in calls:
            seat = call.seat
            seat.link.connect()
            if call.request.wake_below:
                name = self._bell_name(seat)
                if not self._bell.listens(seat.shard.server, name):
                    # Before it is registered: nobody rings a bell that is not heard.
                    self._bell.listen(seat.shard.server, name)

    def _bell_name(self, seat: _Seat) -> bytes:
        return seat.shard.key + b"bell:" + self.name.encode()

    def _run(self, calls: Sequence[_Call]) -> list[Any]:
        self._doubt = calls
        self._send(calls)
        replies = [self._receive(call) for call in calls]
        self._doubt = ()
        return replies

    def _send(self, calls: Sequence[_Call]) -> None:
        for call in calls:
            with suppress(LinkBroken):  # noticed when the reply is to be received
                call.seat.send(call)

    def _receive(self, call: _Call) -> Any:
        try:
            return call.seat.link.receive()
        except ServerError as error:
            return self._explain(call, error)
        except LinkBroken:
            return self._insist(call)

    async def _arun(self, calls: Sequence[_Call], replies: list[Any]) -> None:
        """Do a `_run` from async code; the replies so far are in `replies` when cancelled."""
        self._doubt = calls
        self._send(calls)
        for call in calls:
            try:
                replies.append(await call.seat.link.areceive())
            except ServerError as error:
                replies.append(self._explain(call, error))
            except LinkBroken:
                replies.append(await _in_thread(self._insist, call))
        self._doubt = ()

    def _explain(self, call: _Call, error: ServerError) -> Any:
        if str(error).startswith("NOSCRIPT") or is_passing(error):
            return self._insist(call)
        return error

    def _insist(self, call: _Call) -> Any:
        """Ask again what may have been done or not, on new connections."""
        call.request.again = True
        try:
            return persist(call.seat.shard, lambda: call.seat.run(call))
        except ServerError as error:
            return error

    # -- waiting ------------------------------------------------------------------------

    def _start_again(self, seat: _Seat) -> None:
        """Take note that a shard has lost its data."""
        seat.life = seat.marked = 0
        seat.subscription = ""
        lost = self._held.lose(seat.shard.number)
        if lost:
            with suppress(LayerUnavailable):
                key = seat.shard.key + b"past"
                seat.link.post(b"HINCRBY", key, b"dropped:server restarted", lost)

    def _measure(self, done: int) -> None:
        """See how quick the consumer of this receiver is, and so how far marks reach."""
        now = time.monotonic()
        if done and now - self._taken_at < QUICK * done:
            self._quick += 1
            if self._quick >= STEADY:
                self._reach = min(2 * self._reach, MAX_REACH)
        elif done:
            self._quick, self._reach = 0, 1
        self._taken_at = now

    def begin(self, delivery: Delivery) -> bool:
        """See `Receiver.begin`.

        The shard is told before, and no answer awaited. For a quick consumer it is told once for
        many messages: those of them that it had not begun are lost with it, if it dies.
        """
        place = delivery.place
        if place <= self._held.begun:
            return True
        is_late = not self._layer.is_surely_alive()
        if is_late and not self._still_has(delivery):
            self._held.clear()
            return False
        for seat in self._seats:
            if place > seat.marked and self._held.counts.get(seat.shard.number):
                seat.marked = place + self._reach - 1
                key = seat.shard.key + b"h:" + self.name.encode()
                with suppress(LayerUnavailable):
                    seat.link.post(b"HSET", key, b"b", seat.marked)
        self._held.begun = place
        return True

    def _still_has(self, delivery: Delivery) -> bool:
        """Mark what is begun, if nobody has got it meanwhile. It blocks until that is known."""
        bundle = self._held.find(delivery)
        if bundle is None:
            return False
        seat = self._seats[bundle.shard]
        seat.marked = max(seat.marked, delivery.place)
        marked = str(seat.marked).encode()
        arguments = (self.name.encode(), str(bundle.first).encode(), marked)
        deadline = time.monotonic() + 10 * PERSISTENCE
        while time.monotonic() < deadline:
            try:
                return bool(seat.link.run(script("mark"), seat.shard.key, *arguments))
            except (LayerUnavailable, ServerError):
                time.sleep(random.uniform(0, 0.5))  # noqa: S311
        return False

    def wait(self, timeout: float | None = None) -> bool:
        """See `Receiver.wait`."""
        self._check_open()
        patience = self._patience()
        if timeout is not None and timeout <= patience:
            return self._bell.wait(max(0.0, timeout))
        self._bell.wait(patience)
        return True

    async def async_wait(self, timeout: float | None = None) -> bool:
        """See `Receiver.async_wait`."""
        self._check_open()
        patience = self._patience()
        if timeout is not None and timeout <= patience:
            return await self._bell.async_wait(max(0.0, timeout))
        await self._bell.async_wait(patience)
        return True

    def _check_open(self) -> None:
        if self._closed:
            raise LayerClosed("receiver")
        if self._layer.is_closed:
            raise LayerClosed("channel layer")

    def _patience(self) -> float:
        """Seconds after which this receiver looks without having been woken."""
        due = min((seat.due for seat in self._seats if seat.due), default=0.0)
        if not due:
            return LOOK_INTERVAL
        return max(0.0, min(due - self._layer.now() + 0.001, LOOK_INTERVAL))

    def interrupt(self) -> None:
        """See `Receiver.interrupt`."""
        self._bell.ring()

    def fileno(self) -> int:
        """See `Receiver.fileno`."""
        return self._bell.fileno()

    def drain(self) -> None:
        """See `Receiver.drain`."""
        self._bell.drain()

    def abandon(self) -> None:
        """Close a forked child's copy, and leave the parent's as it is."""
        self._closed = True
        self._release()

    def close(self) -> None:
        """See `Receiver.close`."""
        if self._closed:
            return
        self._closed = True
        try:
            if not self._layer.is_closed:
                for seat in self._seats:
                    if seat.life or seat.subscription:
                        self._leave(seat)
        finally:
            self._release()

    def _leave(self, seat: _Seat) -> None:
        arguments = (
            self._layer.process.encode(),
            self.name.encode(),
            str(self._held.begun).encode(),
            seat.subscription.encode(),
            msgspec.msgpack.encode(seat.channels),
        )
        with suppress(BusError, ServerError):
            seat.link.run(script("leave"), seat.shard.key, *arguments)

    def _release(self) -> None:
        self._links.close()
        self._bell.close()


def _shares(limit: int, seats: Sequence[_Seat], turn: int) -> dict[int, int]:
    """Return how many messages to take from each seat, by the numbers of their shards."""
    if not seats:
        return {}
    each, rest = divmod(limit, len(seats))
    return {
        seat.shard.number: each + ((place + turn) % len(seats) < rest)
        for place, seat in enumerate(seats)
    }


async def _in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Call what blocks in a thread. When cancelled, its end is awaited first."""
    future = asyncio.get_running_loop().run_in_executor(None, function, *arguments)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        with suppress(Exception):
            await future
        raise


def _out_of_memory(operations: Sequence[Operation]) -> list[Refusal]:
    return [
        Refusal(index, operation, ChannelFull(operation.channel, "memory", 0))
        for index, operation in enumerate(operations)
        if isinstance(operation, Send)
    ]
