"""What goes over the wire: operations as requests to a shard, replies as messages. No I/O here."""

from collections.abc import Iterable, Sequence
from hashlib import sha1
from itertools import chain
from struct import Struct
from typing import Any

import msgspec

from busway.bus.bundles import untie
from busway.bus.codec import Envelope, Kind, encode
from busway.bus.errors import ChannelFull
from busway.bus.operations import Delivery, Operation, Refusal
from busway.bus.plans import Plans
from busway.bus.statistics import GroupSize, Statistics, total

HEAD = Struct(">BHdI")
"""Of a bundle: whether it is a notice, count, when the first expires, length of the table."""

ORDER = Struct(">dIdi")
"""In front of a bundle that was handed over: number of the request that allowed it, how many more
messages may be, its place, and how many messages count as begun, or -1. See `lua/common.lua`."""

HELD = -1
"""What `Request.awaits` is where messages are held."""

LONGEST_LANE = 200
"""Bytes; lanes with a longer name are known by its hash."""

_decode_refused = msgspec.msgpack.Decoder(list[Any]).decode

_ARRAY_HEAD = 3
"""Bytes, for 16 fields and more."""


class Request(msgspec.Struct, array_like=True, gc=False):
    """An exchange on one shard. `lua/exchange.lua` reads these fields, in this order."""

    receiver: str
    number: int
    again: bool = False
    """Whether it may have been done already."""
    process: str = ""
    """The receiver's process, to be registered; empty: it is."""
    segments: list[Any] | None = None
    done: list[str] | None = None
    """Lanes of messages that are done, and then their ids."""
    finished: list[str] | None = None
    gone: list[str] | None = None
    returned_finished: list[str] | None = None
    returned_gone: list[str] | None = None
    """As the two before, when something is refused and only what is given back leaves."""
    returned: list[int] | None = None
    """First place of the bundle and index in it, of each message that is given back."""
    channels: Sequence[str] | None = None
    limit: int = 0
    wake_below: int = 0
    hold: bool = False
    earlier: str = ""
    """The subscription that it is registered with."""
    earlier_channels: Sequence[str] | None = None
    subscription: str = ""
    place: int = 0
    reach: int = 0
    """Messages of what it takes that count as begun at once."""
    laned: bool = False
    turn: int = 0
    sleeps: bool = False
    """Whether it is to be registered whatever it takes."""
    full: bool = False
    """Whether it is done though the server's memory is in use: it adds nothing for long, or puts
    back what was there."""
    credit: int = 0
    """Messages that it may be handed while it sleeps; -1: none any more."""
    awaits: int = 0
    """Number of the bundle that it waits to be handed, from 1, or `HELD`; 0: it gets none so."""

    came: int = 0
    """Messages that it was handed, and that have come since it said so."""
    over: int = 0
    """Those of a server that has lost its data since, which counts them as lost."""

    def encode(self) -> bytes:
        """Return its fields as bytes, without the array's head: so a script needs no table."""
        return encode(self)[_ARRAY_HEAD:]


def lane_field(lane: str) -> str:
    """Return the name by which a shard knows a lane."""
    if len(lane) * 4 <= LONGEST_LANE:
        return lane
    data = lane.encode()
    if len(data) <= LONGEST_LANE:
        return lane
    return sha1(data, usedforsecurity=False).hexdigest()


def turn_of(id_: int, lane: str) -> str:
    """Return the turn of a message in its lane; empty without a lane."""
    return f"{id_:016x}{lane_field(lane)}" if lane else ""


def turns_done(deliveries: Iterable[Delivery]) -> list[str]:
    """Return the lanes of those deliveries that have one, and then their ids."""
    laned = [delivery for delivery in deliveries if delivery.lane]
    lanes = [lane_field(delivery.lane) for delivery in laned]
    return lanes + [f"{delivery.id:016x}" for delivery in laned]


def core_of(message: Any, now: float) -> bytes:
    """Return what is between channel and lane of an envelope, for a script that adds the rest."""
    return encode(Envelope(0.0, Kind.MESSAGE, 0, "", now, message))[_CORE_AT:-3]


_CORE_AT = 13
"""An envelope begins with its length, a double, three small values: kind, id, channel."""


def refusals(
    raw: bytes, places: Sequence[Sequence[int]], operations: Sequence[Operation], plans: Plans
) -> list[Refusal]:
    """Return the operations that a shard refused; `places` has those of each segment."""
    found = _decode_refused(raw)
    refused = []
    for segment, place, why in zip(found[::3], found[1::3], found[2::3], strict=True):
        index = places[segment - 1][place]
        operation = operations[index]
        plan = plans[operation.channel]
        limit = plan.lane_capacity if why == "lane" else plan.capacity
        refused.append(Refusal(index, operation, ChannelFull(plan.address, why, limit)))
    refused.sort(key=lambda refusal: refusal.index)
    return refused


def envelopes_of(bundle: bytes) -> bytes:
    """Return the msgpack array of the envelopes of a bundle."""
    return bundle[HEAD.size + HEAD.unpack_from(bundle)[3] :]


def decode_apart(envelopes: bytes) -> tuple[list[Delivery], list[Delivery]]:
    """Return the messages of a bundle that cannot be decoded as a whole, and those that are none.

    The latter, which are among the former, are empty. Raises `msgspec.DecodeError` when not even
    their envelopes can be read.
    """
    found: list[Delivery] = []
    malformed: list[Delivery] = []
    for data in untie(envelopes):
        try:
            found.append(_decode_delivery(data))
        except msgspec.ValidationError:
            fields = _decode_any(data)
            fields[5] = {}
            malformed.append(msgspec.convert(fields, Delivery))
            found.append(malformed[-1])
    return found, malformed


_decode_delivery = msgspec.msgpack.Decoder(Delivery).decode
_decode_any = msgspec.msgpack.Decoder(list[Any]).decode


def statistics_by_address(replies: Iterable[Sequence[Sequence[Any]]]) -> dict[str, Statistics]:
    """Return the counts of each channel, those of all shards together.

    Those of channels that are gone stand under the address "".
    """
    found: dict[str, Statistics] = {}
    for address, accepted, refused, pending, age, *drops in chain.from_iterable(replies):
        dropped = {
            reason.decode(): number for reason, number in zip(drops[::2], drops[1::2], strict=True)
        }
        one = Statistics(accepted, refused, pending, float(age), dropped)
        name = address.decode()
        found[name] = total([found[name], one]) if name in found else one
    return found


def group_sizes(replies: Iterable[Sequence[Any]]) -> dict[str, GroupSize]:
    """Return how large each group is on all shards together."""
    found: dict[str, GroupSize] = {}
    for reply in replies:
        for name, members, processes in zip(reply[::3], reply[1::3], reply[2::3], strict=True):
            group = name.decode()
            size = found.get(group, GroupSize(0, 0))
            found[group] = GroupSize(size.members + members, size.processes + processes)
    return found
