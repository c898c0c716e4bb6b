"""What a receiver has in its hands: messages that it took and has not finished."""

from collections.abc import Iterable, Sequence

from busway.bus.bundles import count_of, untie
from busway.bus.operations import Delivery
from busway.bus.records import HoldRecord


class Held:
    """A receiver's messages, each by its place in all that the receiver ever took."""

    def __init__(self) -> None:
        self.begun = 0
        """The highest place that was begun; places count from 1."""
        self._last = 0
        # The place of each message → the place of its bundle's first, and the bundle. Never
        # changed, but replaced by a changed copy.
        self._bundles: dict[int, tuple[int, bytes]] = {}
        self.remember()

    def take(self, bundles: Sequence[bytes]) -> int:
        """Add bundles; returns the place of their first message."""
        first = place = self._last + 1
        if bundles:
            held = self._bundles = self._bundles.copy()
            for bundle in bundles:
                end = place + count_of(bundle)
                held.update(dict.fromkeys(range(place, end), (place, bundle)))
                place = end
            self._last = place - 1
        return first

    def finish(self, deliveries: Iterable[Delivery]) -> bool:
        """Remove what was handled or given back; True when anything of it was held."""
        before = self._bundles
        bundles = self._bundles = before.copy()
        for delivery in deliveries:
            bundles.pop(delivery.place, None)
        return len(bundles) < len(before)

    def get(self, delivery: Delivery) -> bytes | None:
        """Return the encoded envelope of a delivery, or None when it is not held."""
        found = self._bundles.get(delivery.place)
        if found is None:
            return None
        first, bundle = found
        return untie(bundle)[delivery.place - first]

    def record(self) -> HoldRecord:
        """Return the record for the store: who finds this receiver dead settles it by that."""
        return HoldRecord(list(self._bundles), dict(self._bundles.values()))

    def remember(self) -> None:
        """Begin a change that may have to be undone."""
        self._before = self._last, self._bundles

    def undo(self) -> None:
        """Go back to what was held at the last `remember`."""
        self._last, self._bundles = self._before
