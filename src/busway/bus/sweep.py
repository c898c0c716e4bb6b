"""Looking after a store: counting it, clearing it, and dropping what nobody will fetch."""

from collections.abc import Iterable
from itertools import islice

from busway.bus import records
from busway.bus.codec import decode_envelope
from busway.bus.layer import Statistics
from busway.bus.membership import group_discard
from busway.bus.names import address
from busway.bus.queues import tidy_channel
from busway.bus.transaction import Store, Transaction

SWEEP_SIZE = 500
"""Records that one sweep looks at, so that it holds nobody up."""

SUBSCRIPTION_AGE = 60.0
"""Seconds after which a subscription that nobody waits on is forgotten."""


def sweep(store: Store, step: Transaction, now: float, after: bytes) -> bytes:
    """Look at the next records behind the key `after`; returns where to go on.

    Drops expired messages and memberships, and the records of channels and subscriptions that
    are not in use. `now` is seconds since the epoch.
    """
    last = b""
    for table, look in ((b"c", _sweep_channel), (b"g", _sweep_member), (b"s", _sweep_subscription)):
        if after and after[:1] > table:
            continue
        start = after if after[:1] == table else b""
        found = list(islice(store.scan(table, start), SWEEP_SIZE))
        for key, raw in found:
            look(store, step, key, raw, now)
        if len(found) == SWEEP_SIZE:
            last = found[-1][0]
            break
    return last


def _sweep_channel(store: Store, step: Transaction, key: bytes, raw: bytes, now: float) -> None:
    del store, raw, now
    tidy_channel(step, key[1:].decode())


def _sweep_member(store: Store, step: Transaction, key: bytes, raw: bytes, now: float) -> None:
    del store
    if records.decode_expiry(raw) <= now:
        group, _, channel = key[1:].decode().partition("\0")
        group_discard(step, group, channel, None)


def _sweep_subscription(
    store: Store, step: Transaction, key: bytes, raw: bytes, now: float
) -> None:
    del store
    record = records.decode_subscription(raw)
    if not record.waiting and record.used < now - SUBSCRIPTION_AGE:
        step.drop_subscription(key[1:].decode())


def clear(store: Store) -> None:
    """Remove everything but who waits for what."""
    for table in (b"m", b"l", b"b", b"d", b"h", b"g", b"t", b"r"):
        for key, _ in store.scan(table):
            store.pop(key)
    for key, raw in store.scan(b"c"):
        record = records.decode_channel(raw)
        kept = records.ChannelRecord(subscriptions=record.subscriptions, owner=record.owner)
        store.put(key, records.encode(kept))


def count_messages(store: Store, channel: str | None, now: float) -> Statistics:
    """Return the counts of one channel, or of all when it is None."""
    accepted = refused = pending = 0
    dropped: dict[str, int] = {}
    oldest = now
    wanted = b"c" if channel is None else records.channel_key(channel)
    for key, raw in store.scan(wanted):
        if channel is not None and key != wanted:
            continue
        record = records.decode_channel(raw)
        accepted += record.accepted
        refused += record.refused
        pending += record.tail - record.head
        for reason, number in record.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + number
        head = records.queue_prefix(key[1:].decode()) + records.index_key(record.head)
        oldest = min(oldest, _oldest([store.get(head)], now))
    for table in (b"b", b"d"):
        waiting = [
            raw
            for _, raw in store.scan(table)
            if channel is None or address(decode_envelope(raw).channel) == channel
        ]
        pending += len(waiting)
        oldest = min(oldest, _oldest(waiting, now))
    return Statistics(accepted, refused, pending, now - oldest, dropped)


def _oldest(envelopes: Iterable[bytes | None], now: float) -> float:
    return min((decode_envelope(raw).sent for raw in envelopes if raw is not None), default=now)
