"""What a receiver holds, as it and the servers know it: bundles, each on one shard."""

from collections.abc import Iterable, Mapping

import msgspec

from busway.bus.operations import Delivery

Touched = dict[int, set[int]]
"""Places of messages, by the place of the first of their bundle."""


class Bundle(msgspec.Struct, gc=False):
    """Messages that one exchange took off one shard, at consecutive places."""

    shard: int
    first: int
    count: int
    gone: set[int]
    """Places of those that are done or were given back."""


class Changes(msgspec.Struct, gc=False):
    """What a shard has to change in its record of a receiver."""

    finished: list[str]
    """Fields to remove."""
    gone: list[str]
    """Fields and their new values."""


class Held:
    """A receiver's messages, each by its place in all that the receiver ever took."""

    def __init__(self) -> None:
        self.begun = 0
        """The highest place that was begun; places count from 1."""
        self.next = 1
        """The place of the next message that is taken."""
        self.lost: set[int] = set()
        """Places of what is in hand still and was lost with a shard's data: nobody else has it."""
        self.gone: set[int] = set()
        """Places of what others have got."""
        self._bundles: dict[int, Bundle] = {}

    def take(self, shard: int, first: int, count: int) -> None:
        """Add `count` messages that were taken off `shard`, at places from `first`."""
        bundle = Bundle(shard, first, count, set())
        self._bundles.update(dict.fromkeys(range(first, first + count), bundle))
        self.next = max(self.next, first + count)

    def find(self, delivery: Delivery) -> Bundle | None:
        """Return the bundle of a delivery that is held, or None."""
        return self._bundles.get(delivery.place)

    def misses(self, delivery: Delivery) -> bool:
        """Say whether a delivery was held, and went without this receiver having let it go."""
        return delivery.place in self.lost or delivery.place in self.gone

    def between(self, first: int, last: int) -> Iterable[Bundle]:
        """Return the bundles of what is held at places from `first` to `last`."""
        found = map(self._bundles.get, range(first, last + 1))
        return {bundle.first: bundle for bundle in found if bundle is not None}.values()

    def touch(self, deliveries: Iterable[Delivery]) -> Touched:
        """Return which of `deliveries` are held."""
        touched: Touched = {}
        bundles = self._bundles
        for delivery in deliveries:
            bundle = bundles.get(delivery.place)
            if bundle is not None:
                places = touched.get(bundle.first)
                if places is None:
                    places = touched[bundle.first] = set()
                places.add(delivery.place)
        return touched

    def changes(self, touched: Mapping[int, set[int]], shard: int) -> Changes:
        """Return what `shard` has to change when the messages in `touched` leave these hands."""
        changes = Changes([], [])
        for places in touched.values():
            bundle = self._bundles[next(iter(places))]
            if bundle.shard != shard:
                continue
            first = bundle.first
            if len(places) + len(bundle.gone) == bundle.count:
                changes.finished.append(str(first))
                if bundle.gone:
                    changes.finished.append(f"x{first}")
            else:
                indexes = (place - first + 1 for place in bundle.gone | places)
                changes.gone += (f"x{first}", ",".join(map(str, indexes)))
        return changes

    def remove(self, touched: Mapping[int, set[int]]) -> None:
        """Let the messages in `touched` go."""
        for places in touched.values():
            for place in places:
                bundle = self._bundles.pop(place)
                bundle.gone.add(place)

    def lose(self, shard: int) -> None:
        """Forget what was taken off a shard that has lost its data."""
        lost = [place for place, bundle in self._bundles.items() if bundle.shard == shard]
        for place in lost:
            del self._bundles[place]
        self.lost.update(lost)

    def give_away(self, bundle: Bundle) -> None:
        """Forget a bundle that others have got."""
        for place in range(bundle.first, bundle.first + bundle.count):
            if self._bundles.pop(place, None) is not None:
                self.gone.add(place)
