"""A channel layer so simple that it is obviously right: lists and dicts, no time, one caller.

`machine` compares real layers with it.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

CAPACITY = 4
LANE_CAPACITY = 2


def options(lanes_capacity: int) -> dict[str, Any]:
    """Return what a layer has to be made with to behave like the model."""
    lanes = {"ordering": "key", "capacity": lanes_capacity, "lane_capacity": LANE_CAPACITY}
    return {"capacity": CAPACITY, "policies": {"lanes.*": lanes}}


def address(channel: str) -> str:
    """Return the name under which a channel's messages queue."""
    name, mark, _ = channel.partition("!")
    return name + mark


@dataclass(eq=False)
class Item:
    """A message in the model: its number is all that it holds."""

    channel: str
    number: int
    lane: str = ""
    members: frozenset[str] = frozenset()


@dataclass
class Queue:
    """Messages that wait in one channel or prefix, and its counts."""

    items: deque[Item] = field(default_factory=deque)
    accepted: int = 0
    refused: int = 0
    skipped: int = 0


@dataclass
class Lane:
    """A lane in use: the message in front, and those behind it."""

    current: Item
    behind: deque[Item] = field(default_factory=deque)


class Model:
    """Queues, lanes and groups, changed one step at a time."""

    def __init__(self, lanes_capacity: int) -> None:
        self._lanes_capacity = lanes_capacity
        self.queues: dict[str, Queue] = {}
        self.lanes: dict[str, Lane] = {}
        self.groups: dict[str, set[str]] = {}

    def queue(self, name: str) -> Queue:
        """Return the queue of a channel or prefix."""
        return self.queues.setdefault(address(name), Queue())

    def place(self, item: Item) -> str:
        """Put a message where it belongs; returns "", or why there is no room."""
        queue = self.queue(item.channel)
        lane = self.lanes.get(item.lane)
        if lane is not None:
            if len(lane.behind) >= LANE_CAPACITY:
                return "lane"
            lane.behind.append(item)
        elif len(queue.items) >= (self._lanes_capacity if "lanes" in item.channel else CAPACITY):
            return "capacity"
        else:
            if item.lane:
                self.lanes[item.lane] = Lane(item)
            queue.items.append(item)
        queue.accepted += 1
        return ""

    def send(self, item: Item, stopped: set[str]) -> str:
        """Send a message; returns "", or why it was refused.

        `stopped` has the lanes that were refused something in the same exchange.
        """
        why = "lane" if item.lane in stopped else self.place(item)
        if why:
            self.queue(item.channel).refused += 1
            stopped |= {item.lane} - {""}
        return why

    def group_send(self, group: str, number: int) -> None:
        """Send to every member; those under one prefix share a message."""
        members = self.groups.get(group, set())
        for target in {address(member) for member in members}:
            own = frozenset(m for m in members if address(m) == target and "!" in m)
            if self.place(Item(target, number, members=own)):
                self.queue(target).skipped += 1

    def leave(self, channel: str) -> None:
        """Take a channel out of every group."""
        for members in self.groups.values():
            members.discard(channel)

    def is_addressed(self, channel: str) -> bool:
        """Return whether a group message waits that `channel` is to get."""
        return any(channel in item.members for item in self.queue(channel).items)

    def done(self, items: Sequence[Item]) -> None:
        """Let the lanes of handled messages go on."""
        for item in items:
            lane = self.lanes.get(item.lane)
            if lane is None or lane.current is not item:
                continue
            if lane.behind:
                lane.current = lane.behind.popleft()
                self.queue(lane.current.channel).items.append(lane.current)
            else:
                del self.lanes[item.lane]

    def put_back(self, items: Sequence[Item]) -> None:
        """Put messages in front of their queues, in their order."""
        for item in reversed(items):
            self.queue(item.channel).items.appendleft(item)

    def pending(self, name: str) -> int:
        """Return how many messages wait in a channel, those behind lanes included."""
        behind = (item for lane in self.lanes.values() for item in lane.behind)
        return len(self.queue(name).items) + sum(item.channel == name for item in behind)
