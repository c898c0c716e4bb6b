"""Operations made ready to be sent: bundles and envelopes, in batches, one a shard."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from secrets import randbits
from sys import maxsize
from typing import Any

import msgspec

from busway.bus import names
from busway.bus.bundles import MAX_SIZE, tie
from busway.bus.codec import Envelope, Kind, encode, encode_message
from busway.bus.messages import Message, check_message, check_text
from busway.bus.operations import (
    Delivery,
    GroupAdd,
    GroupDiscard,
    GroupSend,
    Leave,
    Operation,
    Send,
)
from busway.bus.parcels import lane_of, message_parcel, notice
from busway.bus.plans import Plan, Plans
from busway.bus.redis.wire import HEAD, core_of, lane_field, turn_of
from busway.bus.sealing import Seal

Row = tuple[float, int, int, str, float, Any, str, str, int]
"""The fields of an `Envelope`: it is made and encoded in less time."""

_MESSAGE = int(Kind.MESSAGE)

_MAX_COUNT = 64
"""Messages in a bundle: as many as a worker takes at once."""


class Run(msgspec.Struct, gc=False):
    """Messages for one channel, that go there as one bundle."""

    segment: list[Any]
    indexes: list[int]
    """Places of their operations."""
    envelopes: list[bytes]
    table: list[Any]
    """Length of the envelope and turn, of each."""
    expires: float
    size: int = 0

    def bundle(self) -> bytes:
        """Return the messages as a bundle: see `lua/common.lua`."""
        count = len(self.envelopes)
        self.segment[1] = count
        table = encode(self.table)
        return HEAD.pack(0, count, self.expires, len(table)) + table + tie(self.envelopes)


class Batch(msgspec.Struct, gc=False):
    """Operations for one shard."""

    segments: list[Any]
    parts: list[Run | bytes]
    """What the segments need, in their order: runs, or envelopes."""
    places: list[list[int]]
    """Places of each segment's operations."""
    runs: dict[str, Run]
    """Of each address, the one that takes further messages."""
    lanes: set[str]
    """Lanes of messages in `runs`."""

    def arguments(self) -> list[bytes]:
        """Return what the segments need, as bytes."""
        return [part if isinstance(part, bytes) else part.bundle() for part in self.parts]

    def add(self, segment: list[Any], index: int, *parts: bytes) -> None:
        """Add an operation that is no plain send; all that follows comes after it."""
        self.runs.clear()
        self.lanes.clear()
        self.segments.append(segment)
        self.places.append([index])
        self.parts += parts

    def send(self, plan: Plan, row: Row, data: bytes, index: int) -> None:
        """Add a message, whose encoded envelope is `data`."""
        size = len(data)
        turn = ""
        if row[6]:
            lane, id_ = lane_field(row[6]), f"{row[2]:016x}"
            turn = id_ + lane
            if lane in self.lanes:
                # It comes behind: what is in another channel may be before it, too.
                self.runs.clear()
                self.lanes.clear()
            self.lanes.add(lane)
        run = self.runs.get(plan.address)
        if run is None or len(run.indexes) == _MAX_COUNT or run.size > MAX_SIZE:
            segment = [0, 0, plan.address, plan.capacity, plan.lane_capacity]
            run = self.runs[plan.address] = Run(segment, [], [], [], row[0])
            self.segments.append(segment)
            self.places.append(run.indexes)
            self.parts.append(run)
        run.indexes.append(index)
        run.envelopes.append(data)
        run.table += (size, turn)
        run.size += size
        if turn:
            run.segment += (lane, id_)


