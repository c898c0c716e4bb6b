"""The algorithm of an exchange, over any ordered key-value store. No I/O and no clock of its own.

A backend opens a transaction of its store, runs the steps here in the order of the contract,
calls `finish`, commits, and then rings the receivers in `rings`.
"""

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Protocol

import msgspec

from busway.bus import records
from busway.bus.codec import Kind, decode_envelope, expires_of
from busway.bus.names import address
from busway.bus.policy import Policies
from busway.bus.records import ChannelRecord, LaneRecord, SubscriptionRecord, TargetRecord


class Store(Protocol):
    """What an exchange needs of its store, inside one transaction."""

    def get(self, key: bytes, /) -> bytes | None:
        """Return the value of `key`, or None."""

    def put(self, key: bytes, value: bytes, /, *, overwrite: bool = True) -> bool:
        """Store `value`; with `overwrite` False only if `key` is new. True if stored."""

    def pop(self, key: bytes, /) -> bytes | None:
        """Remove `key` and return its value, or None."""

    def scan(self, prefix: bytes, /, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield keys that begin with `prefix`, and their values, in the order of the keys.

        Only those behind `after`. The store may be changed between two of them.
        """

    def room(self) -> int:
        """Return how many bytes may still be added."""


class Parcel(msgspec.Struct, frozen=True, gc=False):
    """A message made ready to be stored: all that could be done before the transaction."""

    address: str
    data: bytes
    id: int
    lane: str
    capacity: int
    lane_capacity: int
    due: float
    """When it is to be sent, in seconds since the epoch; 0: now."""


class Refused(msgspec.Struct, frozen=True, gc=False):
    """Why a parcel found no room: the fields of `ChannelFull`."""

    channel: str
    reason: str
    limit: int


MAX_BATCH_SIZE = 4 * 1024 * 1024
"""An exchange stops taking messages at this many bytes."""

_RETRY_DUE = 0.5
"""Seconds until a delayed message that found no room is tried again."""

_turns = count()


class Transaction:
    """One atomic step on a store."""

    def __init__(
        self, store: Store, policies: Policies, now: float, room: int | None = None
    ) -> None:
        """`now` is seconds since the epoch; `room` bytes may be added (None: ask the store)."""
        self.rings: list[str] = []
        """Receivers to wake after the commit."""
        self._store = store
        self._policies = policies
        self._now = now
        self._channels: dict[str, ChannelRecord] = {}
        self._changed: set[str] = set()
        self._subscriptions: dict[str, SubscriptionRecord | None] = {}
        self._changed_subscriptions: set[str] = set()
        self._closed_lanes: set[str] = set()
        self._room = room

    # -- sending ------------------------------------------------------------------------

    def send(self, parcel: Parcel, sender: str) -> Refused | None:
        """Store a message in its queue, behind its lane, or until it is due.

        When there is no room, returns why, and registers `sender` ("" for nobody) to be woken
        when there may be.
        """
        record = self._channel(parcel.address)
        if parcel.lane and parcel.lane in self._closed_lanes:
            refused: Refused | None = Refused(parcel.address, "lane", parcel.lane_capacity)
        elif not self._fits(parcel.data):
            refused = Refused(parcel.address, "memory", self._store.room())
        elif parcel.due > self._now:
            self._store.put(records.delayed_key(parcel.due, parcel.id), parcel.data)
            self._ring(record, everyone=True)
            refused = None
        else:
            refused = self._place(parcel, record, sender)
        self._changed.add(parcel.address)
        if refused is None:
            record.accepted += 1
            return None
        record.refused += 1
        if parcel.lane:
            self._closed_lanes.add(parcel.lane)
        if sender and sender not in record.blocked:
            record.blocked.append(sender)
        return refused

    def _place(self, parcel: Parcel, record: ChannelRecord, sender: str) -> Refused | None:
        """Put a message that is due into its queue, or behind its lane."""
        full = record.tail - record.head >= parcel.capacity and not self._purge(
            parcel.address, record, parcel.capacity
        )
        if not parcel.lane:
            if full:
                return Refused(parcel.address, "capacity", parcel.capacity)
            self._enqueue(parcel.address, record, parcel.data)
            return None
        key = records.lane_key(parcel.lane)
        if not full and self._store.put(
            key, records.encode(LaneRecord(parcel.id)), overwrite=False
        ):
            self._enqueue(parcel.address, record, parcel.data)
            return None
        raw = self._store.get(key)
        if raw is None:
            return Refused(parcel.address, "capacity", parcel.capacity)
        lane = records.decode_lane(raw)
        refused = None
        if lane.tail - lane.head >= parcel.lane_capacity:
            refused = Refused(parcel.address, "lane", parcel.lane_capacity)
            if not sender or sender in lane.blocked:
                return refused
            lane.blocked.append(sender)
        else:
            self._store.put(records.backlog_key(parcel.lane, lane.tail), parcel.data)
            lane.tail += 1
        self._store.put(key, records.encode(lane))
        return refused

    def _fits(self, data: bytes) -> bool:
        if self._room is None:
            self._room = self._store.room()
        # A record costs its key and page slack as well; large ones fill whole pages.
        self._room -= len(data) + 256 if len(data) < 2048 else len(data) + 4096
        return self._room > 0

    def _enqueue(self, address_: str, record: ChannelRecord, data: bytes) -> None:
        self._store.put(records.queue_prefix(address_) + records.index_key(record.tail), data)
        record.tail += 1
        self._changed.add(address_)
        if record.subscriptions:
            self._ring(record)

    def put_back(self, envelopes: Sequence[bytes]) -> None:
        """Put messages that were not begun in front of their queues; they keep their lanes."""
        for data in reversed(envelopes):
            envelope = decode_envelope(data)
            where = address(envelope.channel)
            record = self._channel(where)
            record.head -= 1
            self._store.put(records.queue_prefix(where) + records.index_key(record.head), data)
            self._changed.add(where)
            self._ring(record)

    def promote(self) -> float:
        """Send the delayed messages that are due; returns when the next one is, or 0."""
        for key, data in self._store.scan(b"d"):
            due = records.due_of(key)
            if due > self._now:
                return due
            self._store.pop(key)
            envelope = decode_envelope(data)
            _, policy = self._policies.find(envelope.channel)
            parcel = Parcel(
                address(envelope.channel),
                data,
                envelope.id,
                envelope.lane,
                policy.capacity,
                policy.lane_capacity,
                0.0,
            )
            if self._place(parcel, self._channel(parcel.address), "") is not None:
                again = self._now + _RETRY_DUE
                self._store.put(records.delayed_key(again, envelope.id), data)
        return 0.0

    # -- receiving ----------------------------------------------------------------------

    def take(self, channels: Sequence[str], limit: int) -> list[bytes]:
        """Take up to `limit` envelopes off `channels`, a fair share of each, FIFO in each."""
        found = [
            (name, record)
            for name in channels
            if (record := self._channel(name)).tail > record.head
        ]
        if not found:
            return []
        taken: list[bytes] = []
        if len(found) > 1:
            first = next(_turns) % len(found)
            found = found[first:] + found[:first]
            share = max(1, limit // len(found))
            for name, record in found:
                self._take_from(name, record, min(share, limit - len(taken)), taken)
        for name, record in found:
            self._take_from(name, record, limit - len(taken), taken)
            if record.tail > record.head:
                # Others may be asleep while this receiver works on what it got.
                self._ring(record)
        return taken

    def _take_from(self, name: str, record: ChannelRecord, limit: int, taken: list[bytes]) -> None:
        if limit <= 0 or record.head == record.tail:
            return
        pop, prefix = self._store.pop, records.queue_prefix(name)
        size = sum(map(len, taken))
        while limit and record.head < record.tail and size < MAX_BATCH_SIZE:
            data = pop(prefix + records.index_key(record.head))
            record.head += 1
            if data is None:
                continue
            if expires_of(data) <= self._now and self._expire(record, data):
                continue
            taken.append(data)
            size += len(data)
            limit -= 1
        self._changed.add(name)
        self._unblock(record)

    def _unblock(self, record: ChannelRecord) -> None:
        if record.blocked:
            self.rings.extend(record.blocked)
            record.blocked = []

    def release(self, lane: str, id_: int) -> None:
        """Let a lane go on after its message `id_` was handled: the next one joins its queue."""
        key = records.lane_key(lane)
        raw = self._store.pop(key)
        if raw is None:
            return
        record = records.decode_lane(raw)
        if record.current != id_:  # flushed meanwhile, and in use again
            self._store.put(key, raw)
            return
        self.rings.extend(record.blocked)
        record.blocked = []
        while record.head < record.tail:
            data = self._store.pop(records.backlog_key(lane, record.head))
            record.head += 1
            if data is None:
                continue
            envelope = decode_envelope(data)
            where = address(envelope.channel)
            if envelope.expires <= self._now:
                self._drop(self._channel(where), where, "expired")
                continue
            record.current = envelope.id
            self._store.put(key, records.encode(record))
            self._enqueue(where, self._channel(where), data)
            return

    # -- waiting ------------------------------------------------------------------------

    def subscribe(self, receiver: str, channels: tuple[str, ...], name: str, owner: str) -> None:
        """Register `receiver` to be woken by the next message for one of `channels`.

        `name` is `records.subscription_name(channels)`; `owner` is the receiver's process,
        recorded as the reader of process-specific prefixes.
        """
        record = self._subscription(name)
        if record is None:
            record = self._subscriptions[name] = SubscriptionRecord(list(channels))
            for channel in channels:
                found = self._channel(channel)
                found.subscriptions.append(name)
                if channel[-1] == "!":
                    found.owner = owner
                self._changed.add(channel)
        record.waiting.append(receiver)
        record.used = self._now
        self._changed_subscriptions.add(name)

    def unsubscribe(self, receiver: str, name: str) -> bool:
        """Take `receiver` off the list; False when it was woken, so no longer on it."""
        record = self._subscription(name)
        if record is None or receiver not in record.waiting:
            return False
        record.waiting.remove(receiver)
        self._changed_subscriptions.add(name)
        return True

    def pass_on(self, name: str) -> None:
        """Wake another sleeper for what still waits on a subscription's channels."""
        record = self._subscription(name)
        if record is not None and record.waiting:
            for channel in record.channels:
                found = self._channel(channel)
                if found.tail > found.head:
                    self._ring(found)

    def _ring(self, record: ChannelRecord, *, everyone: bool = False) -> None:
        for name in record.subscriptions:
            subscription = self._subscription(name)
            while subscription is not None and subscription.waiting:
                self.rings.append(subscription.waiting.pop(0))
                self._changed_subscriptions.add(name)
                if not everyone:
                    return

    # -- groups -------------------------------------------------------------------------

    def group_add(self, group: str, channel: str, expires: float, notice: Parcel | None) -> None:
        """Record a membership until `expires`; `notice` tells the process that owns `channel`."""
        target_key = records.target_key(group, address(channel))
        raw = self._store.get(target_key)
        target = records.decode_target(raw) if raw else TargetRecord(0, 0.0)
        key = records.member_key(group, channel)
        if self._store.put(key, records.encode(expires), overwrite=False):
            self._store.put(records.membership_key(channel, group), b"")
            target.members += 1
        else:
            self._store.put(key, records.encode(expires))
        target.expires = max(target.expires, expires)
        self._store.put(target_key, records.encode(target))
        if notice:
            self._enqueue(notice.address, self._channel(notice.address), notice.data)

    def group_discard(self, group: str, channel: str, notice: Parcel | None) -> None:
        """Remove a membership, if there is one; `notice` tells the owner of `channel`."""
        if self._store.pop(records.member_key(group, channel)) is None:
            return
        self._store.pop(records.membership_key(channel, group))
        key = records.target_key(group, address(channel))
        raw = self._store.get(key)
        if raw:
            target = records.decode_target(raw)
            target.members -= 1
            if target.members > 0:
                self._store.put(key, records.encode(target))
            else:
                self._store.pop(key)
        if notice:
            self._enqueue(notice.address, self._channel(notice.address), notice.data)

    def leave(self, channel: str) -> None:
        """Remove every membership of `channel`."""
        prefix = records.membership_key(channel, "")
        for key, _ in self._store.scan(prefix):
            self.group_discard(key[len(prefix) :].decode(), channel, None)

    def group_targets(self, group: str) -> list[str]:
        """Return the addresses that a message to `group` goes to; ended memberships leave."""
        prefix = records.target_key(group, "")
        targets = []
        for key, raw in self._store.scan(prefix):
            if records.decode_target(raw).expires > self._now:
                targets.append(key[len(prefix) :].decode())
        return targets

    def group_send(self, parcel: Parcel) -> None:
        """Send to one target of a group; a full one is skipped, and counted."""
        record = self._channel(parcel.address)
        if self._fits(parcel.data) and self._place(parcel, record, "") is None:
            record.accepted += 1
        else:
            record.dropped["full"] = record.dropped.get("full", 0) + 1
        self._changed.add(parcel.address)

    # -- dropping -----------------------------------------------------------------------

    def _purge(self, name: str, record: ChannelRecord, capacity: int) -> bool:
        """Drop expired messages at the head of a queue; True when there is room then."""
        while record.head < record.tail:
            key = records.queue_prefix(name) + records.index_key(record.head)
            data = self._store.get(key)
            if data is not None and expires_of(data) > self._now:
                break
            if data is not None and not self._expire(record, data):
                break
            self._store.pop(key)
            record.head += 1
            self._changed.add(name)
        return record.tail - record.head < capacity

    def _expire(self, record: ChannelRecord, data: bytes) -> bool:
        """Drop an expired message; False for what has to stay, notices to a living owner."""
        envelope = decode_envelope(data)
        if envelope.kind in (Kind.JOINED, Kind.LEFT) and record.owner:
            return False
        self._drop(record, address(envelope.channel), "expired")
        if not record.owner:
            # Nobody reads the channel: it leaves its groups (ASGI, "Groups").
            self.leave(envelope.channel)
        if envelope.lane:
            self.release(envelope.lane, envelope.id)
        return True

    def _drop(self, record: ChannelRecord, name: str, reason: str) -> None:
        record.dropped[reason] = record.dropped.get(reason, 0) + 1
        self._changed.add(name)

    # -- what receivers hold, and their end ---------------------------------------------

    def hold(self, receiver: str, hold: records.HoldRecord) -> None:
        """Record what `receiver` has in its hands."""
        key = records.hold_key(receiver)
        if hold.envelopes:
            self._store.put(key, records.encode(hold))
        else:
            self._store.pop(key)

    def settle(self, receiver: str, batch: int, begun: int) -> None:
        """Settle what a dead receiver held; its mark says that it began `begun` of `batch`.

        Messages that it began are lost, and counted; the others go back in front.
        """
        raw = self._store.pop(records.hold_key(receiver))
        if raw is None:
            return
        hold = records.decode_hold(raw)
        lost = hold.begun + (max(0, begun - hold.first) if batch == hold.batch else 0)
        self.put_back(hold.envelopes[lost:])
        for data in hold.envelopes[:lost]:
            envelope = decode_envelope(data)
            where = address(envelope.channel)
            self._drop(self._channel(where), where, "receiver died")
            if envelope.lane:
                self.release(envelope.lane, envelope.id)

    def bury(self, process: str, marks: dict[str, tuple[int, int]]) -> None:
        """Clean up after a process that died.

        `marks` says for each of its receivers which batch it was in, and how many it had begun.
        """
        for key, _ in self._store.scan(records.hold_key(process + ".")):
            receiver = key[1:].decode()
            self.settle(receiver, *marks.get(receiver, (0, 0)))
        for key, raw in self._store.scan(b"s"):
            waiting = records.decode_subscription(raw).waiting
            for receiver in waiting:
                if receiver.startswith(process + "."):
                    self.unsubscribe(receiver, key[1:].decode())
        for key, raw in self._store.scan(b"c"):
            name = key[1:].decode()
            if records.decode_channel(raw).owner == process:
                self._abandon(name)
            elif (record := self._channel(name)).tail > record.head:
                # A dead receiver may have been the one that was woken for it.
                self._ring(record)

    def _abandon(self, prefix: str) -> None:
        """Drop what waits for a prefix whose process died; its channels leave their groups."""
        record = self._channel(prefix)
        record.owner = ""
        while record.head < record.tail:
            self._store.pop(records.queue_prefix(prefix) + records.index_key(record.head))
            record.head += 1
            self._drop(record, prefix, "receiver died")
        self._changed.add(prefix)
        self._unblock(record)
        for key, _ in self._store.scan(b"r" + prefix.encode()):
            channel, _, group = key[1:].decode().partition("\0")
            self.group_discard(group, channel, None)

    def tidy_channel(self, name: str) -> None:
        """Drop a channel's expired messages, and its record when it was of passing use."""
        record = self._channel(name)
        self._purge(name, record, 0)
        idle = record.head == record.tail and not record.subscriptions and not record.owner
        if idle and ("!" in name or "?" in name):
            self._store.pop(records.channel_key(name))
            self._changed.discard(name)
            del self._channels[name]

    def drop_subscription(self, name: str) -> None:
        """Forget a subscription; a receiver that comes back makes it anew."""
        record = self._subscription(name)
        if record is None:
            return
        for channel in record.channels:
            found = self._channel(channel)
            if name in found.subscriptions:
                found.subscriptions.remove(name)
                self._changed.add(channel)
        self._store.pop(records.subscription_key(name))
        self._subscriptions[name] = None
        self._changed_subscriptions.discard(name)

    # -- records ------------------------------------------------------------------------

    def _channel(self, name: str) -> ChannelRecord:
        record = self._channels.get(name)
        if record is None:
            raw = self._store.get(records.channel_key(name))
            record = records.decode_channel(raw) if raw else ChannelRecord()
            self._channels[name] = record
        return record

    def _subscription(self, name: str) -> SubscriptionRecord | None:
        if name in self._subscriptions:
            return self._subscriptions[name]
        raw = self._store.get(records.subscription_key(name))
        record = records.decode_subscription(raw) if raw else None
        self._subscriptions[name] = record
        return record

    def finish(self) -> None:
        """Write what changed; call it before the commit."""
        for name in self._changed:
            self._store.put(records.channel_key(name), records.encode(self._channels[name]))
        for name in self._changed_subscriptions:
            self._store.put(
                records.subscription_key(name), records.encode(self._subscriptions[name])
            )
