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
from busway.bus.redis.connections import LinkBroken, ServerError
from busway.bus.redis.held import Held
from busway.bus.redis.scripts import script
from busway.bus.redis.shards import Shard

if TYPE_CHECKING:
    from busway.bus.redis.layer import RedisChannelLayer

T = TypeVar("T")

LOOK_INTERVAL = 5.0
"""Seconds after which a receiver looks without having been woken: a connection may have died and
not said so."""

PERSISTENCE = 2.0
"""Seconds for which an exchange that was cut off is tried again."""

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


class _Call(msgspec.Struct, gc=False):
    """An exchange with one shard."""

    seat: "_Seat"
    request: wire.Request
    envelopes: Sequence[bytes]


class _Seat:
    """A receiver's place at one shard."""

    def __init__(self, shard: Shard, layer: "RedisChannelLayer") -> None:
        self.shard = shard
        self.link = layer.link(shard)
        self.number = 0
        """Requests made."""
        self.life = 0
        """In which life of the layer's process the shard got to know the receiver; 0: in none."""
        self.subscription = ""
        """The subscription that the receiver is registered with, or empty."""
        self.channels: Sequence[str] = ()
        self.due = 0.0
        """When the shard's next delayed message is due: seconds since the epoch, or 0."""

    def send(self, call: _Call) -> None:
        """Send a request."""
        arguments = (call.request.encode(), *call.envelopes)
        self.link.send(_EXCHANGE, self.shard.key, *arguments)

    def run(self, call: _Call) -> Any:
        """Send a request and return the reply; the script may have been forgotten."""
        return self.link.run(_EXCHANGE, self.shard.key, call.request.encode(), *call.envelopes)


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
        self._seats = [_Seat(shard, layer) for shard in layer.shards]
        self._channels: tuple[str, ...] = ()
        self._given: Sequence[str] = ()
        self._subscription = ""
        self._loose: dict[int, Sequence[bytes]] = {}
        """What the last exchange took off each shard, and is not held."""
        self._void = 0
        """Group messages to nobody among what came last."""
        self._passing = self._laned = False
        """Whether none of the channels is normal, whether any has lanes."""
        self._marked = 0
        """Up to which place the shards count messages as begun."""
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
                    self._run((_Call(seat, request, data),))

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
        asked = _Request(operations, returned, done, limit, wake_below, hold, bool(channels))
        return (yield from self._single(asked, batches))

    def _single(self, asked: _Request, batches: Sequence[wire.Batch | None]) -> _Steps:
        """Do an exchange with one shard."""
        seat = self._seats[0]
        batch = batches[0] if batches else None
        call = self._call(seat, asked, batch)
        refused: list[Refusal] = []
        while True:
            (reply,) = yield (call,)
            if isinstance(reply, ServerError):
                if not str(reply).startswith("OOM") or batch is None:
                    raise LayerUnavailable(_advice(reply))
                refused += _out_of_memory(asked.operations)
                batch = None
                asked = asked._replace(operations=(), done=())
                call = self._call(seat, asked, None)
                continue
            break
        if reply[1] and batch is not None:
            refused += wire.refusals(reply[1], batch, asked.operations, self._layer.plans)
        deliveries = self._settle(call, asked, reply, was_refused=bool(refused))
        left = asked.limit - len(deliveries)
        if reply[0] and left and self._void:
            # Group messages to nobody took the place of messages that may still wait.
            more = yield from self._single(
                asked._replace(operations=(), returned=(), done=(), limit=left), ()
            )
            deliveries += more.deliveries
        return Outcome(deliveries, refused)

    def _call(self, seat: _Seat, asked: _Request, batch: wire.Batch | None) -> _Call:
        held = self._held
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
            request.channels = self._channels
            request.limit = asked.limit
            request.hold = asked.hold and not self._passing
            request.earlier = seat.subscription
            if seat.subscription != self._subscription:
                request.earlier_channels = seat.channels
            request.subscription = self._subscription
            request.place = held.next
            if asked.limit and asked.hold:
                self._measure(len(asked.done))
                request.reach = self._reach if self._reach > 1 else 0
            request.laned = self._laned
            self._turn += asked.limit > 0
            request.turn = self._turn
        return _Call(seat, request, batch.arguments() if batch is not None else ())

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
        deliveries = self._deliver(seat, reply[0], request) if reply[0] else []
        if reply[0] and (not request.hold or self._passing):
            self._loose[seat.shard.number] = reply[0]
        if asked.limit:
            seat.due = float(reply[2])
        if asked.listening:
            taken = len(deliveries) + self._void
            wanted = asked.limit > 0 and taken < asked.wake_below
            seat.subscription = self._subscription if wanted else ""
            seat.channels = self._channels
        return deliveries

    def _deliver(
        self, seat: _Seat, bundles: Sequence[bytes], request: wire.Request
    ) -> list[Delivery]:
        deliveries = []
        held, reach = self._held, request.reach
        place = held.next
        self._void = 0
        for bundle in bundles:
            envelopes = wire.envelopes(bundle)
            source = envelopes[0].channel
            is_held = request.hold and "!" not in source and "?" not in source
            if is_held:
                held.take(seat.shard.number, len(envelopes))
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
        if reach and place > request.place:
            self._marked = request.place + reach - 1
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
        policies = self._layer.policies
        self._laned = any(policies.find(name)[1].ordering is not None for name in channels)

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
        sent = []
        for call in calls:
            with suppress(LinkBroken):
                call.seat.send(call)
                sent.append(call)
        return [
            self._receive(call) if call in sent else self._insist(call) for call in calls
        ]

    def _receive(self, call: _Call) -> Any:
        try:
            return call.seat.link.receive()
        except ServerError as error:
            return self._explain(call, error)
        except LinkBroken:
            return self._insist(call)

    async def _arun(self, calls: Sequence[_Call], replies: list[Any]) -> None:
        """Do a `_run` from async code; the replies so far are in `replies` when cancelled."""
        for call in calls:
            with suppress(LinkBroken):
                call.seat.send(call)
        for call in calls:
            try:
                replies.append(await call.seat.link.areceive())
            except ServerError as error:
                replies.append(self._explain(call, error))
            except LinkBroken:
                replies.append(await _in_thread(self._insist, call))

    def _explain(self, call: _Call, error: ServerError) -> Any:
        if not str(error).startswith("NOSCRIPT"):
            return error
        try:
            return call.seat.run(call)
        except ServerError as other:
            return other
        except LinkBroken:
            return self._insist(call)

    def _insist(self, call: _Call) -> Any:
        """Ask again what may have been done or not, on new connections."""
        call.request.again = True
        deadline = time.monotonic() + PERSISTENCE
        pause = 0.02
        while True:
            try:
                return call.seat.run(call)
            except ServerError as error:
                return error
            except LayerUnavailable:
                if time.monotonic() > deadline:
                    raise
            time.sleep(random.uniform(0, pause))  # noqa: S311
            pause = min(2 * pause, 0.5)

    # -- waiting ------------------------------------------------------------------------

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
        if place > self._marked or is_late:
            bundle = self._held.find(delivery)
            if bundle is None:
                return False
            self._marked = max(self._marked, place + self._reach - 1)
            seat = self._seats[bundle.shard]
            if is_late and not self._still_has(seat, bundle.first):
                self._held.clear()
                return False
            if not is_late:
                key = seat.shard.key + b"h:" + self.name.encode()
                with suppress(LayerUnavailable):
                    seat.link.post(b"HSET", key, b"b", self._marked)
        self._held.begun = place
        return True

    def _still_has(self, seat: _Seat, first: int) -> bool:
        """Mark what is begun, if nobody has got it meanwhile. It blocks until that is known."""
        arguments = (self.name.encode(), str(first).encode(), str(self._marked).encode())
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
        for seat in self._seats:
            seat.link.close()
        self._bell.close()


async def _in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Call what blocks in a thread. When cancelled, its end is awaited first."""
    future = asyncio.get_running_loop().run_in_executor(None, function, *arguments)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        with suppress(Exception):
            await future
        raise


def _advice(error: ServerError) -> str:
    return str(error)


def _out_of_memory(operations: Sequence[Operation]) -> list[Refusal]:
    return [
        Refusal(index, operation, ChannelFull(operation.channel, "memory", 0))
        for index, operation in enumerate(operations)
        if isinstance(operation, Send)
    ]