class Packer:
    """Makes batches of operations, for one layer."""

    def __init__(
        self,
        plans: Plans,
        ordering_keys: Iterable[str],
        limit: int,
        group_expiry: float,
        ids: Callable[[], int],
        seal: Seal | None,
    ) -> None:
        """Pack by `plans`.

        Args:
            ordering_keys: keys of messages by which any channel is ordered.
            limit: bytes of a message.
            group_expiry: seconds for which a membership lasts.
            ids: gives new ids.
            seal: what encrypts messages, if anything does.
        """
        self._plans = plans
        self._ordering_keys = tuple(ordering_keys)
        self._limit = limit
        self._group_expiry = group_expiry
        self._new_id = ids
        self._seal = seal

    def pack(
        self,
        operations: Sequence[Operation],
        times: Sequence[float],
        shard_of: Callable[[str, str], int],
    ) -> list[Batch | None]:
        """Return the batch of each shard, or None.

        `times` is the time by the clock of each, seconds since the epoch; `shard_of` says where an
        address and a lane belong.
        Raises `UsageError` for names and messages that are wrong.
        """
        try:
            return self._pack(operations, times, shard_of)
        except TypeError:
            for operation in operations:
                if isinstance(operation, Send):  # no name to look up, or no message
                    names.check_channel(operation.channel)
                    check_message(operation.message)
            raise
        except UnicodeEncodeError:
            for operation in operations:
                if isinstance(operation, Send):  # the key of a lane
                    check_text(operation.message)
            raise

    def _pack(
        self,
        operations: Sequence[Operation],
        times: Sequence[float],
        shard_of: Callable[[str, str], int],
    ) -> list[Batch | None]:
        shards = len(times)
        batches: list[Batch | None] = [None] * shards
        plans, new_id, seal, limit = self._plans, self._new_id, self._seal, self._limit
        for index, operation in enumerate(operations):
            if not isinstance(operation, Send) or operation.delay:
                self._pack_other(batches, index, operation, times, shard_of)
                continue
            channel = operation.channel
            message: Any = operation.message
            plan = plans[channel]
            if not operation.checked:
                check_message(message)
            lane = "" if plan.ordering is None else lane_of(plan, message)
            shard = shard_of(plan.address, lane) if shards > 1 else 0
            now = times[shard]
            if seal is not None:
                message = seal.close(message, channel, limit)
            row = (now + plan.expiry, _MESSAGE, new_id(), channel, now, message, lane, "", 1)
            data = encode(row)
            if len(data) > limit and seal is None:
                encode_message(message, channel, limit, checked=True)
            (batches[shard] or _batch(batches, shard)).send(plan, row, data, index)
        return batches

    def _close(self, envelope: Envelope) -> bytes:
        """Return an envelope encoded, its message encrypted if need be.

        Raises what `encode_message` does.
        """
        limit = self._limit
        if self._seal is not None:
            envelope.message = self._seal.close(envelope.message, envelope.channel, limit)
            return encode(envelope)
        data = encode(envelope)
        if len(data) > limit:
            encode_message(envelope.message, envelope.channel, limit)
        return data

    def repack(self, delivery: Delivery) -> bytes:
        """Return the envelope of a delivery as it was before it was opened."""
        fields = (getattr(delivery, name) for name in Envelope.__struct_fields__)
        envelope = Envelope(*fields)
        seal, message, group = self._seal, envelope.message, envelope.group
        if seal is not None and group:
            envelope.message = seal.close_for_group(message, group, maxsize)
        elif seal is not None:
            envelope.message = seal.close(message, envelope.channel, maxsize)
        return encode(envelope)

    def _pack_other(
        self,
        batches: list[Batch | None],
        index: int,
        operation: Operation,
        times: Sequence[float],
        shard_of: Callable[[str, str], int],
    ) -> None:
        match operation:
            case Send():
                self._pack_delayed(batches, index, operation, times, shard_of)
            case GroupSend(group):
                names.check_group(group)
                self._pack_group_send(batches, index, operation, times)
            case GroupAdd(group, channel):
                names.check_group(group)
                names.check_channel(channel)
                plan = self._plans[channel]
                shard = shard_of(plan.address, "")
                batch, now = _batch(batches, shard), times[shard]
                lane = plan.lane.partition("\0")[0]
                rule = [plan.capacity, plan.lane_capacity, plan.expiry, plan.ordering or "", lane]
                joined = self._notice(plan, Kind.JOINED, group, channel, now)
                expires = now + self._group_expiry
                batch.add([1, group, channel, expires, rule], index, *joined)
            case GroupDiscard(group, channel):
                names.check_group(group)
                names.check_channel(channel)
                plan = self._plans[channel]
                shard = shard_of(plan.address, "")
                batch, now = _batch(batches, shard), times[shard]
                left = self._notice(plan, Kind.LEFT, group, channel, now)
                batch.add([2, group, channel], index, *left)
            case Leave(channel):
                names.check_channel(channel)
                plan = self._plans[channel]
                shard = shard_of(plan.address, "")
                batch, now = _batch(batches, shard), times[shard]
                batch.add([5, channel], index, *self._notice(plan, Kind.LEFT, "", channel, now))
            case _:
                pass  # what is given back is put back all at once, to keep its order

    def _pack_delayed(
        self,
        batches: list[Batch | None],
        index: int,
        send: Send,
        times: Sequence[float],
        shard_of: Callable[[str, str], int],
    ) -> None:
        channel, message = send.channel, send.message
        names.check_channel(channel)
        if not send.checked:
            check_message(message)
        plan = self._plans[channel]
        shard = shard_of(plan.address, "" if plan.ordering is None else lane_of(plan, message))
        parcel = message_parcel(plan, channel, message, self._new_id(), times[shard], send.delay)
        envelope, batch = parcel.envelope, _batch(batches, shard)
        turn = turn_of(envelope.id, envelope.lane)
        segment = [4, plan.address, turn, parcel.due, f"{envelope.id:016x}"]
        batch.add(segment, index, self._close(envelope))

    def _pack_group_send(
        self,
        batches: list[Batch | None],
        index: int,
        operation: GroupSend,
        times: Sequence[float],
    ) -> None:
        group, message = operation.group, operation.message
        encode_message(message, group, self._limit, checked=operation.checked)
        values = self._lane_values(message)
        if self._seal is not None:
            message = self._seal.close_for_group(message, group, self._limit)
        core = core_of(message, times[0])
        for shard in range(len(batches)):
            batch = _batch(batches, shard)
            # Each target's message gets its number in the place of the last eight digits.
            batch.add([3, group, f"{randbits(31):08x}00000000", values], index, core)

    def _lane_values(self, message: Message) -> dict[str, str]:
        keys = self._ordering_keys
        return {key: str(value) for key in keys if (value := message.get(key)) is not None}

    def _notice(
        self, plan: Plan, kind: Kind, group: str, channel: str, now: float
    ) -> tuple[bytes, ...]:
        parcel = notice(plan, kind, group, channel, self._new_id(), now)
        return (parcel.data,) if parcel is not None else ()


def _batch(batches: list[Batch | None], shard: int) -> Batch:
    batch = batches[shard]
    if batch is None:
        batch = batches[shard] = Batch([], [], [], {}, set())
    return batch


def restored(deliveries: Sequence[Delivery], envelopes: Iterable[bytes]) -> Batch:
    """Return a batch that puts deliveries, which are not held, back in front."""
    batch = Batch([], [], [], {}, set())
    batch.add([6, *(turn_of(each.id, each.lane) for each in deliveries)], 0, *envelopes)
    return batch


def dropped(counts: Mapping[tuple[str, str], int]) -> Batch:
    """Return a batch that counts messages as dropped, by address and reason."""
    batch = Batch([], [], [], {}, set())
    for (address, reason), number in counts.items():
        batch.add([7, address, reason, number], 0)
    return batch
