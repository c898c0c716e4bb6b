"""Operations checked and encoded, ready for a transaction."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from busway.bus import membership, names
from busway.bus.codec import Kind, encode_message
from busway.bus.layer import GroupAdd, GroupDiscard, GroupSend, Leave, Operation, Return, Send
from busway.bus.messages import Message
from busway.bus.parcels import Parcel, group_parcel, message_parcel, notice
from busway.bus.queues import group_send
from busway.bus.transaction import Transaction

if TYPE_CHECKING:
    from busway.bus.stored import StoredLayer

Step = Callable[[Transaction], None]


def prepare(operation: Operation, layer: "StoredLayer", now: float) -> Parcel | Step:
    """Return what an operation puts into a queue, or what it does in a transaction.

    Raises `UsageError` for names and messages that are wrong.
    """
    policies, new_id = layer.policies, layer.ids.new
    match operation:
        case Send(channel, message, delay):
            names.check_channel(channel)
            body = encode_message(message, channel, layer.message_size)
            return message_parcel(policies, channel, message, body, new_id(), now, delay)
        case GroupSend(group, message):
            names.check_group(group)
            body = encode_message(message, group, layer.message_size)
            return partial(_send_to_group, layer, group, message, body, now)
        case GroupAdd(group, channel):
            names.check_group(group)
            names.check_channel(channel)
            joined = notice(policies, Kind.JOINED, group, channel, new_id(), now)
            expires = now + layer.group_expiry
            return lambda step: membership.group_add(step, group, channel, expires, joined)
        case GroupDiscard(group, channel):
            names.check_group(group)
            names.check_channel(channel)
            left = notice(policies, Kind.LEFT, group, channel, new_id(), now)
            return lambda step: membership.group_discard(step, group, channel, left)
        case Leave(channel):
            names.check_channel(channel)
            left = notice(policies, Kind.LEFT, "", channel, new_id(), now)
            return lambda step: membership.leave(step, channel, left)
        case Return():
            return later


def _send_to_group(
    layer: "StoredLayer", group: str, message: Message, body: bytes, now: float, step: Transaction
) -> None:
    for target in membership.group_targets(step, group):
        id_ = layer.ids.new()
        group_send(step, group_parcel(layer.policies, group, target, message, body, id_, now))


def later(step: Transaction) -> None:
    """Do nothing: what is given back is put back all at once, to keep its order."""
