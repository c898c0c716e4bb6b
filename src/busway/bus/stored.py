"""Layers that keep their messages in an ordered key-value store: shared by memory and IPC.

A backend gives transactions of its store, bells, marks, and a way to see who has died.
"""

import time
from abc import abstractmethod
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from itertools import count
from typing import Any, TypeVar

from busway.bus import names, records
from busway.bus.bell import Bell
from busway.bus.codec import Ids, Kind
from busway.bus.errors import LayerClosed
from busway.bus.groups import LocalGroups
from busway.bus.layer import ChannelLayer
from busway.bus.marks import Mark
from busway.bus.parcels import notice
from busway.bus.plans import Plans
from busway.bus.queues import first
from busway.bus.receiver import Receiver
from busway.bus.statistics import GroupSize, Statistics
from busway.bus.stored_receiver import StoredReceiver
from busway.bus.sweep import (
    SWEEP_SIZE,
    clear,
    count_channels,
    count_messages,
    measure_groups,
    sweep,
)
from busway.bus.transaction import Store, StoreFull, Transaction

T = TypeVar("T")

SWEEP_INTERVAL = 5.0
"""Seconds between two looks of a process for what has expired or died."""


class StoredLayer(ChannelLayer):
    """A channel layer over a store."""

    def __init__(self, **options: Any) -> None:
        """Take the options of `ChannelLayer`."""
        super().__init__(**options)
        self.process = names.random_part()
        """This process's name on the bus."""
        self.plans = Plans(self.policies)
        self.groups = LocalGroups()
        self.ids = Ids()
        self.next_sweep = 0.0
        self._swept = b""
        self._numbers = count()

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Store]:
        """Begin a transaction: committed at the end of the `with` block, undone on an error."""

    @abstractmethod
    def bell(self, receiver: str) -> Bell:
        """Return a new bell that `ring` reaches under the name `receiver`."""

    @abstractmethod
    def ring(self, receivers: Collection[str]) -> None:
        """Wake receivers; those that have died are cleaned up."""

    def mark(self, receiver: str) -> Mark:
        """Return the place where `receiver` notes what it has begun."""
        return Mark()

    def forget(self, receiver: str) -> None:
        """Remove what `ring` knows of a receiver that was closed."""

    def bury(self) -> None:
        """Find processes that have died and settle what they held."""

    def receiver(self) -> Receiver:
        """Return a new reader of this layer, for one thread or one event loop; close it after."""
        if self._closed:
            raise LayerClosed("channel layer")
        return StoredReceiver(self, f"{self.process}.{next(self._numbers)}")

    def group_channels(self, group: str) -> list[str]:
        """Return the member channels of `group`, in no particular order."""
        names.check_group(group)
        prefix = records.member_key(group, "")
        now = time.time()
        with self.transaction() as store:
            return [
                key[len(prefix) :].decode()
                for key, raw in store.scan(prefix)
                if records.decode_time(raw) > now
            ]

    def peek(self, channel: str) -> dict[str, Any] | None:
        """See `ChannelLayer.peek`. Nothing is written."""
        names.check_channel(channel)
        names.check_receivable(channel)
        now = time.time()
        with self.transaction() as store:
            found = first(store, channel, now)
        if found is None or (self.seal is not None and not self.seal.open(found)):
            return None
        return found.message

    def flush(self) -> None:
        """Drop every message, group and count. Receivers that wait go on waiting."""
        now = time.time()
        with self.transaction() as store:
            blocked, prefixes = clear(store)
            step = Transaction(store, store.data, self.plans, now)
            for prefix in prefixes:
                plan = self.plans.find(prefix)
                if left := notice(plan, Kind.LEFT, "", prefix, self.ids.new(), now):
                    step.notify(left)
            step.finish()
        self._local.clear()
        self.ring([*blocked, *step.rings])

    def statistics(self, channel: str | None = None) -> Statistics:
        """Return the counts of `channel` (or prefix), or of the whole layer for None."""
        if channel is not None:
            names.check_receivable(channel)
        now = time.time()
        return self._after_sweep(now, lambda store: count_messages(store, channel, now))

    def channel_statistics(self) -> dict[str, Statistics]:
        """Return the counts of every channel (or prefix) that the layer remembers."""
        now = time.time()
        return self._after_sweep(now, lambda store: count_channels(store, now))

    def group_sizes(self) -> dict[str, GroupSize]:
        """Return how large each group is that has a member."""
        return self._after_sweep(time.time(), measure_groups)

    def _after_sweep(self, now: float, look: Callable[[Store], T]) -> T:
        """Return what `look` finds when what has expired is gone."""
        with self.transaction() as store:
            step = Transaction(store, store.data, self.plans, now)
            sweep(store, step, now)
            step.finish()
            found = look(store)
        self.ring(step.rings)
        return found

    def tidy(self, now: float) -> None:
        """Drop what has expired and settle what the dead have left, every few seconds."""
        self.next_sweep = now + SWEEP_INTERVAL
        self.bury()
        try:
            with self.transaction() as store:
                step = Transaction(store, store.data, self.plans, now)
                swept = sweep(store, step, now, self._swept, SWEEP_SIZE)
                step.finish()
        except StoreFull:
            return  # what is taken meanwhile makes room
        self._swept = swept
        self.ring(step.rings)
