"""Every topic in one class."""

from busway.bus.conformance import (
    accounts,
    contents,
    crowds,
    groups,
    holding,
    inspection,
    lanes,
    limits,
    machine,
    processes,
    queues,
    timing,
    waiting,
)
from busway.bus.conformance.peers import Factory

__all__ = ["Factory", "Suite"]


class Suite(
    queues.Queues,
    queues.Names,
    queues.Fairness,
    contents.Contents,
    contents.Size,
    contents.Isolation,
    limits.Capacity,
    limits.Rules,
    timing.Expiry,
    timing.Delay,
    groups.Members,
    groups.GroupMessages,
    groups.Endings,
    lanes.Lanes,
    lanes.LaneRoom,
    lanes.LanesAtWork,
    holding.Holding,
    holding.Atomicity,
    holding.Closing,
    waiting.Sleeping,
    waiting.Interrupting,
    waiting.Conservation,
    waiting.Room,
    crowds.Crowds,
    crowds.Cancelling,
    accounts.Counts,
    accounts.Flush,
    inspection.Channels,
    inspection.Groups,
    inspection.Shards,
    processes.Processes,
    processes.Deaths,
    machine.Machine,
):
    """All tests of the contract; a subclass defines the fixture `layer_factory`."""
