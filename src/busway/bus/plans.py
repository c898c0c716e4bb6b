"""What is to be known of a channel to send to it, looked up once and kept."""

import msgspec

from busway.bus import names, records
from busway.bus.policy import Policies

_MAX_PLANS = 20_000
"""Channels whose plans are kept; beyond that all are forgotten."""


class Plan(msgspec.Struct, frozen=True, gc=False):
    """Where the messages of a channel go, and the rules that apply there."""

    address: str
    """The channel, or its prefix up to "!"."""
    queue: bytes
    """The key of its queue, without the index."""
    lane: str
    """What the names of its lanes begin with."""
    ordering: str | None
    expiry: float
    """Seconds."""
    capacity: int
    lane_capacity: int


class Plans(dict[str, Plan]):
    """The plan of each channel: `plans[channel]`. Thread-safe.

    Raises `InvalidName` for what is not the name of one channel.
    """

    def __init__(self, policies: Policies) -> None:
        """Find plans by `policies`."""
        super().__init__()
        self._policies = policies
        self._found: dict[str, Plan] = {}
        """By address: all channels of a prefix share one plan."""

    def __missing__(self, channel: str) -> Plan:
        names.check_channel(channel)
        if len(self) >= _MAX_PLANS:
            self.clear()
        plan = self[channel] = self.find(channel)
        return plan

    def find(self, name: str) -> Plan:
        """Return the plan of a channel or prefix, whose name is known to be right."""
        address = names.address(name)
        plan = self._found.get(address)
        if plan is None:
            if len(self._found) >= _MAX_PLANS:
                self._found.clear()
            plan = self._found[address] = self._make(address)
        return plan

    def _make(self, address: str) -> Plan:
        pattern, policy = self._policies.find(address)
        return Plan(
            address,
            records.queue_prefix(address),
            f"{pattern}\0",
            policy.ordering,
            policy.expiry,
            policy.capacity,
            policy.lane_capacity,
        )
