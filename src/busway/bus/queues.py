"""Queues and lanes: how messages are placed, taken, put back and dropped."""

from collections.abc import Sequence
from itertools import count

from busway.bus import records
from busway.bus.codec import decode_envelope, expires_of, is_notice
from busway.bus.membership import leave
from busway.bus.names import address
from busway.bus.parcels import Parcel, Refused, pack
from busway.bus.records import ChannelRecord
from busway.bus.transaction import Transaction

MAX_BATCH_SIZE = 4 * 1024 * 1024
"""An exchange stops taking messages at this many bytes."""

IDLE_AGE = 60.0
"""Seconds after which the record of an unused `?` channel or prefix is removed."""

_RETRY_DUE = 0.5
"""Seconds until a delayed message that found no room is tried again."""

_turns = count()


def send(step: Transaction, parcel: Parcel, sender: str) -> Refused | None:
    """Store a message in its queue, behind its lane, or until it is due.

    When there is no room, returns why, and registers `sender` ("" for nobody) to be woken
    when there may be.
    """
    record = step.channel(parcel.address)
    if (
        record.tail - record.head < parcel.capacity
        and not parcel.due
        and not step.closed_lanes
        and step.fits(parcel.size)
        and (
            not parcel.lane or step.store.put(parcel.lane_key, parcel.lane_record, overwrite=False)
        )
    ):
        # What nearly every message meets: room, and nobody of its lane before it.
        step.enqueue(parcel, record)
        refused = None
    else:
        refused = _send_carefully(step, parcel, record, sender)
    step.changed.add(parcel.address)
    if refused is None:
        record.accepted += 1
    else:
        record.refused += 1
    return refused


def _send_carefully(
    step: Transaction, parcel: Parcel, record: ChannelRecord, sender: str
) -> Refused | None:
    if parcel.lane and parcel.lane in step.closed_lanes:
        refused: Refused | None = Refused(parcel.address, "lane", parcel.lane_capacity)
    elif not step.fits(parcel.size):
        refused = Refused(parcel.address, "memory", step.store.limit())
    elif parcel.due > step.now:
        delay(step, parcel, parcel.due)
        step.ring(record, everyone=True)
        return None
    else:
        refused = place(step, parcel, record, sender)
    if refused is None:
        return None
    if parcel.lane:
        step.closed_lanes.add(parcel.lane)
    if sender and sender not in record.blocked:
        record.blocked.append(sender)
    return refused


def place(step: Transaction, parcel: Parcel, record: ChannelRecord, sender: str) -> Refused | None:
    """Put a message that is due into its queue, or behind its lane."""
    full = record.pending() >= parcel.capacity and not purge(
        step, parcel.address, record, parcel.capacity
    )
    if not parcel.lane:
        if full:
            return Refused(parcel.address, "capacity", parcel.capacity)
        step.enqueue(parcel, record)
        return None
    key = parcel.lane_key
    if not full and step.store.put(key, parcel.lane_record, overwrite=False):
        step.enqueue(parcel, record)
        return None
    raw = step.store.get(key)
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
        step.store.put(records.backlog_key(parcel.lane, lane.tail), parcel.data)
        lane.tail += 1
    step.store.put(key, records.encode(lane))
    return refused


def delay(step: Transaction, parcel: Parcel, due: float) -> None:
    """Keep a message until it is `due`, in seconds since the epoch."""
    step.store.put(records.delayed_key(due, parcel.id), parcel.data)
    raw = step.store.get(records.NEXT_DUE_KEY)
    if raw is None or due < records.decode_time(raw):
        step.store.put(records.NEXT_DUE_KEY, records.encode(due))


def promote(step: Transaction) -> float:
    """Send the delayed messages that are due; returns when the next one is, or 0."""
    raw = step.store.get(records.NEXT_DUE_KEY)
    if raw is None:
        return 0.0
    due = records.decode_time(raw)
    if due > step.now:
        return due
    step.store.pop(records.NEXT_DUE_KEY)
    for key, data in step.store.scan(b"d"):
        due = records.due_of(key)
        if due > step.now:
            step.store.put(records.NEXT_DUE_KEY, records.encode(due))
            return due
        step.store.pop(key)
        envelope = decode_envelope(data)
        _, policy = step.policies.find(envelope.channel)
        parcel = pack(envelope, data, policy)
        step.changed.add(parcel.address)
        if place(step, parcel, step.channel(parcel.address), "") is not None:
            delay(step, parcel, step.now + _RETRY_DUE)
    return 0.0


