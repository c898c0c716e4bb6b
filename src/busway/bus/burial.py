"""What receivers hold, and what becomes of it when their process has died."""

from busway.bus import records
from busway.bus.bundles import count_of, is_notice, untie
from busway.bus.codec import decode_envelope
from busway.bus.membership import leave
from busway.bus.names import address
from busway.bus.queues import put_back, release
from busway.bus.transaction import Transaction


def hold(step: Transaction, receiver: str, held: records.HoldRecord) -> None:
    """Record what `receiver` has in its hands."""
    key = records.hold_key(receiver)
    if held.places:
        step.data.put(key, records.encode(held))
    else:
        step.data.pop(key)


def settle(step: Transaction, receiver: str, begun: int) -> None:
    """Settle what a dead receiver held; its mark says that it had begun up to place `begun`.

    Messages that it began are lost, and counted; the others go back in front.
    """
    raw = step.data.pop(records.hold_key(receiver))
    if raw is None:
        return
    hold = records.decode_hold(raw)
    held = set(hold.places)
    pairs = [
        (place, data)
        for first, bundle in hold.bundles.items()
        for place, data in enumerate(untie(bundle), start=first)
        if place in held
    ]
    put_back(step, [data for place, data in pairs if place > begun])
    for data in [data for place, data in pairs if place <= begun]:
        envelope = decode_envelope(data)
        where = address(envelope.channel)
        step.drop(step.channel(where), where, "receiver died")
        if envelope.lane:
            release(step, envelope.lane, envelope.id)


def bury(step: Transaction, process: str, marks: dict[str, int]) -> None:
    """Clean up after a process that died.

    `marks` says for each of its receivers up to which place it had begun.
    """
    for key, _ in step.store.scan(records.hold_key(process + ".")):
        receiver = key[1:].decode()
        settle(step, receiver, marks.get(receiver, 0))
    for key, raw in step.store.scan(b"s"):
        waiting = records.decode_subscription(raw).waiting
        for receiver in waiting:
            if receiver.startswith(process + "."):
                step.unsubscribe(receiver, key[1:].decode())
    for key, raw in step.store.scan(b"c"):
        name = key[1:].decode()
        if records.decode_channel(raw).owner == process:
            abandon(step, name)
        elif (record := step.channel(name)).tail > record.head:
            # A dead receiver may have been the one that was woken for it.
            step.ring(record)


def abandon(step: Transaction, prefix: str) -> None:
    """Drop what waits for a prefix whose process died; its channels leave their groups.

    Lanes go on: what waits behind one of its messages may be for others.
    """
    record = step.channel(prefix)
    record.owner = ""
    step.flush()
    while record.head < record.tail:
        bundle = step.data.pop(records.queue_prefix(prefix) + records.index_key(record.head))
        record.head += 1
        if bundle is not None and not is_notice(bundle):
            step.drop(record, prefix, "receiver died", count_of(bundle))
            for envelope in map(decode_envelope, untie(bundle)):
                if envelope.lane:
                    release(step, envelope.lane, envelope.id)
            step.flush()
    record.pending = 0
    step.changed[prefix] = record
    step.unblock(record)
    leave(step, prefix)
