"""Messages made ready to be stored: all that can be done before the transaction begins."""

from math import inf

import msgspec

from busway.bus import names, records
from busway.bus.codec import Envelope, Kind, encode_envelope
from busway.bus.errors import InvalidArgument
from busway.bus.messages import Message
from busway.bus.policy import Policies, Policy


class Parcel(msgspec.Struct, frozen=True, gc=False):
    """An envelope on its way into a queue, and the rules that apply there."""

    address: str
    queue: bytes
    """The key of its queue, without the index."""
    data: bytes
    size: int
    """Bytes that it takes in a store, about."""
    id: int
    lane: str
    lane_key: bytes
    lane_record: bytes
    """The key of its lane's record, and that record if the lane is idle; empty without a lane."""
    capacity: int
    lane_capacity: int
    due: float
    """When it is to be sent, in seconds since the epoch; 0: now."""


class Refused(msgspec.Struct, frozen=True, gc=False):
    """Why a parcel found no room: the fields of `ChannelFull`."""

    channel: str
    reason: str
    limit: int


def pack(envelope: Envelope, data: bytes, policy: Policy, due: float = 0.0) -> Parcel:
    """Return a parcel with an envelope, which `data` is in encoded form."""
    lane = envelope.lane
    address = names.address(envelope.channel)
    size = len(data)
    return Parcel(
        address,
        records.queue_prefix(address),
        data,
        # A record costs its key and page slack as well; large ones fill whole pages.
        size + (256 if size < 2048 else 4096),
        envelope.id,
        lane,
        records.lane_key(lane) if lane else b"",
        records.encode(records.LaneRecord(envelope.id)) if lane else b"",
        policy.capacity,
        policy.lane_capacity,
        due,
    )


def message_parcel(
    policies: Policies,
    channel: str,
    message: Message,
    body: bytes,
    id_: int,
    now: float,
    delay: float = 0.0,
) -> Parcel:
    """Return a parcel with `message` for `channel`; `body` is the message in encoded form."""
    if delay and not 0 <= delay < inf:
        raise InvalidArgument("delay", delay, "seconds, 0 or more")
    pattern, policy = policies.find(channel)
    lane = ""
    if policy.ordering is not None:
        key = message.get(policy.ordering)
        if key is not None:
            lane = f"{pattern}\0{key}"
    envelope = Envelope(now + delay + policy.expiry, Kind.MESSAGE, id_, channel, now, body, lane)
    due = now + delay if delay else 0.0
    return pack(envelope, encode_envelope(envelope), policy, due)


def group_parcel(
    policies: Policies, group: str, target: str, message: Message, body: bytes, id_: int, now: float
) -> Parcel:
    """Return a parcel with a group's message for one of its targets."""
    if target[-1] != "!":
        return message_parcel(policies, target, message, body, id_, now)
    _, policy = policies.find(target)
    envelope = Envelope(now + policy.expiry, Kind.GROUP_MESSAGE, id_, target, now, body, "", group)
    return pack(envelope, encode_envelope(envelope), policy)


def notice(
    policies: Policies, kind: Kind, group: str, channel: str, id_: int, now: float
) -> Parcel | None:
    """Return what tells the process that owns `channel`; None when it is nobody's in particular."""
    if "!" not in channel:
        return None
    _, policy = policies.find(channel)
    envelope = Envelope(now + policy.expiry, kind, id_, channel, now, b"", "", group)
    return pack(envelope, encode_envelope(envelope), policy)
