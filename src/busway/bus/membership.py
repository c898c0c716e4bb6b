"""The upper level of groups: which processes and channels a group's messages go to."""

from busway.bus import records
from busway.bus.names import address
from busway.bus.parcels import Parcel, Refused
from busway.bus.records import TargetRecord
from busway.bus.transaction import Transaction

MEMBERSHIP_SIZE = 600
"""Bytes that a new membership takes in a store, with its notice, about."""


def group_add(
    step: Transaction, group: str, channel: str, expires: float, notice: Parcel | None
) -> Refused | None:
    """Record a membership until `expires`; `notice` tells the process that owns `channel`.

    Returns why when the store has no room.
    """
    if not step.fits(MEMBERSHIP_SIZE):
        return Refused(channel, "memory", step.store.limit())
    target_key = records.target_key(group, address(channel))
    raw = step.data.get(target_key)
    target = records.decode_target(raw) if raw else TargetRecord(0, 0.0)
    key = records.member_key(group, channel)
    if step.data.put(key, records.encode(expires), True, False):
        step.data.put(records.membership_key(channel, group), b"")
        target.members += 1
    else:
        step.data.put(key, records.encode(expires))
    target.expires = max(target.expires, expires)
    step.data.put(target_key, records.encode(target))
    if notice:
        step.notify(notice)
    return None


def group_discard(step: Transaction, group: str, channel: str, notice: Parcel | None) -> None:
    """Remove a membership, if there is one; `notice` tells the owner of `channel`."""
    if step.data.pop(records.member_key(group, channel)) is None:
        return
    step.data.pop(records.membership_key(channel, group))
    key = records.target_key(group, address(channel))
    raw = step.data.get(key)
    if raw:
        target = records.decode_target(raw)
        target.members -= 1
        if target.members > 0:
            step.data.put(key, records.encode(target))
        else:
            step.data.pop(key)
    if notice:
        step.notify(notice)


def leave(step: Transaction, channel: str) -> bool:
    """Remove every membership of `channel`; of a prefix, those of all its channels.

    Returns whether there were any.
    """
    members = b"r" + channel.encode() if channel[-1] == "!" else records.membership_key(channel, "")
    found = False
    for key, _ in step.store.scan(members):
        member, _, group = key[1:].decode().partition("\0")
        group_discard(step, group, member, None)
        found = True
    return found


def group_targets(step: Transaction, group: str) -> list[str]:
    """Return the addresses that a message to `group` goes to; ended memberships leave."""
    prefix = records.target_key(group, "")
    targets = []
    for key, raw in step.store.scan(prefix):
        if records.decode_target(raw).expires > step.now:
            targets.append(key[len(prefix) :].decode())
    return targets
