"""Queues and lanes: how messages are placed, taken, put back and dropped."""

from collections.abc import Sequence
from itertools import count
from operator import attrgetter

from busway.bus import records
from busway.bus.bundles import count_of, expires_of, is_notice, tie, untie
from busway.bus.codec import Envelope, decode_envelope
from busway.bus.membership import leave
from busway.bus.names import address
from busway.bus.operations import Delivery
from busway.bus.parcels import Parcel, Refused, Run, repack, size_of
from busway.bus.records import ChannelRecord, LaneRecord
from busway.bus.transaction import EVERYONE, Store, Transaction

MAX_BATCH_SIZE = 4 * 1024 * 1024
"""An exchange stops taking messages at this many bytes."""

IDLE_AGE = 60.0
"""Seconds after which the record of an unused `?` channel or prefix is removed."""

MAX_PROMOTED = 500
"""Delayed messages that one exchange sends; the next goes on."""

_turns = count()
_lane_of = attrgetter("lane")


def send_run(
    step: Transaction, run: Run, sender: str, *, fits: bool
) -> Sequence[tuple[int, Refused]]:
    """Store the messages of a run; returns the places of those that found no room, and why.

    See `send` for the rest.
    """
    plan = run.plan
    record = step.channel(plan.address)
    count = len(run.places)
    begun = 0
    if fits and not step.closed_lanes and record.pending + count <= plan.capacity:
        # What nearly every message meets: room, and nobody of its lane before it.
        begun = _begin_lanes(step, run) if run.lanes else count
        if begun == count:
            step.enqueue_run(run, record)
            record.accepted += count
            return ()
    parcels = run.parcels()
    for parcel in parcels[:begun]:
        step.enqueue(parcel, record)
    record.accepted += begun
    refused = []
    for place, parcel in zip(run.places[begun:], parcels[begun:], strict=True):
        why = send(step, parcel, sender, fits=fits)
        if why is not None:
            refused.append((place, why))
    return refused


def _begin_lanes(step: Transaction, run: Run) -> int:
    """Bring the lanes of a run's messages into use, up to one that is; returns how many."""
    put = step.data.put
    for number, (key, record) in enumerate(run.lanes):
        if key and not put(key, record, True, False):
            return number
    return len(run.lanes)


def send(step: Transaction, parcel: Parcel, sender: str, *, fits: bool) -> Refused | None:
    """Store a message in its queue, behind its lane, or until it is due.

    `fits` says that the store is known to have room for it. When there is no room, returns why,
    and registers `sender` ("" for nobody) to be woken when there may be.
    """
    plan = parcel.plan
    record = step.channel(plan.address)
    refused = _send(step, parcel, record, sender, fits=fits)
    if refused is None:
        record.accepted += 1
    else:
        record.refused += 1
    step.changed[plan.address] = record
    return refused


def _send(
    step: Transaction, parcel: Parcel, record: ChannelRecord, sender: str, *, fits: bool
) -> Refused | None:
    plan, lane = parcel.plan, parcel.envelope.lane
    if lane and lane in step.closed_lanes:
        refused: Refused | None = Refused(plan.address, "lane", plan.lane_capacity)
    elif not fits and not step.fits(size_of(parcel)):
        refused = Refused(plan.address, "memory", step.store.limit())
    elif parcel.due > step.now:
        delay(step, parcel, parcel.due)
        step.ring(record, EVERYONE)
        return None
    else:
        refused = place(step, parcel, record, sender)
    if refused is None:
        return None
    if lane:
        step.closed_lanes.add(lane)
    if sender and sender not in record.blocked:
        record.blocked.append(sender)
    return refused


def place(step: Transaction, parcel: Parcel, record: ChannelRecord, sender: str) -> Refused | None:
    """Put a message that is due into its queue, or behind its lane."""
    plan, key = parcel.plan, parcel.lane_key
    full = record.pending >= plan.capacity and not purge(step, plan.address, record, plan.capacity)
    if not full and (not key or _begin_lane(step, parcel)):
        step.enqueue(parcel, record)
        return None
    raw = step.data.get(key) if key else None
    if raw is None:
        return Refused(plan.address, "capacity", plan.capacity)
    lane = records.decode_lane(raw)
    if lane.tail - lane.head < plan.lane_capacity:
        _stand_behind(step, parcel, lane)
        return None
    if sender and sender not in lane.blocked:
        lane.blocked.append(sender)
        step.data.put(key, records.encode(lane))
    return Refused(plan.address, "lane", plan.lane_capacity)


