"""Layers that keep their messages in an ordered key-value store: shared by memory and IPC.

A backend gives transactions of its store, bells, marks, and a way to see who has died.
"""

import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import count
from math import inf
from typing import Any, NamedTuple

from busway.bus import names, records
from busway.bus.bell import Bell
from busway.bus.codec import (
    Envelope,
    Ids,
    Kind,
    decode_envelope,
    decode_message,
    encode_envelope,
    encode_message,
)
from busway.bus.errors import BusError, ChannelFull, LayerClosed, LayerUnavailable, UsageError
from busway.bus.groups import LocalGroups
from busway.bus.held import Held
from busway.bus.layer import (
    ChannelLayer,
    Delivery,
    GroupAdd,
    GroupDiscard,
    GroupSend,
    Leave,
    Operation,
    Outcome,
    Receiver,
    Refusal,
    Return,
    Send,
    Statistics,
)
from busway.bus.messages import Message
from busway.bus.sweep import clear, count_messages, sweep
from busway.bus.transaction import Parcel, Store, Transaction

SWEEP_INTERVAL = 5.0
"""Seconds between two looks of a process for what has expired or died."""

Step = Callable[[Transaction], None]
_Taken = tuple[Envelope, bytes, tuple[str, ...]]
"""A message taken: decoded, as it was stored, and to which members it goes."""


class _Request(NamedTuple):
    """What `StoredReceiver.exchange` was asked, made ready."""

    operations: Sequence[Operation]
    steps: Sequence[Parcel | Step]
    done: Sequence[Delivery]
    limit: int
    now: float
    wake_below: int
    hold: bool


class StoreFull(BusError):
    """A transaction found no room in the store, and nothing of it was done."""


class Mark:
    """Where a receiver notes how much of its batch it has begun; this one forgets."""

    def write(self, batch: int, begun: int) -> None:
        """Note that `begun` messages of `batch` have been begun."""

    def close(self) -> None:
        """Remove the mark."""


class StoredLayer(ChannelLayer):
    """A channel layer over a store."""

    def __init__(self, **options: Any) -> None:
        """Take the options of `ChannelLayer`."""
        super().__init__(**options)
        self.process = names.random_part()
        """This process's name on the bus."""
        self.groups = LocalGroups()
        self.ids = Ids()
        self.next_sweep = 0.0
        self._swept = b""
        self._numbers = count()

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Store]:
        """Begin a transaction: committed at the end of the `with` block, undone on an error."""

    @abstractmethod
    def bell(self, receiver: str) -> Bell:
        """Return a new bell that `ring` reaches under the name `receiver`."""

    @abstractmethod
    def ring(self, receivers: Sequence[str]) -> None:
        """Wake receivers; those that have died are cleaned up."""

    def mark(self, receiver: str) -> Mark:
        """Return the place where `receiver` notes what it has begun."""
        return Mark()

    def forget(self, receiver: str) -> None:
        """Remove what `ring` knows of a receiver that was closed."""

    def bury(self) -> None:
        """Find processes that have died and settle what they held."""

    def receiver(self) -> Receiver:
        """Return a new reader of this layer, for one thread or one event loop; close it after."""
        if self._closed:
            raise LayerClosed("channel layer")
        return StoredReceiver(self, f"{self.process}.{next(self._numbers)}")

    def group_channels(self, group: str) -> list[str]:
        """Return the member channels of `group`, in no particular order."""
        prefix = records.member_key(names.check_group(group), "")
        now = time.time()
        with self.transaction() as store:
            return [
                key[len(prefix) :].decode()
                for key, raw in store.scan(prefix)
                if records.decode_expiry(raw) > now
            ]

    def flush(self) -> None:
        """Drop every message, group and count. Receivers that wait go on waiting."""
        with self.transaction() as store:
            clear(store)
        self.groups = LocalGroups()
        self._local.clear()

    def statistics(self, channel: str | None = None) -> Statistics:
        """Return the counts of `channel` (or prefix), or of the whole layer for None."""
        if channel is not None:
            names.check_receivable(channel)
        with self.transaction() as store:
            return count_messages(store, channel, time.time())

    def tidy(self, now: float) -> None:
        """Drop what has expired and settle what the dead have left, every few seconds."""
        self.next_sweep = now + SWEEP_INTERVAL
        self.bury()
        with self.transaction() as store:
            step = Transaction(store, self.policies, now)
            self._swept = sweep(store, step, now, self._swept)
            step.finish()
        self.ring(step.rings)


