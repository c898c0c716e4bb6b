"""The reader of a stored layer: an exchange as one transaction, and waiting."""

import time
from collections.abc import Sequence
from contextlib import suppress
from operator import itemgetter
from typing import TYPE_CHECKING

from busway.bus import burial, names, records
from busway.bus.bundles import count_of, decode_bundle, is_normal, is_plain
from busway.bus.codec import Kind
from busway.bus.errors import ChannelFull, InvalidArgument, LayerClosed
from busway.bus.held import Held
from busway.bus.marks import Mark
from busway.bus.operations import Delivery, Operation, Outcome, Refusal
from busway.bus.parcels import Parcel, Refused, Run
from busway.bus.preparing import NOTHING, Prepared, prepare
from busway.bus.queues import promote, put_back, release, release_all, send, send_run, take
from busway.bus.receiver import Receiver
from busway.bus.sealing import Seal
from busway.bus.transaction import StoreFull, Transaction

if TYPE_CHECKING:
    from busway.bus.stored import StoredLayer

_Taken = tuple[bytes, tuple[str, ...]]
"""A bundle that was taken, and to which members it goes. It is decoded after the transaction,
which others wait for."""


_MUCH = 4
"""Messages between two waits of a receiver that is busy."""


_Request = tuple[Sequence[Operation], Prepared, Sequence[Delivery], bool, int, float, int, bool]
"""What `StoredReceiver.exchange` was asked, made ready: operations, the same prepared, done,
listening, limit, now, wake_below, hold. Plain, since it is made for every exchange."""