def put_back(step: Transaction, envelopes: Sequence[bytes]) -> None:
    """Put messages that were not begun in front of their queues; they keep their lanes."""
    for data in reversed(envelopes):
        envelope = decode_envelope(data)
        where = address(envelope.channel)
        record = step.channel(where)
        record.head -= 1
        step.store.put(records.queue_prefix(where) + records.index_key(record.head), data)
        step.changed.add(where)
        step.ring(record)


def take(step: Transaction, channels: Sequence[str], limit: int) -> list[bytes]:
    """Take up to `limit` messages off `channels`, a fair share of each, FIFO in each.

    Notices on the way are taken as well, and do not count.
    """
    found = [(name, step.channel(name)) for name in channels if not step.is_empty(name)]
    if not found:
        return []
    taken: list[bytes] = []
    left = limit
    if len(found) > 1:
        first = next(_turns) % len(found)
        found = found[first:] + found[:first]
        share = max(1, limit // len(found))
        for name, record in found:
            left -= _take_from(step, name, record, min(share, left), taken)
    for name, record in found:
        left -= _take_from(step, name, record, left, taken)
    return taken


def _take_from(
    step: Transaction, name: str, record: ChannelRecord, limit: int, taken: list[bytes]
) -> int:
    """Take up to `limit` messages off one queue; returns how many."""
    if limit <= 0 or record.head == record.tail:
        return 0
    pop, prefix = step.store.pop, records.queue_prefix(name)
    size = sum(map(len, taken))
    left = limit
    while left and record.head < record.tail and size < MAX_BATCH_SIZE:
        data = pop(prefix + records.index_key(record.head))
        record.head += 1
        if data is None:
            continue
        if expires_of(data) <= step.now and expire(step, record, data):
            continue
        taken.append(data)
        if is_notice(data):
            record.notices -= 1
        else:
            size += len(data)
            left -= 1
    step.changed.add(name)
    step.unblock(record)
    return limit - left


def release(step: Transaction, lane: str, id_: int) -> None:
    """Let a lane go on after its message `id_` was handled: the next one joins its queue."""
    key = records.lane_key(lane)
    raw = step.store.pop(key)
    if raw is None:
        return
    record = records.decode_lane(raw)
    if record.current != id_:  # flushed meanwhile, and in use again
        step.store.put(key, raw)
        return
    step.rings.extend(record.blocked)
    record.blocked = []
    while record.head < record.tail:
        data = step.store.pop(records.backlog_key(lane, record.head))
        record.head += 1
        if data is None:
            continue
        envelope = decode_envelope(data)
        where = address(envelope.channel)
        if envelope.expires <= step.now:
            step.drop(step.channel(where), where, "expired")
            continue
        record.current = envelope.id
        step.store.put(key, records.encode(record))
        _, policy = step.policies.find(envelope.channel)
        step.enqueue(pack(envelope, data, policy), step.channel(where))
        step.changed.add(where)
        return


def purge(step: Transaction, name: str, record: ChannelRecord, capacity: int) -> bool:
    """Drop expired messages at the head of a queue; True when there is room then."""
    while record.head < record.tail:
        key = records.queue_prefix(name) + records.index_key(record.head)
        data = step.store.get(key)
        if data is not None and expires_of(data) > step.now:
            break
        if data is not None and not expire(step, record, data):
            break
        step.store.pop(key)
        record.head += 1
        step.changed.add(name)
    return record.pending() < capacity


def expire(step: Transaction, record: ChannelRecord, data: bytes) -> bool:
    """Drop an expired message; False for what has to stay, notices to a living owner."""
    envelope = decode_envelope(data)
    if is_notice(data):
        if record.owner:
            return False
        record.notices -= 1
    else:
        step.drop(record, address(envelope.channel), "expired")
    if not record.owner:
        # Nobody reads the channel: it leaves its groups (ASGI, "Groups").
        leave(step, envelope.channel, None)
    if envelope.lane:
        release(step, envelope.lane, envelope.id)
    return True


def group_send(step: Transaction, parcel: Parcel) -> None:
    """Send to one target of a group; a full one is skipped, and counted."""
    record = step.channel(parcel.address)
    if step.fits(parcel.size) and place(step, parcel, record, "") is None:
        record.accepted += 1
    else:
        record.dropped["full"] = record.dropped.get("full", 0) + 1
    step.changed.add(parcel.address)


def tidy_channel(step: Transaction, name: str) -> None:
    """Drop a channel's expired messages, and its record when it was of passing use long ago."""
    record = step.channel(name)
    purge(step, name, record, 0)
    idle = record.head == record.tail and not record.subscriptions and not record.owner
    if idle and ("!" in name or "?" in name) and record.used < step.now - IDLE_AGE:
        step.forget(name)
