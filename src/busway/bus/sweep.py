"""Looking after a store: counting it, clearing it, and dropping what nobody will fetch."""

from itertools import islice

from busway.bus import records
from busway.bus.bundles import tie, untie
from busway.bus.codec import decode_envelope
from busway.bus.membership import group_discard
from busway.bus.names import address
from busway.bus.queues import promote, tidy_channel
from busway.bus.statistics import GroupSize, Statistics
from busway.bus.transaction import Store, Transaction

SWEEP_SIZE = 500
"""Records that one sweep looks at, so that it holds nobody up."""

SUBSCRIPTION_AGE = 60.0
"""Seconds after which a subscription that nobody waits on is forgotten."""


def sweep(
    store: Store, step: Transaction, now: float, after: bytes = b"", size: int | None = None
) -> bytes:
    """Drop what has expired, and the records of what is not in use.

    `now` is seconds since the epoch. Looks at `size` records (None: all) behind the key `after`;
    returns the key to go on behind.
    """
    promote(step)
    for table, look in _TABLES.items():
        if after[:1] > table:
            continue
        found = list(islice(store.scan(table, after if after[:1] == table else b""), size))
        for key, raw in found:
            look(step, key, raw, now)
        if len(found) == size:
            return found[-1][0]
    return b""


def _sweep_channel(step: Transaction, key: bytes, raw: bytes, now: float) -> None:
    del raw, now
    tidy_channel(step, key[1:].decode())


def _sweep_member(step: Transaction, key: bytes, raw: bytes, now: float) -> None:
    if records.decode_time(raw) <= now:
        group, _, channel = key[1:].decode().partition("\0")
        group_discard(step, group, channel, None)


def _sweep_subscription(step: Transaction, key: bytes, raw: bytes, now: float) -> None:
    record = records.decode_subscription(raw)
    if not record.waiting and record.used < now - SUBSCRIPTION_AGE:
        step.drop_subscription(key[1:].decode())


_TABLES = {b"c": _sweep_channel, b"g": _sweep_member, b"s": _sweep_subscription}


def clear(store: Store) -> tuple[list[str], list[str]]:
    """Remove everything but who waits for messages.

    Returns who waits for room, to be woken, and the prefixes, whose owners have to be told.
    """
    blocked: list[str] = []
    for _, raw in store.scan(b"l"):
        blocked += records.decode_lane(raw).blocked
    for table in (b"m", b"l", b"b", b"d", b"h", b"g", b"t", b"r", b"z", b"n"):
        for key, _ in store.scan(table):
            store.data.pop(key)
    prefixes = []
    for key, raw in store.scan(b"c"):
        if key.endswith(b"!"):
            prefixes.append(key[1:].decode())
        record = records.decode_channel(raw)
        blocked += record.blocked
        kept = records.ChannelRecord(subscriptions=record.subscriptions, owner=record.owner)
        store.data.put(key, records.encode(kept))
    return list(dict.fromkeys(blocked)), prefixes


def count_messages(store: Store, channel: str | None, now: float) -> Statistics:
    """Return the counts of one channel, or of all when it is None."""
    if channel is not None:
        raw = store.data.get(records.channel_key(channel))
        record = records.decode_channel(raw) if raw else records.ChannelRecord()
        return _count(store, channel, record, _sent_apart(store).get(channel, []), now)
    past = store.data.get(records.PAST_KEY)
    total = records.decode_channel(past) if past else records.ChannelRecord()
    found = list(count_channels(store, now).values())
    for each in found:
        total.count(
            records.ChannelRecord(
                accepted=each.messages_count,
                refused=each.channel_full_count,
                dropped=dict(each.dropped),
            )
        )
    return Statistics(
        total.accepted,
        total.refused,
        sum(each.messages_pending for each in found),
        max((each.messages_max_age for each in found), default=0.0),
        total.dropped,
    )


def count_channels(store: Store, now: float) -> dict[str, Statistics]:
    """Return the counts of each channel that has a record or messages."""
    apart = _sent_apart(store)
    found = {}
    for key, raw in store.scan(b"c"):
        name = key[1:].decode()
        record = records.decode_channel(raw)
        found[name] = _count(store, name, record, apart.pop(name, []), now)
    for name, sent in apart.items():
        found[name] = _count(store, name, records.ChannelRecord(), sent, now)
    return found


def measure_groups(store: Store) -> dict[str, GroupSize]:
    """Return how large each group is."""
    found: dict[str, GroupSize] = {}
    for key, raw in store.scan(b"t"):
        group, _, where = key[1:].decode().partition("\0")
        size = found.get(group, GroupSize(0, 0))
        members = size.members + records.decode_target(raw).members
        found[group] = GroupSize(members, size.processes + (where[-1] == "!"))
    return found


def _sent_apart(store: Store) -> dict[str, list[float]]:
    """Return when the messages were sent that wait outside of queues, by channel."""
    found: dict[str, list[float]] = {}
    for table in (b"b", b"d"):
        for _, raw in store.scan(table):
            envelope = decode_envelope(raw)
            found.setdefault(address(envelope.channel), []).append(envelope.sent)
    return found


def _count(
    store: Store, name: str, record: records.ChannelRecord, apart: list[float], now: float
) -> Statistics:
    """Return the counts of a channel; `apart`: when its messages outside of its queue were sent."""
    sent = [now, *apart]
    if record.pending:
        head = store.data.get(records.queue_prefix(name) + records.index_key(record.head))
        sent += [decode_envelope(raw).sent for raw in untie(head or tie([]))]
    pending = record.pending + len(apart)
    return Statistics(record.accepted, record.refused, pending, now - min(sent), record.dropped)
