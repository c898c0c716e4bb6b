"""What a layer says of itself: counts, the sizes of groups, and the places where messages are."""

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec


class Statistics(msgspec.Struct, frozen=True):
    """Counts of one channel or of the whole layer."""

    messages_count: int = 0
    """Messages accepted since the layer was made or flushed."""
    channel_full_count: int = 0
    """Sends refused for want of room."""
    messages_pending: int = 0
    """Messages that wait now, those behind a lane and the delayed ones included."""
    messages_max_age: float = 0.0
    """Seconds that the oldest waiting message has waited."""
    dropped: Mapping[str, int] = {}
    """Messages dropped, by reason: "expired", "full" (group members), "receiver died",
    "tampered" (see `busway.bus.encryption`), "malformed" (another language's client sent it)."""


def total(parts: Iterable[Statistics]) -> Statistics:
    """Return the counts of several channels or layers together."""
    accepted = refused = pending = 0
    age = 0.0
    dropped: Counter[str] = Counter()
    for part in parts:
        accepted += part.messages_count
        refused += part.channel_full_count
        pending += part.messages_pending
        age = max(age, part.messages_max_age)
        dropped.update(part.dropped)
    return Statistics(accepted, refused, pending, age, dict(dropped))


class GroupSize(msgspec.Struct, frozen=True):
    """How large a group is."""

    members: int
    """Channels in it."""
    processes: int
    """Processes that a message to the group goes to, each for all of its members there."""


class Shard(msgspec.Struct, frozen=True):
    """A place where a layer keeps its messages: a file, a server."""

    name: str
    """Where it is."""
    healthy: bool
    """Whether messages can be sent and received there now."""
    detail: str
    """What there is to say about it; if it is not healthy, what is wrong and what to do."""
    used: int = 0
    """Bytes in use; 0: unknown."""
    limit: int = 0
    """Bytes that may be in use; 0: no limit, or unknown."""