def _begin_lane(step: Transaction, parcel: Parcel) -> bool:
    """Bring the lane of a message into use; False when it is in use."""
    record = records.new_lane(parcel.envelope.id)
    return step.data.put(parcel.lane_key, record, True, False)


def _stand_behind(step: Transaction, parcel: Parcel, lane: LaneRecord) -> None:
    step.data.put(records.backlog_key(parcel.envelope.lane, lane.tail), parcel.data)
    lane.tail += 1
    step.data.put(parcel.lane_key, records.encode(lane))


def delay(step: Transaction, parcel: Parcel, due: float) -> None:
    """Keep a message until it is `due`, in seconds since the epoch."""
    step.data.put(records.delayed_key(due, parcel.envelope.id), parcel.data)
    raw = step.data.get(records.NEXT_DUE_KEY)
    if raw is None or due < records.decode_time(raw):
        step.data.put(records.NEXT_DUE_KEY, records.encode(due))


def promote(step: Transaction) -> float:
    """Send the delayed messages that are due; returns when the next one is, or 0.

    They were accepted long ago, so no capacity keeps them out now.
    """
    raw = step.data.get(records.NEXT_DUE_KEY)
    if raw is None:
        return 0.0
    due = records.decode_time(raw)
    if due > step.now:
        return due
    step.data.pop(records.NEXT_DUE_KEY)
    for number, (key, data) in enumerate(step.store.scan(b"d")):
        due = records.due_of(key)
        if due > step.now or number == MAX_PROMOTED:
            step.data.put(records.NEXT_DUE_KEY, records.encode(due))
            return due
        step.data.pop(key)
        parcel = repack(step.plans, data)
        record = step.channel(parcel.plan.address)
        if not parcel.lane_key or _begin_lane(step, parcel):
            step.enqueue(parcel, record)
        elif raw := step.data.get(parcel.lane_key):
            _stand_behind(step, parcel, records.decode_lane(raw))
    return 0.0


def put_back(step: Transaction, envelopes: Sequence[bytes]) -> None:
    """Put messages that were not begun in front of their queues; they keep their lanes."""
    for data in reversed(envelopes):
        envelope = decode_envelope(data)
        where = address(envelope.channel)
        record = step.channel(where)
        record.head -= 1
        record.pending += 1
        step.data.put(records.queue_prefix(where) + records.index_key(record.head), tie([data]))
        step.changed[where] = record
        step.ring(record)


def take(step: Transaction, channels: Sequence[str], limit: int) -> list[bytes]:
    """Take bundles of up to `limit` messages off `channels`, a fair share of each, FIFO in each.

    Notices on the way are taken as well, and do not count.
    """
    if step.fresh:
        step.flush()
    found = step.waiting(channels)
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
    if not limit or record.head == record.tail:
        return 0
    data, queue = step.data, records.queue_prefix(name)
    size = sum(map(len, taken)) if taken else 0
    left = limit
    while left and record.head < record.tail and size < MAX_BATCH_SIZE:
        key = queue + records.index_key(record.head)
        bundle = data.pop(key)
        record.head += 1
        if bundle is not None and expires_of(bundle) <= step.now:
            bundle = expire(step, record, bundle)
        if not bundle:
            continue
        count = count_of(bundle)
        if count > left:
            envelopes = untie(bundle)
            bundle, count = tie(envelopes[:left]), left
            record.head -= 1
            data.put(key, tie(envelopes[left:]))
        record.pending -= count
        taken.append(bundle)
        size += len(bundle)
        left -= count
    step.changed[name] = record
    if record.blocked:
        step.unblock(record)
    return limit - left


def first(store: Store, channel: str, now: float) -> Envelope | None:
    """Return the first message of a queue that has not expired, and leave it there."""
    raw = store.data.get(records.channel_key(channel))
    record = records.decode_channel(raw) if raw else ChannelRecord()
    for index in range(record.head, record.tail):
        bundle = store.data.get(records.queue_prefix(channel) + records.index_key(index))
        for data in untie(bundle) if bundle else ():
            envelope = decode_envelope(data)
            if envelope.expires > now:
                return envelope
    return None


