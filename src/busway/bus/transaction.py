"""One atomic step on a store: the records it has looked at, who waits, and whom to wake.

No I/O and no clock of its own. A backend opens a transaction of its store, does the steps of an
exchange (see `queues`, `membership`, `burial`) on a `Transaction`, calls `finish`, commits, and
then rings the receivers in `rings`.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from busway.bus import records
from busway.bus.bundles import tie_all
from busway.bus.errors import LayerUnavailable
from busway.bus.parcels import Parcel, Run
from busway.bus.plans import Plans
from busway.bus.records import ChannelRecord, SubscriptionRecord

EVERYONE = 1 << 62
"""To `Transaction.ring` all sleepers."""


class Data(Protocol):
    """The keys and values of a store, inside one transaction: as LMDB has them."""

    def get(self, key: bytes, /) -> bytes | None:
        """Return the value of `key`, or None."""

    def put(self, key: bytes, value: bytes, dupdata: bool = ..., overwrite: bool = ..., /) -> bool:
        """Store `value`; with `overwrite` False only if `key` is new. True if stored."""

    def pop(self, key: bytes, /) -> bytes | None:
        """Remove `key` and return its value, or None."""


class Store(Protocol):
    """What an exchange needs of its store, inside one transaction."""

    @property
    def data(self) -> Data:
        """Its keys and values."""

    def scan(self, prefix: bytes, /, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield keys that begin with `prefix`, and their values, in the order of the keys.

        Only those behind `after`. The store may be changed between two of them.
        """

    def reserve(self, size: int) -> int:
        """Be told that about `size` bytes are to be added; return how many more may be, then.

        Below 0: so many of them may not.
        """

    def limit(self) -> int:
        """Return how many bytes there may be in all."""


class StoreFull(LayerUnavailable):
    """A transaction found no room in the store, and nothing of it was done."""

    def __init__(self) -> None:
        super().__init__(
            "the bus is full to the last page; make it larger ('size'), or add workers"
        )


