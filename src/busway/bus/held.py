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
        self.state: tuple[int, dict[int, tuple[int, bytes]]] = (0, {})
        """The last place, and the place of each message → the place of its bundle's first, and the
        bundle. Replaced by every change, so that who keeps it can undo what came later."""

    def take(self, bundles: Sequence[bytes]) -> int:
        """Add bundles; returns the place of their first message."""
        last, held = self.state
        first = place = last + 1
        held = held.copy()
        for bundle in bundles:
            end = place + count_of(bundle)
            held.update(dict.fromkeys(range(place, end), (place, bundle)))
            place = end
        self.state = place - 1, held
        return first

    def finish(self, deliveries: Iterable[Delivery]) -> bool:
        """Remove what was handled or given back; True when anything of it was held."""
        last, before = self.state
        held = before.copy()
        for delivery in deliveries:
            held.pop(delivery.place, None)
        self.state = last, held
        return len(held) < len(before)

    def get(self, delivery: Delivery) -> bytes | None:
        """Return the encoded envelope of a delivery, or None when it is not held."""
        found = self.state[1].get(delivery.place)
        if found is None:
            return None
        first, bundle = found
        return untie(bundle)[delivery.place - first]

    def record(self) -> HoldRecord:
        """Return the record for the store: who finds this receiver dead settles it by that."""
        held = self.state[1]
        return HoldRecord(list(held), dict(held.values()))
