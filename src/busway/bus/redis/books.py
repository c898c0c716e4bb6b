"""What a receiver knows of itself: what it holds, where it is registered, how quick it is.

It makes requests by that, and takes note of the replies. No I/O here.
"""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from msgspec import DecodeError

from busway.bus import names, records
from busway.bus.bundles import decode_bundle
from busway.bus.codec import Kind
from busway.bus.errors import ChannelFull, InvalidArgument, LayerUnavailable
from busway.bus.operations import Delivery, GroupAdd, Operation, Refusal, Return, Send
from busway.bus.redis import packing, wire
from busway.bus.redis.complaints import ServerError, explain
from busway.bus.redis.held import Held
from busway.bus.redis.orders import Letter
from busway.bus.redis.pace import Pace
from busway.bus.redis.seats import NOTHING, Asked, Call, Mark, Seat
from busway.bus.sealing import Seal

if TYPE_CHECKING:
    from busway.bus.redis.layer import RedisChannelLayer

logger = logging.getLogger("busway.bus")

GROWING = (Send, GroupAdd)
"""Operations that a full server refuses."""


class Books:
    """The books of one receiver."""

    def __init__(self, layer: "RedisChannelLayer", name: str, seats: Sequence[Seat]) -> None:
        """Keep the books of the receiver `name`, which has `seats`: one a shard, in order."""
        self.name = name
        self.seats = seats
        self.held = Held()
        self.sources: dict[int, list[str]] = {}
        """Which of the channels may be on a shard, by its number."""
        self.void = 0
        """What came last and is nothing to hand over: group messages to nobody, unfit messages."""
        self.unfit: list[tuple[str, Delivery]] = []
        """What is to be dropped, and why: it was not genuine, is no message at all, or was lost."""
        self.joined: list[str] = []
        """See `Outcome.joined`: those that nobody was told of yet."""
        self.given_up: dict[int, Delivery] = {}
        """What was not begun, for its shard did not say that it is still held: it goes back. By
        place."""
        self.pace = Pace()
        self.eager = False
        """See `Receiver.eager`."""
        self.turn = 0
        self._layer = layer
        self.channels: tuple[str, ...] = ()
        """What the receiver reads."""
        self._given: Sequence[str] = ()
        self._subscription = ""
        self._passing = self._laned = False
        """Whether none of the channels is normal, whether any has lanes."""
        self._normal = self._owned = False
        """Whether all of the channels are normal, whether all are prefixes of this process."""

    def listen_to(self, channels: Sequence[str]) -> None:
        """Take note of what the receiver reads. Raises `InvalidName`."""
        if channels is not self._given:
            if tuple(channels) != self.channels:
                self._listen_to(tuple(channels))
            self._given = channels if isinstance(channels, tuple) else ()

    def _listen_to(self, channels: tuple[str, ...]) -> None:
        for name in channels:
            names.check_receivable(name)
        self.channels = channels
        self._subscription = records.subscription_name(channels)
        self._passing = all("!" in name or "?" in name for name in channels)
        self._normal = not any("!" in name or "?" in name for name in channels)
        self._owned = all("!" in name for name in channels)
        layer = self._layer
        ordered = [layer.policies.find(name)[1].ordering is not None for name in channels]
        self._laned = any(ordered)
        everywhere = range(len(layer.parts))
        sources: dict[int, list[str]] = {}
        for name, is_ordered in zip(channels, ordered, strict=True):
            for number in everywhere if is_ordered else (layer.shard_of(name, ""),):
                sources.setdefault(number, []).append(name)
        self.sources = sources

    def returned(self, operations: Sequence[Operation]) -> Sequence[Delivery]:
        """Return what is to go back. Raises `InvalidArgument`."""
        returns = [each for each in operations if isinstance(each, Return)]
        if not returns and not self.given_up:
            return ()
        found = dict(self.still_given_up())
        for delivery in (each.delivery for each in returns):
            if self.held.find(delivery) is not None:
                found[delivery.place] = delivery
            elif not self.held.misses(delivery):
                raise InvalidArgument(
                    "the delivery to return",
                    delivery.channel,
                    "one that this receiver holds: not done, and not returned before",
                )
        return list(found.values())

    def write_off(self, deliveries: Iterable[Delivery]) -> None:
        """Take note of what nobody has any more, or others have, of what was to go back."""
        for each in deliveries:
            self.held.gone.discard(each.place)
            if each.place in self.held.lost:
                self.held.lost.remove(each.place)
                self.unfit.append(("server restarted", each))

    # -- begun ------------------------------------------------------------------------

    def begin(self, delivery: Delivery) -> bool | None:
        """Take note that a delivery is begun; returns whether it may be.

        None: its shard has to be asked first.
        """
        held, place = self.held, delivery.place
        bundle = held.find(delivery)
        if bundle is None:
            # Of what a shard has lost with its data nobody else knows.
            return not place or place in held.lost
        if place > self.seats[bundle.shard].marked:
            return None
        held.begun = max(held.begun, place)
        return True

    def still_given_up(self) -> Mapping[int, Delivery]:
        """Return what is given up and has not gone back yet."""
        self.given_up = {at: each for at, each in self.given_up.items() if self.held.find(each)}
        return self.given_up

    def marks(self, place: int) -> list[Mark]:
        """Return what shards have to know before the message at `place` is begun."""
        first = min(place, self.held.begun + 1)
        last = min(place + self.pace.reach, self.held.next) - 1
        found: dict[int, Mark] = {}
        for bundle in self.held.between(first, last):
            seat = self.seats[bundle.shard]
            if min(last, bundle.first + bundle.count - 1) > seat.marked:
                found.setdefault(bundle.shard, Mark(seat, last, [])).bundles.append(bundle)
        return list(found.values())

    def mark(self, mark: Mark, missing: Sequence[bytes]) -> None:
        """Take note of what a shard said to a mark."""
        if self._note_epoch(mark.seat):
            return
        mark.seat.marked = mark.place
        for bundle in mark.bundles:
            if str(bundle.first).encode() in missing:
                self.held.give_away(bundle)

    # -- requests ---------------------------------------------------------------------

    def home(self, delivery: Delivery) -> int:
        """Return the number of the shard that a delivery came from."""
        bundle = self.held.find(delivery)
        if bundle is not None:
            return bundle.shard
        return self._layer.shard_of(names.address(delivery.channel), delivery.lane)

    def call(self, seat: Seat, asked: Asked, batch: packing.Batch | None) -> Call:
        self._note_epoch(seat)
        seat.number += 1
        request = wire.Request(self.name, seat.number)
        if seat.life != self._layer.life:
            if asked.limit:
                request.process = self._layer.process
            if seat.life:  # it was buried since
                seat.order.forget()
        if batch is not None:
            request.segments = batch.segments
        if asked.done:
            request.done = wire.turns_done(asked.done) or None
        if asked.done or asked.returned:
            self._let_go(request, asked, seat.shard.number)
        request.wake_below = asked.wake_below
        if asked.listening:
            self._ask_for_messages(request, seat, asked)
        if asked is not NOTHING:
            seat.order.report(request, listening=asked.listening)
        arguments = batch.arguments() if batch is not None else ()
        return Call(seat, asked, batch, request, arguments, self._layer.life, time.monotonic())

    def _ask_for_messages(self, request: wire.Request, seat: Seat, asked: Asked) -> None:
        """Say in a request what the receiver reads, and how."""
        request.channels = self.sources.get(seat.shard.number)
        request.limit = asked.limit
        request.hold = asked.hold and not self._passing
        request.earlier = seat.subscription
        if seat.subscription and seat.subscription != self._subscription:
            request.earlier_channels = seat.channels
        request.subscription = self._subscription
        request.place = self.held.next
        if self.pace.reach > 1 and asked.hold:
            request.reach = self.pace.reach
        request.laned = self._laned
        self.turn += asked.limit > 0
        request.turn = self.turn
        if asked.limit:
            seat.order.give(request, asked.limit if self._may_be_handed(asked, request) else 0)

    def _may_be_handed(self, asked: Asked, request: wire.Request) -> bool:
        """Say whether the receiver may be handed messages while it sleeps.

        One that holds messages is handed some once, and then asks again: so only when it sleeps
        for want of any. One that reads its own prefixes goes on sleeping.
        """
        if not self.eager or len(self.seats) > 1:
            return False
        if request.hold:
            return self._normal and asked.wake_below == 1
        return self._owned and not self._laned and asked.limit > 1

    def _let_go(self, request: wire.Request, asked: Asked, shard: int) -> None:
        """Say in a request which messages leave these hands."""
        held = self.held
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

    def _note_epoch(self, seat: Seat) -> bool:
        """Take note if a shard has lost its data: it knows nothing of this receiver."""
        epoch = self._layer.epoch(seat.shard)
        if epoch == seat.epoch:
            return False
        before, seat.epoch = seat.epoch, epoch
        if not before:
            return False
        seat.life = seat.marked = 0
        seat.order.lose()
        seat.subscription = ""
        self.held.lose(seat.shard.number)
        self.write_off(self.given_up.values())
        return True

    def settle(
        self, call: Call, asked: Asked, reply: Sequence[Any], *, was_refused: bool
    ) -> list[Delivery]:
        """Take note of what a shard did; returns what it gave."""
        seat, request = call.seat, call.request
        # The reply may be that of a server that has only now begun.
        if self._note_epoch(seat):
            self.write_off(asked.returned)
        self._layer.see(seat.shard, reply[4] / 1e6, reply[3], call.asked_at)
        seat.order.settle(request)
        if request.process:
            seat.life = call.life
            seat.marked = 0  # of what was marked before it may know nothing any more
        if asked.done or asked.returned:
            gone = asked.returned if was_refused else chain(asked.done, asked.returned)
            self.held.remove(self.held.touch(gone))
        self.void = 0
        deliveries = self._deliver(call, reply[0]) if reply[0] else []
        if asked.limit:
            self.pace.start()
            seat.due = float(reply[2])
        if asked.listening:
            taken = len(deliveries) + self.void
            wanted = request.sleeps or (asked.limit > 0 and taken < asked.wake_below)
            seat.subscription = self._subscription if wanted else ""
            seat.channels = request.channels or ()
            seat.order.renew(request, sleeps=wanted)
        return deliveries

    def accept(self, letters: Iterable[Letter]) -> list[Delivery]:
        """Return what was handed over with rings.

        What belongs to an earlier sleep has come with a reply since.
        """
        deliveries: list[Delivery] = []
        (seat,) = self.seats
        self.void = 0
        for letter in letters:
            place = seat.order.take(letter)
            if place is None:
                continue
            hold = place.first > 0
            found, behind = self._unpack(seat, (letter.bundle,), place.first, hold=hold)
            if hold:
                seat.subscription = ""
                self.pace.start()
            if place.reach:
                seat.marked = min(place.first + place.reach, behind) - 1
            deliveries += found
        return deliveries

    def _deliver(self, call: Call, bundles: Sequence[bytes]) -> list[Delivery]:
        seat, request = call.seat, call.request
        deliveries, behind = self._unpack(seat, bundles, request.place, hold=request.hold)
        if request.reach and behind > request.place:
            seat.marked = min(request.place + request.reach, behind) - 1
        return deliveries

    def _unpack(
        self, seat: Seat, bundles: Iterable[bytes], place: int, *, hold: bool
    ) -> tuple[list[Delivery], int]:
        """Return the messages of bundles, and the place behind them: held ones begin at `place`."""
        deliveries: list[Delivery] = []
        held, seal = self.held, self._layer.seal
        for bundle in bundles:
            malformed: Sequence[Delivery] = ()
            envelopes = wire.envelopes_of(bundle)
            try:
                found = decode_bundle(envelopes)
            except DecodeError as error:
                found, malformed = wire.decode_apart(envelopes)
                logger.warning("a message is dropped, and counted: it is malformed: %s", error)
            source = found[0].channel
            if "!" in source:
                found = self._sort_out(found)
            elif hold and "?" not in source:
                held.take(seat.shard.number, place, len(found))
                for delivery in found:
                    delivery.place = place
                    place += 1
            if malformed:
                self._drop("malformed", malformed)
                found = [each for each in found if each not in malformed]
            deliveries += found if seal is None else self._open(found, seal)
        return deliveries, place

    def _sort_out(self, found: Sequence[Delivery]) -> list[Delivery]:
        """See to notices, and say for which members group messages are; returns the messages."""
        kept: list[Delivery] = []
        for delivery in found:
            if delivery.kind:
                delivery.members = self._note(delivery)
                if not delivery.members:
                    self.void += delivery.kind is Kind.GROUP_MESSAGE
                    continue
            kept.append(delivery)
        return kept

    def _open(self, found: Sequence[Delivery], seal: Seal) -> list[Delivery]:
        """Decrypt what came, and remember what is not genuine."""
        genuine: list[Delivery] = []
        forged: list[Delivery] = []
        for delivery in found:
            (genuine if seal.open(delivery) else forged).append(delivery)
        self._drop("tampered", forged)
        return genuine

    def _drop(self, reason: str, unfit: Sequence[Delivery]) -> None:
        self.unfit += [(reason, each) for each in unfit]
        self.void += len(unfit)

    def _note(self, envelope: Delivery) -> tuple[str, ...]:
        """See to a notice; for a group message, return this process's members."""
        layer = self._layer
        groups = layer.groups
        if envelope.kind is Kind.GROUP_MESSAGE:
            return groups.members(envelope.group, envelope.channel, layer.now())
        if envelope.kind is Kind.JOINED:
            groups.add(envelope.group, envelope.channel, envelope.sent + layer.group_expiry)
            self.joined.append(envelope.channel)
        elif envelope.group:
            groups.discard(envelope.group, envelope.channel)
        else:
            groups.leave(envelope.channel)
        return ()

    def take_joined(self) -> Sequence[str]:
        """Return what nobody was told of yet: see `Outcome.joined`."""
        if not self.joined:
            return ()
        joined, self.joined = self.joined, []
        return joined

    def refusals(self, asked: Asked, batch: packing.Batch | None, reply: Any) -> Sequence[Refusal]:
        """Return what a shard refused."""
        if isinstance(reply, ServerError):
            if not str(reply).startswith("OOM") or batch is None:
                raise LayerUnavailable(explain(reply))
            indexes = {index for places in batch.places for index in places}
            return [each for each in _out_of_memory(asked.operations) if each.index in indexes]
        if reply[1] and batch is not None:
            return wire.refusals(reply[1], batch.places, asked.operations, self._layer.plans)
        return ()


def _out_of_memory(operations: Sequence[Operation]) -> list[Refusal]:
    return [
        Refusal(index, operation, ChannelFull(operation.channel, "memory", 0))
        for index, operation in enumerate(operations)
        if isinstance(operation, GROWING)
    ]
