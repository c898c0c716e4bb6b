"""Looking after a store: counting it, clearing it, and dropping what nobody will fetch."""

from collections.abc import Iterable
from itertools import islice

from busway.bus import records
from busway.bus.bundles import tie, untie
from busway.bus.codec import decode_envelope
from busway.bus.layer import Statistics
from busway.bus.membership import group_discard
from busway.bus.names import address
from busway.bus.queues import promote, tidy_channel
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
            store.pop(key)
    prefixes = []
    for key, raw in store.scan(b"c"):
        if key.endswith(b"!"):
            prefixes.append(key[1:].decode())
        record = records.decode_channel(raw)
        blocked += record.blocked
        kept = records.ChannelRecord(subscriptions=record.subscriptions, owner=record.owner)
        store.put(key, records.encode(kept))
    return list(dict.fromkeys(blocked)), prefixes


def count_messages(store: Store, channel: str | None, now: float) -> Statistics:
    """Return the counts of one channel, or of all when it is None."""
    total = records.ChannelRecord()
    past = store.get(records.PAST_KEY)
    if channel is None and past:
        total.count(records.decode_channel(past))
    pending = 0
    oldest = now
    wanted = b"c" if channel is None else records.channel_key(channel)
    for key, raw in store.scan(wanted):
        if channel is not None and key != wanted:
            continue
        record = records.decode_channel(raw)
        total.count(record)
        pending += record.pending
        if record.pending:
            head = records.queue_prefix(key[1:].decode()) + records.index_key(record.head)
            oldest = min(oldest, _oldest(untie(store.get(head) or tie([])), now))
    for table in (b"b", b"d"):
        waiting = [
            raw
            for _, raw in store.scan(table)
            if channel is None or address(decode_envelope(raw).channel) == channel
        ]
        pending += len(waiting)
        oldest = min(oldest, _oldest(waiting, now))
    return Statistics(total.accepted, total.refused, pending, now - oldest, total.dropped)


def _oldest(envelopes: Iterable[bytes], now: float) -> float:
    return min((decode_envelope(raw).sent for raw in envelopes), default=now)
