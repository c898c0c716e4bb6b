"""Messages made ready to be stored: all that can be done before the transaction begins."""

from math import inf

import msgspec

from busway.bus import records
from busway.bus.codec import Envelope, Kind, decode_envelope, encode_envelope
from busway.bus.errors import InvalidArgument
from busway.bus.messages import Message
from busway.bus.plans import Plan, Plans


class Parcel(msgspec.Struct, frozen=True, gc=False):
    """An envelope on its way into a queue, and the rules that apply there."""

    plan: Plan
    envelope: Envelope
    data: bytes
    """The envelope in encoded form."""
    lane_key: bytes
    """The key of its lane's record; empty without a lane."""
    due: float
    """When it is to be sent, in seconds since the epoch; 0: now."""


class Refused(msgspec.Struct, frozen=True, gc=False):
    """Why a parcel found no room: the fields of `ChannelFull`."""

    channel: str
    reason: str
    limit: int


def size_of(parcel: Parcel) -> int:
    """Return the bytes that a parcel takes in a store, about."""
    size = len(parcel.data)
    # A record costs its key and page slack as well; large ones fill whole pages.
    return size + (256 if size < 2048 else 4096)


def message_parcel(
    plan: Plan,
    channel: str,
    message: Message,
    body: bytes,
    id_: int,
    now: float,
    delay: float = 0.0,
) -> Parcel:
    """Return a parcel with `message` for `channel`; `body` is the message in encoded form.

    `now` is seconds since the epoch, `delay` seconds from then. Raises `InvalidArgument` for a
    delay that is none.
    """
    if delay and not 0 <= delay < inf:
        raise InvalidArgument("delay", delay, "seconds, 0 or more")
    lane, lane_key = "", b""
    if plan.ordering is not None:
        key = message.get(plan.ordering)
        if key is not None:
            lane = f"{plan.lane}{key}"
            lane_key = records.lane_key(lane)
    envelope = Envelope(now + delay + plan.expiry, Kind.MESSAGE, id_, channel, now, body, lane)
    due = now + delay if delay else 0.0
    return Parcel(plan, envelope, encode_envelope(envelope), lane_key, due)


def group_parcel(
    plan: Plan, group: str, target: str, message: Message, body: bytes, id_: int, now: float
) -> Parcel:
    """Return a parcel with a group's message for one of its targets."""
    if target[-1] != "!":
        return message_parcel(plan, target, message, body, id_, now)
    return _about(plan, Kind.GROUP_MESSAGE, group, target, body, id_, now)


def notice(plan: Plan, kind: Kind, group: str, channel: str, id_: int, now: float) -> Parcel | None:
    """Return what tells the process that owns `channel`; None when it is nobody's in particular."""
    if "!" not in channel:
        return None
    return _about(plan, kind, group, channel, b"", id_, now)


def _about(
    plan: Plan, kind: Kind, group: str, channel: str, body: bytes, id_: int, now: float
) -> Parcel:
    envelope = Envelope(now + plan.expiry, kind, id_, channel, now, body, "", group)
    return Parcel(plan, envelope, encode_envelope(envelope), b"", 0.0)


def repack(plans: Plans, data: bytes) -> Parcel:
    """Return an encoded envelope that has waited somewhere, on its way into its queue."""
    envelope = decode_envelope(data)
    lane_key = records.lane_key(envelope.lane) if envelope.lane else b""
    return Parcel(plans.find(envelope.channel), envelope, data, lane_key, 0.0)
