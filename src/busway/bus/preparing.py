"""Operations checked and encoded, ready for a transaction."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from busway.bus import membership, names
from busway.bus.codec import Kind, encode_message
from busway.bus.layer import GroupAdd, GroupDiscard, GroupSend, Leave, Operation, Send
from busway.bus.messages import Message
from busway.bus.parcels import Parcel, Refused, group_parcel, message_parcel, notice
from busway.bus.queues import group_send
from busway.bus.transaction import Transaction

if TYPE_CHECKING:
    from busway.bus.stored import StoredLayer

Step = Callable[[Transaction], Refused | None]
"""Does an operation; returns why when there was no room."""


def prepare(
    operations: Sequence[Operation], layer: "StoredLayer", now: float
) -> list[Parcel | Step]:
    """Return what each operation puts into a queue, or what it does in a transaction.

    `now` is seconds since the epoch. Raises `UsageError` for names and messages that are wrong.
    """
    plans, new_id, limit = layer.plans, layer.ids.new, layer.message_size
    steps: list[Parcel | Step] = []
    for operation in operations:
        if isinstance(operation, Send):
            channel, message = operation.channel, operation.message
            try:
                plan = plans[channel]
            except TypeError:  # not even something that could be a key
                names.check_channel(channel)
                raise
            body = encode_message(message, channel, limit, checked=operation.checked)
            steps.append(
                message_parcel(plan, channel, message, body, new_id(), now, operation.delay)
            )
        else:
            steps.append(_step(operation, layer, now))
    return steps


def _step(operation: Operation, layer: "StoredLayer", now: float) -> Step:
    new_id = layer.ids.new
    match operation:
        case GroupSend(group, message):
            names.check_group(group)
            body = encode_message(message, group, layer.message_size, checked=operation.checked)
            return partial(_send_to_group, layer, group, message, body, now)
        case GroupAdd(group, channel):
            names.check_group(group)
            names.check_channel(channel)
            joined = notice(layer.plans[channel], Kind.JOINED, group, channel, new_id(), now)
            expires = now + layer.group_expiry
            return lambda step: membership.group_add(step, group, channel, expires, joined)
        case GroupDiscard(group, channel):
            names.check_group(group)
            names.check_channel(channel)
            left = notice(layer.plans[channel], Kind.LEFT, group, channel, new_id(), now)
            return lambda step: membership.group_discard(step, group, channel, left)
        case Leave(channel):
            names.check_channel(channel)
            return partial(_leave, layer, channel, now)
        case _:
            return later


def _leave(layer: "StoredLayer", channel: str, now: float, step: Transaction) -> None:
    # Most channels that end were in no group.
    if membership.leave(step, channel):
        plan = layer.plans.find(channel)
        if left := notice(plan, Kind.LEFT, "", channel, layer.ids.new(), now):
            step.notify(left)


def _send_to_group(
    layer: "StoredLayer", group: str, message: Message, body: bytes, now: float, step: Transaction
) -> None:
    for target in membership.group_targets(step, group):
        plan = layer.plans.find(target)
        group_send(step, group_parcel(plan, group, target, message, body, layer.ids.new(), now))


def later(step: Transaction) -> None:
    """Do nothing: what is given back is put back all at once, to keep its order."""
