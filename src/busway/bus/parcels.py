"""Messages made ready to be stored: all that can be done before the transaction begins."""

from math import inf
from typing import Any

import msgspec

from busway.bus import records
from busway.bus.codec import Envelope, Kind, decode_envelope, encode
from busway.bus.errors import InvalidArgument
from busway.bus.messages import Message
from busway.bus.operations import Send
from busway.bus.plans import Plan, Plans


class Parcel(msgspec.Struct, gc=False):
    """An envelope on its way into a queue, and the rules that apply there."""

    plan: Plan
    envelope: Envelope
    lane_key: bytes = b""
    """The key of its lane's record; empty without a lane."""
    due: float = 0.0
    """When it is to be sent, in seconds since the epoch; 0: now."""
    encoded: bytes = b""
    """The envelope in encoded form; empty: not yet."""

    @property
    def data(self) -> bytes:
        """The envelope in encoded form."""
        if not self.encoded:
            self.encoded = encode(self.envelope)
        return self.encoded


Row = tuple[float, int, int, str, float, Any, str]
"""The fields of an `Envelope` up to its lane; the others have their defaults. Encoded it is shorter
than an envelope, and decoded as one; it is made and encoded in half of the time."""


class Run(msgspec.Struct, gc=False):
    """Messages of one exchange for one queue, in a row."""

    plan: Plan
    sends: list[Send] = []
    places: list[int] = []
    """Where each of them stands among the operations of the exchange."""
    rows: list[Row] = []
    lanes: list[tuple[bytes, bytes]] = []
    """Key and record of each one's lane, the key empty without a lane; empty: none has one."""
    bundle: bytes = b""
    """All of them as one record of the queue; empty: they are too many bytes for one."""

    def parcels(self) -> list[Parcel]:
        """Return the messages one by one."""
        lanes = self.lanes or [NO_LANE] * len(self.rows)
        return [
            Parcel(self.plan, Envelope(row[0], Kind.MESSAGE, *row[2:]), key)
            for row, (key, _) in zip(self.rows, lanes, strict=True)
        ]


NO_LANE = (b"", b"")


class Refused(msgspec.Struct, frozen=True, gc=False):
    """Why a parcel found no room: the fields of `ChannelFull`."""

    channel: str
    reason: str
    limit: int


def size_of(item: Parcel | Run) -> int:
    """Return the bytes that a parcel or a run takes in a store, about."""
    if isinstance(item, Parcel):
        return _record_size(len(item.data))
    if not item.bundle:
        return sum(map(size_of, item.parcels()))
    return _record_size(len(item.bundle)) + _LANE_SIZE * len(item.lanes)


_LANE_SIZE = 128


def _record_size(size: int) -> int:
    # A record costs its key and page slack as well; large ones fill whole pages.
    return size + (256 if size < 2048 else 4096)


def lane_of(plan: Plan, message: Message) -> str:
    """Return the lane of a message on a channel with lanes; empty when it names none."""
    key = message.get(plan.ordering or "")
    return "" if key is None else f"{plan.lane}{key}"


def check_delay(delay: float) -> None:
    """Raise `InvalidArgument` for a delay that is none."""
    if not 0 <= delay < inf:
        raise InvalidArgument("delay", delay, "seconds, 0 or more")


def message_parcel(
    plan: Plan,
    channel: str,
    message: Any,
    id_: int,
    now: float,
    delay: float = 0.0,
) -> Parcel:
    """Return a parcel with `message` for `channel`.

    `now` is seconds since the epoch, `delay` seconds from then. Raises `InvalidArgument` for a
    delay that is none.
    """
    check_delay(delay)
    lane = "" if plan.ordering is None else lane_of(plan, message)
    lane_key = records.lane_key(lane) if lane else b""
    expires = now + delay + plan.expiry
    envelope = Envelope(expires, Kind.MESSAGE, id_, channel, now, message, lane)
    return Parcel(plan, envelope, lane_key, now + delay if delay else 0.0)


def group_parcel(plan: Plan, group: str, target: str, message: Any, id_: int, now: float) -> Parcel:
    """Return a parcel with a group's message for one of its targets."""
    if target[-1] != "!":
        parcel = message_parcel(plan, target, message, id_, now)
        parcel.envelope.group = group
        return parcel
    return _about(plan, Kind.GROUP_MESSAGE, group, target, message, id_, now)


def notice(plan: Plan, kind: Kind, group: str, channel: str, id_: int, now: float) -> Parcel | None:
    """Return what tells the process that owns `channel`; None when it is nobody's in particular."""
    if "!" not in channel:
        return None
    return _about(plan, kind, group, channel, {}, id_, now)


def _about(
    plan: Plan, kind: Kind, group: str, channel: str, message: Any, id_: int, now: float
) -> Parcel:
    return Parcel(plan, Envelope(now + plan.expiry, kind, id_, channel, now, message, "", group))


def repack(plans: Plans, data: bytes) -> Parcel:
    """Return an encoded envelope that has waited somewhere, on its way into its queue."""
    envelope = decode_envelope(data)
    lane_key = records.lane_key(envelope.lane) if envelope.lane else b""
    return Parcel(plans.find(envelope.channel), envelope, lane_key, encoded=data)