class StoredReceiver(Receiver):
    """A reader of a stored layer."""

    def __init__(self, layer: StoredLayer, name: str) -> None:
        """Make the reader `name` of `layer`."""
        self.name = name
        self._layer = layer
        self._bell = layer.bell(name)
        self._mark: Mark | None = None
        self._held = Held()
        self._subscription = ""
        """The subscription that this receiver is registered with, or empty."""
        self._channels: tuple[str, ...] = ()
        self._channels_name = ""
        self._due = 0.0
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
        steps = [self._prepare(operation, now) for operation in operations]
        if channels and tuple(channels) != self._channels:
            self._channels = tuple(names.check_receivable(name) for name in channels)
            self._channels_name = records.subscription_name(self._channels)
        if limit and now >= self._layer.next_sweep:
            self._layer.tidy(now)
        request = _Request(operations, steps, done, limit, now, wake_below, hold)
        try:
            return self._run(request)
        except StoreFull:
            return self._run_full(request)

    def _run(self, request: _Request, room: int | None = None) -> Outcome:
        operations, steps, done, limit, now, wake_below, hold = request
        with self._layer.transaction() as store:
            step = Transaction(store, self._layer.policies, now, room)
            sender = self.name if wake_below else ""
            refused = self._apply(step, operations, steps, sender)
            returned = [o.delivery for o in operations if isinstance(o, Return)]
            step.put_back([raw for d in returned if (raw := self._held.get(d)) is not None])
            earlier = self._unsubscribe(step)
            for delivery in done:
                if delivery.lane:
                    step.release(delivery.lane, delivery.id)
            taken = self._take(step, limit, now) if limit else []
            self._keep(step, done, returned, taken, hold=hold)
            if limit and len(taken) < wake_below:
                step.subscribe(self.name, self._channels, self._channels_name, self._layer.process)
                self._subscription = self._channels_name
            elif earlier:
                step.pass_on(earlier)
            step.finish()
        if step.rings:
            self._layer.ring(list(dict.fromkeys(step.rings)))
        return Outcome(self._deliver(taken, hold=hold), refused)

    def _run_full(self, request: _Request) -> Outcome:
        """Exchange on a store that turned out to be full: what would add to it is refused."""
        with self._layer.transaction() as store:
            raw = store.get(records.hold_key(self.name))
            self._held.restore(records.decode_hold(raw) if raw else None)
        try:
            return self._run(request, room=0)
        except StoreFull as error:
            raise LayerUnavailable(
                "the bus is full to the last page; make it larger ('size'), or add workers"
            ) from error

    def _apply(
        self,
        step: Transaction,
        operations: Sequence[Operation],
        steps: Sequence[Parcel | Step],
        sender: str,
    ) -> list[Refusal]:
        refused = []
        for index, item in enumerate(steps):
            if not isinstance(item, Parcel):
                item(step)
                continue
            why = step.send(item, sender)
            if why is not None:
                error = ChannelFull(why.channel, why.reason, why.limit)
                refused.append(Refusal(index, operations[index], error))
        return refused

    def _unsubscribe(self, step: Transaction) -> str:
        """Take this receiver off the list it is on; returns that list's name, or ""."""
        earlier, self._subscription = self._subscription, ""
        if earlier:
            step.unsubscribe(self.name, earlier)
        return earlier

    def _take(self, step: Transaction, limit: int, now: float) -> list[_Taken]:
        """Take messages; notices about groups are seen to here, and do not count."""
        self._due = step.promote()
        taken: list[_Taken] = []
        while len(taken) < limit:
            before = len(taken)
            data = step.take(self._channels, limit - before)
            for raw in data:
                envelope = decode_envelope(raw)
                if envelope.kind is Kind.MESSAGE:
                    taken.append((envelope, raw, ()))
                elif members := self._note(envelope, now):
                    taken.append((envelope, raw, members))
            if len(taken) - before == len(data):
                break
        return taken

    def _note(self, envelope: Envelope, now: float) -> tuple[str, ...]:
        """See to a notice; for a group message, return this process's members."""
        groups = self._layer.groups
        if envelope.kind is Kind.GROUP_MESSAGE:
            return groups.members(envelope.group, envelope.channel, now)
        if envelope.kind is Kind.JOINED:
            expires = envelope.sent + self._layer.group_expiry
            groups.add(envelope.group, envelope.channel, expires)
        else:
            groups.discard(envelope.group, envelope.channel)
        return ()

    def _keep(
        self,
        step: Transaction,
        done: Sequence[Delivery],
        returned: Sequence[Delivery],
        taken: Sequence[_Taken],
        *,
        hold: bool,
    ) -> None:
        """Bring what this receiver holds up to date, here and in the store."""
        changed = self._held.finish(done, returned) if done or returned else False
        fresh = []
        for envelope, raw, _ in taken:
            if not hold:
                if envelope.lane:
                    step.release(envelope.lane, envelope.id)
            elif "!" not in envelope.channel and "?" not in envelope.channel:
                fresh.append((envelope.id, raw))
        if fresh:
            self._held.take(fresh)
        if fresh or changed:
            step.hold(self.name, self._held.record())

    def _deliver(self, taken: Sequence[_Taken], *, hold: bool) -> list[Delivery]:
        deliveries = []
        place = 0
        for envelope, _, members in taken:
            channel = envelope.channel
            delivery = Delivery(
                channel,
                decode_message(envelope.body),
                members,
                envelope.id,
                envelope.sent,
                envelope.attempt,
                envelope.lane,
            )
            if hold and "!" not in channel and "?" not in channel:
                delivery.batch, delivery.place = self._held.batch, place
                place += 1
            deliveries.append(delivery)
        return deliveries

    # -- operations made ready ----------------------------------------------------------

    def _prepare(self, operation: Operation, now: float) -> Parcel | Step:
        """Check and encode an operation, outside the transaction."""
        layer = self._layer
        match operation:
            case Send(channel, message, delay):
                names.check_channel(channel)
                return self._parcel(channel, message, now, delay=delay)
            case GroupSend(group, message):
                names.check_group(group)
                body = encode_message(message, group, layer.message_size)
                return partial(self._group_send, group, message, body, now)
            case GroupAdd(group, channel):
                names.check_group(group)
                names.check_channel(channel)
                notice = self._notice(Kind.JOINED, group, channel, now)
                expires = now + layer.group_expiry
                return lambda step: step.group_add(group, channel, expires, notice)
            case GroupDiscard(group, channel):
                names.check_group(group)
                names.check_channel(channel)
                notice = self._notice(Kind.LEFT, group, channel, now)
                return lambda step: step.group_discard(group, channel, notice)
            case Leave(channel):
                names.check_channel(channel)
                layer.groups.leave(channel)
                return lambda step: step.leave(channel)
            case Return(delivery):
                if self._held.get(delivery) is None:
                    raise UsageError(
                        f"a delivery on {delivery.channel!r} cannot be returned: this receiver "
                        "does not hold it (any more); return it before it is done, and once"
                    )
                return _later

    def _parcel(self, channel: str, message: Message, now: float, delay: float) -> Parcel:
        layer = self._layer
        body = encode_message(message, channel, layer.message_size)
        pattern, policy = layer.policies.find(channel)
        lane = ""
        if policy.ordering is not None:
            key = message.get(policy.ordering)
            if key is not None:
                lane = f"{pattern}\0{key}"
        if delay and not 0 <= delay < inf:
            raise UsageError(f"delay is {delay!r}; expected seconds, 0 or more")
        id_ = layer.ids.new()
        expires = now + delay + policy.expiry
        return Parcel(
            names.address(channel),
            encode_envelope(Envelope(expires, id_, channel, now, body, lane)),
            id_,
            lane,
            policy.capacity,
            policy.lane_capacity,
            now + delay if delay else 0.0,
        )

    def _notice(self, kind: Kind, group: str, channel: str, now: float) -> Parcel | None:
        """Return what tells the process that owns `channel`; None when no process does."""
        if "!" not in channel:
            return None
        _, policy = self._layer.policies.find(channel)
        envelope = Envelope(
            now + policy.expiry, self._layer.ids.new(), channel, now, b"", "", kind, group
        )
        return Parcel(names.address(channel), encode_envelope(envelope), envelope.id, "", 0, 0, 0.0)

    def _group_send(
        self, group: str, message: Message, body: bytes, now: float, step: Transaction
    ) -> None:
        for target in step.group_targets(group):
            pattern, policy = self._layer.policies.find(target)
            kind, lane = Kind.GROUP_MESSAGE, ""
            if target[-1] != "!":
                kind = Kind.MESSAGE
                if policy.ordering is not None and message.get(policy.ordering) is not None:
                    lane = f"{pattern}\0{message[policy.ordering]}"
            id_ = self._layer.ids.new()
            envelope = Envelope(now + policy.expiry, id_, target, now, body, lane, kind, group)
            data = encode_envelope(envelope)
            step.group_send(
                Parcel(target, data, id_, lane, policy.capacity, policy.lane_capacity, 0.0)
            )

    # -- waiting ------------------------------------------------------------------------

    def begin(self, delivery: Delivery) -> None:
        """See `Receiver.begin`. It costs no transaction."""
        if delivery.batch and delivery.batch == self._held.batch:
            self._held.begin(delivery.place)
            if self._mark is None:
                self._mark = self._layer.mark(self.name)
            self._mark.write(delivery.batch, delivery.place + 1)

    def wait(self, timeout: float | None = None) -> bool:
        """See `Receiver.wait`."""
        patience = self._patience()
        if timeout is not None and timeout <= patience:
            return self._bell.wait(timeout)
        self._bell.wait(patience)
        return True

    async def async_wait(self, timeout: float | None = None) -> bool:
        """See `Receiver.async_wait`."""
        patience = self._patience()
        if timeout is not None and timeout <= patience:
            return await self._bell.async_wait(timeout)
        await self._bell.async_wait(patience)
        return True

    def _patience(self) -> float:
        """Seconds after which this receiver looks without having been woken."""
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

    def close(self) -> None:
        """See `Receiver.close`."""
        if self._closed:
            return
        self._closed = True
        with self._layer.transaction() as store:
            step = Transaction(store, self._layer.policies, time.time())
            earlier = self._unsubscribe(step)
            step.hold(self.name, self._held.record())
            step.settle(self.name, self._held.batch, self._held.begun)
            if earlier:
                step.pass_on(earlier)
            step.finish()
        self._layer.ring(list(dict.fromkeys(step.rings)))
        self._layer.forget(self.name)
        self._bell.close()
        if self._mark is not None:
            self._mark.close()


def _later(step: Transaction) -> None:
    """Do nothing: what is given back is put back all at once, to keep its order."""