def release_all(step: Transaction, done: Sequence[Delivery]) -> None:
    """Let the lanes of deliveries go on that were handled."""
    pop, new_lane = step.data.pop, records.new_lane
    keys = records.lane_keys(map(_lane_of, done))
    for delivery, key in zip(done, keys, strict=True):
        if delivery.lane:
            raw = pop(key)
            if raw != new_lane(delivery.id) and raw is not None:
                _go_on(step, delivery.lane, raw, delivery.id)


def release(step: Transaction, lane: str, id_: int) -> None:
    """Let a lane go on after its message `id_` was handled: the next one joins its queue."""
    raw = step.data.pop(records.lane_key(lane))
    if raw is not None and raw != records.new_lane(id_):
        _go_on(step, lane, raw, id_)


def _go_on(step: Transaction, lane: str, raw: bytes, id_: int) -> None:
    """Let the next message of a lane join its queue; `raw` is the lane's record, taken away."""
    key = records.lane_key(lane)
    record = records.decode_lane(raw)
    if record.user != id_:  # flushed meanwhile, and in use again
        step.data.put(key, raw)
        return
    step.rings.extend(record.blocked)
    record.blocked = []
    while record.head < record.tail:
        data = step.data.pop(records.backlog_key(lane, record.head))
        record.head += 1
        if data is None:
            continue
        parcel = repack(step.plans, data)
        where = parcel.plan.address
        if parcel.envelope.expires <= step.now:
            step.drop(step.channel(where), where, "expired")
            continue
        record.user = parcel.envelope.id
        step.data.put(key, records.encode(record))
        step.enqueue(parcel, step.channel(where))
        return


def purge(step: Transaction, name: str, record: ChannelRecord, capacity: int) -> bool:
    """Drop expired messages at the head of a queue; True when there is room then."""
    while record.head < record.tail:
        key = records.queue_prefix(name) + records.index_key(record.head)
        bundle = step.data.get(key)
        if bundle is not None:
            if expires_of(bundle) > step.now:
                break
            rest = expire(step, record, bundle)
            step.changed[name] = record
            if rest:
                step.data.put(key, rest)
                break
        step.data.pop(key)
        record.head += 1
        step.changed[name] = record
    return record.pending < capacity


def expire(step: Transaction, record: ChannelRecord, bundle: bytes) -> bytes:
    """Drop the messages of a bundle that have expired; returns what is left, or nothing.

    Notices to a living owner have to stay.
    """
    if is_notice(bundle):
        if record.owner:
            return bundle
        _expire(step, record, decode_envelope(untie(bundle)[0]))
        return b""
    left = []
    for data in untie(bundle):
        envelope = decode_envelope(data)
        if envelope.expires > step.now:
            left.append(data)
            continue
        record.pending -= 1
        step.drop(record, address(envelope.channel), "expired")
        _expire(step, record, envelope)
    return tie(left) if left else b""


def _expire(step: Transaction, record: ChannelRecord, envelope: Envelope) -> None:
    if not record.owner:
        # Nobody reads the channel: it leaves its groups (ASGI, "Groups").
        leave(step, envelope.channel)
    if envelope.lane:
        release(step, envelope.lane, envelope.id)


def group_send(step: Transaction, parcel: Parcel) -> None:
    """Send to one target of a group; a full one is skipped, and counted."""
    where = parcel.plan.address
    record = step.channel(where)
    if step.fits(size_of(parcel)) and place(step, parcel, record, "") is None:
        record.accepted += 1
    else:
        step.drop(record, where, "full")
    step.changed[where] = record


def tidy_channel(step: Transaction, name: str) -> None:
    """Drop a channel's expired messages, and its record when it was of passing use long ago."""
    record = step.channel(name)
    purge(step, name, record, 0)
    idle = not step.waiting((name,)) and not record.subscriptions and not record.owner
    if idle and ("!" in name or "?" in name) and record.used < step.now - IDLE_AGE:
        step.forget(name)