class StoredReceiver(Receiver):
    """A reader of a stored layer."""

    def __init__(self, layer: "StoredLayer", name: str) -> None:
        """Make the reader `name` of `layer`."""
        self.name = name
        self._layer = layer
        self._bell = layer.bell(name)
        self._mark: Mark | None = None
        self._held = Held()
        self._subscription = ""
        """The subscription that this receiver is registered with, or empty."""
        self._channels: tuple[str, ...] = ()
        self._given: Sequence[str] = ()
        self._channels_name = ""
        self._normal = self._passing = self._laned = False
        """Whether all of the channels are normal, whether none is, whether any has lanes."""
        self._due = 0.0
        self._taken = 0
        """Messages taken since the last wait."""
        self._joined: list[str] = []
        """See `Outcome.joined`, of the exchange under way."""
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
        """See `Receiver.exchange`. It does not block, but for another exchange under way."""
        if self._closed:
            raise LayerClosed("receiver")
        now = time.time()
        prepared = prepare(operations, self._layer, now) if operations else NOTHING
        if prepared.returned:
            self._check_returned(prepared.returned)
        if not channels:
            limit = 0
        elif channels is not self._given:
            if tuple(channels) != self._channels:
                self._listen_to(tuple(channels))
            self._given = channels if isinstance(channels, tuple) else ()
        if limit:
            if hold and self._mark is None:
                # Before anything is taken: without a mark it could be handed out twice.
                self._mark = self._layer.mark(self.name)
            if now >= self._layer.next_sweep:
                self._layer.tidy(now)
        request = (operations, prepared, done, bool(channels), limit, now, wake_below, hold)
        try:
            return self._run(request)
        except StoreFull:
            return self._run(request, room=0)  # what would add to it is refused

    def _listen_to(self, channels: tuple[str, ...]) -> None:
        for name in channels:
            names.check_receivable(name)
        self._channels = channels
        self._channels_name = records.subscription_name(channels)
        normal = ["!" not in name and "?" not in name for name in channels]
        self._normal, self._passing = all(normal), not any(normal)
        policies = self._layer.policies
        self._laned = any(policies.find(name)[1].ordering is not None for name in channels)

    def _run(self, request: _Request, room: int | None = None) -> Outcome:
        subscription, held = self._subscription, self._held.state
        self._joined = []
        try:
            with self._layer.transaction() as store:
                step = Transaction(store, store.data, self._layer.plans, request[5], room)
                taken, place, refused = self._do(step, request)
                step.finish()
        except BaseException:
            self._subscription, self._held.state = subscription, held
            raise
        if step.rings:
            self._layer.ring(dict.fromkeys(step.rings))
        deliveries = self._deliver(taken, place) if taken else []
        return Outcome(deliveries, refused, self._joined)

    def _do(self, step: Transaction, request: _Request) -> tuple[list[_Taken], int, list[Refusal]]:
        """Do a whole exchange; returns what was taken, the place of its first, what was refused."""
        operations, prepared, done, listening, limit, now, wake_below, hold = request
        returned = prepared.returned
        taken: list[_Taken] = []
        refused: list[Refusal] = []
        count = place = 0
        if prepared.items:
            refused = self._apply(step, operations, prepared, self.name if wake_below else "")
            if refused:
                done = ()  # their lanes go on when what belongs to them is sent
        if returned:
            put_back(step, [raw for d in returned if (raw := self._held.get(d)) is not None])
        if done:
            release_all(step, done)
        if limit:
            taken, count = self._take(step, limit, now)
            self._taken += count
        if not hold and self._laned:
            _release_lanes(step, taken)
        kept = taken if hold and not self._passing else ()
        if kept or done or returned:
            place = self._keep(step, done, returned, kept)
        if listening:
            # Lanes that were let go without being held may have brought new messages.
            looked = count < limit and (hold or not self._laned)
            self._register(step, wanted=limit > 0 and count < wake_below, nothing_left=looked)
        return taken, place, refused

    def _register(self, step: Transaction, *, wanted: bool, nothing_left: bool = False) -> None:
        """Bring this receiver onto the list of those to be woken, or off it.

        Then wake somebody for what still waits: others may sleep while this one works on what
        it got, or turns away. `nothing_left` is said by who has just looked.
        """
        earlier, name = self._subscription, self._channels_name
        if earlier and (earlier != name or not wanted):
            step.unsubscribe(self.name, earlier)
            if earlier != name:
                step.pass_on(step.channels_of(earlier))
        if wanted:
            step.subscribe(self.name, self._channels, name, self._layer.process)
        self._subscription = name if wanted else ""
        if not nothing_left:
            step.pass_on(self._channels)

    def _check_returned(self, returned: Sequence[Delivery]) -> None:
        for delivery in returned:
            if self._held.get(delivery) is None:
                raise InvalidArgument(
                    "the delivery to return",
                    delivery.channel,
                    "one that this receiver holds: not done, and not returned before",
                )

    def _apply(
        self,
        step: Transaction,
        operations: Sequence[Operation],
        prepared: Prepared,
        sender: str,
    ) -> list[Refusal]:
        fits = step.expect(prepared.size)
        refused: list[tuple[int, Refused]] = []
        for item in prepared.items:
            if isinstance(item, Run):
                refused += send_run(step, item, sender, fits=fits)
                continue
            place, work = item
            why = send(step, work, sender, fits=fits) if isinstance(work, Parcel) else work(step)
            if why is not None:
                refused.append((place, why))
        if not refused:
            return []
        refused.sort(key=itemgetter(0))
        return [
            Refusal(place, operations[place], ChannelFull(why.channel, why.reason, why.limit))
            for place, why in refused
        ]

    def _take(self, step: Transaction, limit: int, now: float) -> tuple[list[_Taken], int]:
        """Take messages, and say how many; notices about groups are seen to here."""
        self._due = promote(step)
        taken: list[_Taken] = []
        left = limit
        noted = True
        while left and noted:
            noted = False
            for bundle in take(step, self._channels, left):
                if is_plain(bundle):
                    taken.append((bundle, ()))
                    left -= count_of(bundle)
                elif members := self._note(decode_bundle(bundle)[0], now):
                    taken.append((bundle, members))
                    left -= 1
                else:
                    noted = True
        return taken, limit - left

    def _note(self, envelope: Delivery, now: float) -> tuple[str, ...]:
        """See to a notice; for a group message, return this process's members."""
        groups = self._layer.groups
        if envelope.kind is Kind.GROUP_MESSAGE:
            return groups.members(envelope.group, envelope.channel, now)
        if envelope.kind is Kind.JOINED:
            expires = envelope.sent + self._layer.group_expiry
            groups.add(envelope.group, envelope.channel, expires)
            self._joined.append(envelope.channel)
        elif envelope.group:
            groups.discard(envelope.group, envelope.channel)
        else:
            groups.leave(envelope.channel)
        return ()

    def _keep(
        self,
        step: Transaction,
        done: Sequence[Delivery],
        returned: Sequence[Delivery],
        taken: Sequence[_Taken],
    ) -> int:
        """Bring what this receiver holds up to date; returns the place of the first it took."""
        held = self._held
        changed = held.finish((*done, *returned) if returned else done)
        fresh = [bundle for bundle, _ in taken if self._normal or is_normal(bundle)]
        first = held.take(fresh) if fresh else 0
        if fresh or changed:
            burial.hold(step, self.name, held.record())
        return first

    def _deliver(self, taken: Sequence[_Taken], place: int) -> list[Delivery]:
        """Decode what was taken; `place` is that of the first message held, or 0."""
        deliveries: list[Delivery] = []
        for bundle, members in taken:
            found = decode_bundle(bundle)
            if members:
                found[0].members = members
            if place and (self._normal or is_normal(bundle)):
                for delivery in found:
                    delivery.place = place
                    place += 1
            deliveries += found
        return deliveries if self._layer.seal is None else self._open(deliveries, self._layer.seal)

    def _open(self, deliveries: Sequence[Delivery], seal: Seal) -> list[Delivery]:
        """Decrypt what was taken, and drop what is not genuine."""
        genuine: list[Delivery] = []
        forged: list[Delivery] = []
        for delivery in deliveries:
            (genuine if seal.open(delivery) else forged).append(delivery)
        if forged:
            self._discard(forged)
        return genuine

    def _discard(self, forged: Sequence[Delivery]) -> None:
        with self._layer.transaction() as store:
            step = Transaction(store, store.data, self._layer.plans, time.time())
            for delivery in forged:
                where = names.address(delivery.channel)
                step.drop(step.channel(where), where, "tampered")
            release_all(step, forged)
            if self._held.finish(forged):
                burial.hold(step, self.name, self._held.record())
            step.finish()
        # There is less than was found, and nobody may be registered to be woken for the rest.
        self._layer.ring(dict.fromkeys([*step.rings, self.name]))

    # -- waiting ------------------------------------------------------------------------

    def begin(self, delivery: Delivery) -> bool:
        """See `Receiver.begin`. It costs no transaction."""
        if delivery.place > self._held.begun:
            self._held.begun = delivery.place
            if self._mark is not None:
                self._mark.write(delivery.place)
        return True

    def wait(self, timeout: float | None = None) -> bool:
        """See `Receiver.wait`."""
        self._check_open()
        patience = self.patience()
        busy = self._was_busy()
        if timeout is not None and timeout <= patience:
            return self._bell.wait(timeout, busy=busy)
        self._bell.wait(patience, busy=busy)
        return True

    async def async_wait(self, timeout: float | None = None) -> bool:
        """See `Receiver.async_wait`."""
        self._check_open()
        patience = self.patience()
        busy = self._was_busy()
        if timeout is not None and timeout <= patience:
            return await self._bell.async_wait(timeout, busy=busy)
        await self._bell.async_wait(patience, busy=busy)
        return True

    def _was_busy(self) -> bool:
        """Say whether much was taken since this was last asked."""
        taken, self._taken = self._taken, 0
        return taken > _MUCH

    def _check_open(self) -> None:
        if self._closed:
            raise LayerClosed("receiver")

    def patience(self) -> float:
        """See `Receiver.patience`."""
        now = time.time()
        until = max(self._layer.next_sweep, now + 0.1)
        return max(0.0, min(self._due, until) - now) if self._due else until - now

    def interrupt(self) -> None:
        """See `Receiver.interrupt`."""
        self._layer.ring([self.name])

    def fileno(self) -> int:
        """See `Receiver.fileno`."""
        return self._bell.fileno()

    def drain(self) -> None:
        """See `Receiver.drain`."""
        self._bell.drain()

    def abandon(self) -> None:
        """Close a forked child's copy, and leave the parent's as it is."""
        self._closed = True
        self._bell.close()

    def close(self) -> None:
        """See `Receiver.close`."""
        if self._closed:
            return
        self._closed = True
        try:
            with suppress(LayerClosed):  # then everything was settled with the layer
                self._settle()
        finally:
            self._layer.forget(self.name)
            self._bell.close()
            if self._mark is not None:
                self._mark.close()

    def _settle(self) -> None:
        """Give back what was not begun, and leave the lists."""
        with self._layer.transaction() as store:
            step = Transaction(store, store.data, self._layer.plans, time.time())
            burial.hold(step, self.name, self._held.record())
            burial.settle(step, self.name, self._held.begun)
            self._register(step, wanted=False)
            step.finish()
        self._layer.ring(dict.fromkeys(step.rings))


def _release_lanes(step: Transaction, taken: Sequence[_Taken]) -> None:
    """Let the lanes go on of messages that are not held."""
    for bundle, _ in taken:
        for envelope in decode_bundle(bundle):
            if envelope.lane:
                release(step, envelope.lane, envelope.id)
