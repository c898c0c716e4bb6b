"""What a store holds: the tables of a channel layer that lives in an ordered key-value store.

    key                               value            what
    c ADDRESS                         ChannelRecord    a channel (or prefix): queue ends, counts
    m ADDRESS NUL index               bundle           messages in a channel's queue
    l LANE                            LaneRecord       a lane in use; absent: the lane is idle
    b LANE NUL index                  envelope         a message behind a lane in use
    d due id                          envelope         a delayed message
    n                                 time             when the first of them is due
    h RECEIVER                        HoldRecord       deliveries in a receiver's hands
    s SUBSCRIPTION                    SubscriptionRecord  receivers that wait on a set of channels
    g GROUP NUL CHANNEL               expiry           a group's member
    t GROUP NUL ADDRESS               TargetRecord     where a group's messages go
    r CHANNEL NUL GROUP               (empty)          a member's groups
    z                                 ChannelRecord    the counts of channels that are gone

ADDRESS is a channel's name, or its prefix up to "!". Numbers in keys are big-endian, so that
their order is the order of keys. Records are msgpack arrays; that of a lane which nobody stands
behind is the id of its message alone, in eight bytes.
"""

from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from struct import Struct

import msgspec

from busway.bus.codec import Envelope, str_of

FIRST_INDEX = 1 << 40
"""Where queues begin: in the middle, so that messages can be put back in front, and so high that
both ends always take 64 bits: see `is_empty_channel` and `decode_lane`."""

index_key = Struct(">Q").pack
"""Last part of a message's key: its index."""

_DUE = Struct(">dQ")

encode = msgspec.msgpack.Encoder(enc_hook=str_of).encode


class ChannelRecord(msgspec.Struct, array_like=True, gc=False):
    """A channel's queue (bundles `head` up to `tail`), who waits on it, and its counts."""

    head: int = FIRST_INDEX
    tail: int = FIRST_INDEX
    subscriptions: list[str] = []
    """Subscriptions that include this channel."""
    blocked: list[str] = []
    """Receivers to wake when there is room."""
    owner: str = ""
    """For a prefix: the process that reads it."""
    used: float = 0.0
    """When it last changed: seconds since the epoch."""
    pending: int = 0
    """How many messages wait in the queue; notices about groups do not count."""
    accepted: int = 0
    refused: int = 0
    dropped: dict[str, int] = {}

    def count(self, other: "ChannelRecord") -> None:
        """Add the counts of another record to this one's."""
        self.accepted += other.accepted
        self.refused += other.refused
        for reason, number in other.dropped.items():
            self.dropped[reason] = self.dropped.get(reason, 0) + number


class LaneRecord(msgspec.Struct, array_like=True, gc=False):
    """A lane in use by message `user`; messages `head` up to `tail` wait behind it.

    As long as nobody ever stood behind, the store has the id alone: see `new_lane`.
    """

    user: int
    head: int = FIRST_INDEX
    tail: int = FIRST_INDEX
    blocked: list[str] = []


class HoldRecord(msgspec.Struct, array_like=True, gc=False):
    """What a receiver holds, and the place of each in all that it has ever taken.

    Up to which place it has begun stands in its mark, which is cheaper than a transaction.
    """

    places: list[int]
    bundles: dict[int, bytes]
    """By the place of the first message of each; others of its messages may be done."""


class SubscriptionRecord(msgspec.Struct, array_like=True, gc=False):
    """Receivers that sleep until a message comes for one of `channels`, longest sleeper first."""

    channels: str
    """With spaces between them: that is quicker to decode than a list."""
    waiting: list[str] = []
    used: float = 0.0


class TargetRecord(msgspec.Struct, array_like=True, gc=False):
    """How many members of a group one address stands for, and when the last of them ends."""

    members: int
    expires: float


FORMAT = blake2b(
    repr(
        [
            (kind.__name__, kind.__annotations__)
            for kind in (
                Envelope,
                ChannelRecord,
                LaneRecord,
                HoldRecord,
                SubscriptionRecord,
                TargetRecord,
            )
        ]
    ).encode(),
    digest_size=4,
).hexdigest()
"""Changes when the records do: processes with different ones cannot share a store."""


