"""What a receiver has in its hands: messages that it took and has not finished."""

from collections.abc import Iterable, Sequence

from busway.bus.layer import Delivery
from busway.bus.records import HoldRecord


class Held:
    """A receiver's messages, each by its place in all that the receiver ever took."""

    def __init__(self) -> None:
        self.begun = 0
        """The highest place that was begun; places count from 1."""
        self._last = 0
        self._envelopes: dict[int, bytes] = {}

    def take(self, fresh: Sequence[bytes]) -> int:
        """Add envelopes; returns the place of the first."""
        first = self._last + 1
        self._last += len(fresh)
        self._envelopes.update(zip(range(first, self._last + 1), fresh, strict=True))
        return first

    def finish(self, deliveries: Iterable[Delivery]) -> bool:
        """Remove what was handled or given back; True when anything of it was held."""
        before = len(self._envelopes)
        for delivery in deliveries:
            self._envelopes.pop(delivery.place, None)
        return len(self._envelopes) != before

    def get(self, delivery: Delivery) -> bytes | None:
        """Return the envelope of a delivery, or None when it is not held."""
        return self._envelopes.get(delivery.place)

    def record(self) -> HoldRecord:
        """Return the record for the store: who finds this receiver dead settles it by that."""
        return HoldRecord(list(self._envelopes), list(self._envelopes.values()))

    def restore(self, record: HoldRecord | None) -> None:
        """Go back to what the store says, after a transaction that was undone."""
        if record is None:
            self._envelopes = {}
        else:
            self._envelopes = dict(zip(record.places, record.envelopes, strict=True))
