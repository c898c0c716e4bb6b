"""Operations checked and encoded, ready for a transaction."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from busway.bus import membership, names
from busway.bus.bundles import MAX_COUNT, tie_run
from busway.bus.codec import Kind, encode_message
from busway.bus.messages import Message, check_message, check_text
from busway.bus.operations import (
    Delivery,
    GroupAdd,
    GroupDiscard,
    GroupSend,
    Leave,
    Operation,
    Return,
    Send,
)
from busway.bus.parcels import (
    NO_LANE,
    Parcel,
    Refused,
    Run,
    group_parcel,
    lane_of,
    message_parcel,
    notice,
    size_of,
)
from busway.bus.queues import group_send
from busway.bus.records import lane_keys, new_lane
from busway.bus.transaction import Transaction

if TYPE_CHECKING:
    from busway.bus.stored import StoredLayer

Step = Callable[[Transaction], Refused | None]
"""Does an operation; returns why when there was no room."""


class Single(NamedTuple):
    """An operation that is not part of a run."""

    place: int
    """Where it stands among the operations."""
    work: Parcel | Step


class Prepared(msgspec.Struct, frozen=True, gc=False):
    """The operations of one exchange."""

    items: Sequence[Run | Single] = ()
    """What they put into queues, and what else they do in a transaction."""
    returned: Sequence[Delivery] = ()
    """What is given back: put back all at once, to keep its order."""
    size: int = 0
    """Bytes that the messages take in a store, about."""


NOTHING = Prepared()


def prepare(operations: Sequence[Operation], layer: "StoredLayer", now: float) -> Prepared:
    """Make operations ready.

    `now` is seconds since the epoch. Raises `UsageError` for names and messages that are wrong.
    """
    try:
        return _prepare(operations, layer, now)
    except TypeError:
        for operation in operations:
            if isinstance(operation, Send):  # a name that cannot even be looked up, or no message
                names.check_channel(operation.channel)
                check_message(operation.message)
        raise
    except UnicodeEncodeError:
        for operation in operations:
            if isinstance(operation, Send):  # the key of a lane
                check_text(operation.message)
        raise


def _prepare(operations: Sequence[Operation], layer: "StoredLayer", now: float) -> Prepared:
    items: list[Run | Single] = []
    returned: list[Delivery] = []
    plans = layer.plans
    # Runs that may go on, by address. Lanes go across channels, so of ordered ones only the last.
    runs: dict[str, Run] = {}
    run: Run | None = None
    size = 0
    for place, operation in enumerate(operations):
        if not isinstance(operation, Send) or operation.delay:
            runs, run = {}, None
            if isinstance(operation, Return):
                returned.append(operation.delivery)
                continue
            work = _step(operation, layer, now)
            items.append(Single(place, work))
            if isinstance(work, Parcel):
                size += size_of(work)
            continue
        plan = plans[operation.channel]
        if not operation.checked:
            check_message(operation.message)
        if run is None or run.plan is not plan or len(run.places) == MAX_COUNT:
            key = plan.address if plan.ordering is None else _ORDERED
            run = runs.get(key)
            if run is None or run.plan.address != plan.address or len(run.places) == MAX_COUNT:
                run = runs[key] = Run(plan)
                items.append(run)
        run.places.append(place)
        run.sends.append(operation)
    for item in items:
        if isinstance(item, Run):
            _encode(item, layer, now)
            size += size_of(item)
    return Prepared(items, returned, size)


_ORDERED = ""
"""Stands for the address of whatever channel with lanes was the last."""


def _encode(run: Run, layer: "StoredLayer", now: float) -> None:
    """Encode a run, after which its messages may be changed. Raises what `encode_message` does."""
    plan, new_id, seal, limit = run.plan, layer.ids.new, layer.seal, layer.message_size
    expires = now + plan.expiry
    if plan.ordering is None:
        run.rows = [
            (expires, _MESSAGE, new_id(), send.channel, now, send.message, "") for send in run.sends
        ]
    else:
        lanes = [lane_of(plan, send.message) for send in run.sends]
        run.rows = [
            (expires, _MESSAGE, new_id(), send.channel, now, send.message, lane)
            for send, lane in zip(run.sends, lanes, strict=True)
        ]
        if any(lanes):
            run.lanes = [
                (key, new_lane(row[2])) if row[6] else NO_LANE
                for key, row in zip(lane_keys(lanes), run.rows, strict=True)
            ]
    if seal is not None:
        run.rows = [(*row[:5], seal.close(row[5], row[3], limit), row[6]) for row in run.rows]
        tie_run(run)
        return
    try:
        is_small = tie_run(run) <= limit
    except UnicodeEncodeError:
        is_small = False
    if not is_small:
        for send in run.sends:
            encode_message(send.message, send.channel, limit)


_MESSAGE = int(Kind.MESSAGE)


def _step(
    operation: Send | GroupSend | GroupAdd | GroupDiscard | Leave,
    layer: "StoredLayer",
    now: float,
) -> Parcel | Step:
    new_id, limit = layer.ids.new, layer.message_size
    match operation:
        case Send(channel, message, delay):
            names.check_channel(channel)
            encode_message(message, channel, limit, checked=operation.checked)
            plan = layer.plans[channel]
            parcel = message_parcel(plan, channel, message, new_id(), now, delay)
            if layer.seal is not None:
                parcel.envelope.message = layer.seal.close(message, channel, limit)
            return parcel
        case GroupSend(group, message):
            names.check_group(group)
            encode_message(message, group, limit, checked=operation.checked)
            sealed = layer.seal.close_for_group(message, group, limit) if layer.seal else None
            return partial(_send_to_group, layer, group, message, sealed, now)
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


def _leave(layer: "StoredLayer", channel: str, now: float, step: Transaction) -> None:
    # Most channels that end were in no group.
    if membership.leave(step, channel):
        plan = layer.plans.find(channel)
        if left := notice(plan, Kind.LEFT, "", channel, layer.ids.new(), now):
            step.notify(left)


def _send_to_group(
    layer: "StoredLayer",
    group: str,
    message: Message,
    sealed: dict[str, Any] | None,
    now: float,
    step: Transaction,
) -> None:
    for target in membership.group_targets(step, group):
        plan = layer.plans.find(target)
        parcel = group_parcel(plan, group, target, message, layer.ids.new(), now)
        if sealed is not None:
            parcel.envelope.message = sealed
        group_send(step, parcel)