def is_empty_channel(raw: bytes) -> bool:
    """Say whether nothing is in the queue of an encoded `ChannelRecord`.

    Most looks at a channel find nothing; this costs a quarter of decoding.
    """
    return raw[2:10] == raw[11:19]


decode_channel = msgspec.msgpack.Decoder(ChannelRecord).decode
_decode_lane = msgspec.msgpack.Decoder(LaneRecord).decode
decode_hold = msgspec.msgpack.Decoder(HoldRecord).decode
decode_subscription = msgspec.msgpack.Decoder(SubscriptionRecord).decode
decode_target = msgspec.msgpack.Decoder(TargetRecord).decode
decode_time = msgspec.msgpack.Decoder(float).decode


@lru_cache(maxsize=4096)
def channel_key(address: str) -> bytes:
    """Key of a channel's record."""
    return b"c" + address.encode()


PAST_KEY = b"z"
"""Key of the counts of channels whose records were removed."""


@lru_cache(maxsize=4096)
def queue_prefix(address: str) -> bytes:
    """Key of a channel's messages, without the index."""
    return b"m" + address.encode() + b"\0"


def lane_keys(lanes: Iterable[str]) -> list[bytes]:
    """Keys of the records of lanes. Lanes come from users' data, so long ones are hashed."""
    return [
        b"l" + (data if len(data := lane.encode()) <= _LONGEST_LANE else _hash(data))
        for lane in lanes
    ]


def lane_key(lane: str) -> bytes:
    """Key of a lane's record."""
    return lane_keys((lane,))[0]


new_lane = Struct(">Q").pack
"""Record of a lane in use by the message with this id, with nothing behind it."""


def decode_lane(raw: bytes) -> LaneRecord:
    """Return the record of a lane."""
    if len(raw) == _NEW_LANE_SIZE:  # a `LaneRecord` is larger: its indexes alone take 18 bytes
        return LaneRecord(int.from_bytes(raw))
    return _decode_lane(raw)


_NEW_LANE_SIZE = 8


def backlog_key(lane: str, index: int) -> bytes:
    """Key of a message behind a lane in use."""
    return b"b" + lane_key(lane)[1:] + b"\0" + index_key(index)


def delayed_key(due: float, id_: int) -> bytes:
    """Key of a delayed message; `due` is seconds since the epoch."""
    return b"d" + _DUE.pack(due, id_)


NEXT_DUE_KEY = b"n"
"""Key of the time when the first delayed message is due; absent: there is none."""


def due_of(key: bytes) -> float:
    """Return when the delayed message with this key is due: seconds since the epoch."""
    due: float = _DUE.unpack_from(key, 1)[0]
    return due


def hold_key(receiver: str) -> bytes:
    """Key of a receiver's hold record."""
    return b"h" + receiver.encode()


@lru_cache(maxsize=4096)
def subscription_key(subscription: str) -> bytes:
    """Key of a subscription's record."""
    return b"s" + subscription.encode()


def member_key(group: str, channel: str) -> bytes:
    """Key of a group's member; with channel "" the prefix of all of them."""
    return b"g" + group.encode() + b"\0" + channel.encode()


def target_key(group: str, address: str) -> bytes:
    """Key of a group's target; with address "" the prefix of all of them."""
    return b"t" + group.encode() + b"\0" + address.encode()


def membership_key(channel: str, group: str) -> bytes:
    """Key that says `channel` is in `group`; with group "" the prefix of all its groups."""
    return b"r" + channel.encode() + b"\0" + group.encode()


def subscription_name(channels: tuple[str, ...]) -> str:
    """Return the name of the subscription to a set of channels."""
    return blake2b("\0".join(sorted(channels)).encode(), digest_size=8).hexdigest()


_LONGEST_LANE = 200


def _hash(data: bytes) -> bytes:
    return blake2b(data, digest_size=32).hexdigest().encode()
