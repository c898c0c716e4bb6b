"""Parts of the contract, for layers that are another one in another form.

`BUSWAY_SOAK=long` runs the whole suite on each form; else those are given the topics that depend
most on what is different.
"""

import os

from busway.bus.conformance import (
    accounts,
    contents,
    groups,
    holding,
    inspection,
    lanes,
    machine,
    queues,
    timing,
)

LONG = os.environ.get("BUSWAY_SOAK") == "long"


class OfServers(
    accounts.Counts,
    accounts.Flush,
    groups.GroupMessages,
    groups.Endings,
    holding.Holding,
    inspection.Channels,
    inspection.Shards,
    lanes.LanesAtWork,
    machine.Machine,
    timing.Delay,
):
    """What a layer uses most of a server's commands for."""


class OfMessages(
    queues.Queues,
    contents.Contents,
    contents.Size,
    groups.GroupMessages,
    lanes.Lanes,
    holding.Holding,
    holding.Atomicity,
    accounts.Counts,
):
    """What the contract says of messages, whoever sees them."""