class Transaction(msgspec.Struct, gc=False):
    """One atomic step on a store."""

    store: Store
    data: Data
    """Those of `store`."""
    plans: Plans
    now: float
    """Seconds since the epoch."""
    room: int | None = None
    """Bytes that may be added; None: ask the store."""
    rings: list[str] = []
    """Receivers to wake after the commit."""
    channels: dict[str, ChannelRecord] = {}
    changed: dict[str, ChannelRecord] = {}
    """Channels whose record is to be written."""
    subscriptions: dict[str, SubscriptionRecord] = {}
    changed_subscriptions: dict[str, SubscriptionRecord] = {}
    closed_lanes: set[str] = set()
    """Lanes of messages that were refused: what follows them is refused too."""
    spent: int = 0
    """Bytes that were added and not reserved, about."""
    fresh: dict[str, list[Parcel]] = {}
    """What is to be put at the end of each queue: see `flush`."""

    # -- records ------------------------------------------------------------------------

    def channel(self, name: str) -> ChannelRecord:
        """Return the record of a channel or prefix; add its name to `changed` on a change."""
        record = self.channels.get(name)
        if record is None:
            raw = self.data.get(records.channel_key(name))
            record = records.decode_channel(raw) if raw else ChannelRecord()
            self.channels[name] = record
        return record

    def waiting(self, names: Sequence[str]) -> list[tuple[str, ChannelRecord]]:
        """Return those channels and prefixes that have something in their queues."""
        get, known = self.data.get, self.channels
        found = []
        for name in names:
            record = known.get(name)
            if record is None:
                raw = get(records.channel_key(name))
                if raw is None or records.is_empty_channel(raw):
                    continue
                record = known[name] = records.decode_channel(raw)
            if record.head != record.tail or name in self.fresh:
                found.append((name, record))
        return found

    def forget(self, name: str) -> None:
        """Remove the record of a channel that is empty; its counts are kept among the past."""
        raw = self.data.get(records.PAST_KEY)
        past = records.decode_channel(raw) if raw else ChannelRecord()
        past.count(self.channels[name])
        self.data.put(records.PAST_KEY, records.encode(past))
        self.data.pop(records.channel_key(name))
        self.changed.pop(name, None)
        del self.channels[name]

    def subscription(self, name: str) -> SubscriptionRecord | None:
        """Return the record of a subscription, or None."""
        record = self.subscriptions.get(name)
        if record is None and (raw := self.data.get(records.subscription_key(name))):
            record = self.subscriptions[name] = records.decode_subscription(raw)
        return record

    def expect(self, size: int) -> bool:
        """Say whether the store has room for `size` bytes. If not, `fits` tells what has."""
        if self.room is None:
            self.room = self.store.reserve(size)
            if self.room > 0:
                return True
            self.room += size
        return False

    def fits(self, size: int) -> bool:
        """Say whether the store has room for `size` more bytes, and count them."""
        if self.room is None:
            self.room = self.store.reserve(0)
        self.room -= size
        self.spent += size
        return self.room > 0

    def enqueue(self, parcel: Parcel, record: ChannelRecord) -> None:
        """Put a message at the end of a queue; it is there after `flush`."""
        record.pending += 1
        self.fresh.setdefault(parcel.plan.address, []).append(parcel)

    def enqueue_run(self, run: Run, record: ChannelRecord) -> None:
        """Put the messages of a run at the end of a queue, and wake whoever waits for them.

        Those of a run that is too large for one bundle are there after `flush`.
        """
        if not run.bundle:
            for parcel in run.parcels():
                self.enqueue(parcel, record)
            return
        plan, count = run.plan, len(run.places)
        if self.fresh:
            self.flush()  # it comes before
        self.data.put(plan.queue + records.index_key(record.tail), run.bundle)
        record.tail += 1
        record.pending += count
        self.changed[plan.address] = record
        if record.subscriptions:
            self.ring(record, count)

    def notify(self, notice: Parcel) -> None:
        """Put a notice about a group at the end of its owner's queue."""
        address = notice.plan.address
        self.channel(address)
        self.fresh.setdefault(address, []).append(notice)

    def flush(self) -> None:
        """Write what `enqueue` and `notify` have collected, and wake whoever waits for it."""
        for address, parcels in self.fresh.items():
            record = self.channels[address]
            queue = parcels[0].plan.queue
            for bundle in tie_all(parcels):
                self.data.put(queue + records.index_key(record.tail), bundle)
                record.tail += 1
            self.changed[address] = record
            if record.subscriptions:
                self.ring(record, len(parcels))
        self.fresh.clear()

    def drop(self, record: ChannelRecord, name: str, reason: str, count: int = 1) -> None:
        """Count messages that nobody will get."""
        record.dropped[reason] = record.dropped.get(reason, 0) + count
        self.changed[name] = record

    # -- who waits, and whom to wake ----------------------------------------------------

    def subscribe(self, receiver: str, channels: tuple[str, ...], name: str, owner: str) -> None:
        """Register `receiver` to be woken by the next message for one of `channels`.

        `name` is `records.subscription_name(channels)`; `owner` is the receiver's process,
        recorded as the reader of process-specific prefixes.
        """
        record = self.subscription(name)
        if record is None:
            record = self.subscriptions[name] = SubscriptionRecord(" ".join(channels))
            for channel in channels:
                found = self.channel(channel)
                found.subscriptions.append(name)
                if channel[-1] == "!":
                    found.owner = owner
                self.changed[channel] = found
        if receiver not in record.waiting:
            record.waiting.append(receiver)
            record.used = self.now
            self.changed_subscriptions[name] = record

    def unsubscribe(self, receiver: str, name: str) -> None:
        """Take `receiver` off the list, if it has not been woken and so taken off already."""
        record = self.subscription(name)
        if record is not None and receiver in record.waiting:
            record.waiting.remove(receiver)
            self.changed_subscriptions[name] = record

    def drop_subscription(self, name: str) -> None:
        """Forget a subscription; a receiver that comes back makes it anew."""
        record = self.subscription(name)
        if record is None:
            return
        for channel in record.channels.split():
            found = self.channel(channel)
            if name in found.subscriptions:
                found.subscriptions.remove(name)
                self.changed[channel] = found
        self.data.pop(records.subscription_key(name))
        del self.subscriptions[name]
        self.changed_subscriptions.pop(name, None)

    def ring(self, record: ChannelRecord, count: int = 1) -> None:
        """Wake the `count` longest sleepers on a channel."""
        for name in record.subscriptions:
            subscription = self.subscription(name)
            if subscription is not None and subscription.waiting:
                woken = subscription.waiting[:count]
                del subscription.waiting[:count]
                self.rings += woken
                self.changed_subscriptions[name] = subscription
                count -= len(woken)
                if not count:
                    return

    def channels_of(self, name: str) -> list[str]:
        """Return the channels of a subscription."""
        record = self.subscription(name)
        return record.channels.split() if record is not None else []

    def pass_on(self, channels: Sequence[str]) -> None:
        """Wake a sleeper for each of `channels` on which something waits."""
        for _, record in self.waiting(channels):
            self.ring(record)

    def unblock(self, record: ChannelRecord) -> None:
        """Wake the senders that found a channel full."""
        if record.blocked:
            self.rings.extend(record.blocked)
            record.blocked = []

    def finish(self) -> None:
        """Write what changed; call it before the commit."""
        if self.fresh:
            self.flush()
        if self.spent:
            self.store.reserve(self.spent)
        put, now, encode = self.data.put, self.now, records.encode
        for name, record in self.changed.items():
            record.used = now
            put(records.channel_key(name), encode(record))
        for name, subscription in self.changed_subscriptions.items():
            put(records.subscription_key(name), encode(subscription))
