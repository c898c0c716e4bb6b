"""What a receiver has in its hands: messages that it took and has not finished."""

from collections.abc import Iterable, Sequence

from busway.bus.codec import decode_envelope
from busway.bus.layer import Delivery
from busway.bus.records import HoldRecord


class Held:
    """A receiver's messages, by id, each with its place in all that the receiver ever took."""

    def __init__(self) -> None:
        self.begun = 0
        """The highest place that was begun; places count from 1."""
        self._last = 0
        self._messages: dict[int, tuple[int, bytes]] = {}

    def take(self, fresh: Sequence[tuple[int, bytes]]) -> int:
        """Add (id, envelope) pairs; returns the place of the first."""
        first = self._last + 1
        for place, (id_, data) in enumerate(fresh, first):
            self._messages[id_] = (place, data)
        self._last += len(fresh)
        return first

    def finish(self, deliveries: Iterable[Delivery]) -> bool:
        """Remove what was handled or given back; True when anything of it was held."""
        before = len(self._messages)
        for delivery in deliveries:
            self._messages.pop(delivery.id, None)
        return len(self._messages) != before

    def get(self, delivery: Delivery) -> bytes | None:
        """Return the envelope of a delivery, or None when it is not held."""
        found = self._messages.get(delivery.id)
        return found and found[1]

    def record(self) -> HoldRecord:
        """Return the record for the store: who finds this receiver dead settles it by that."""
        if not self._messages:
            return HoldRecord([], [])
        places, envelopes = zip(*self._messages.values(), strict=True)
        return HoldRecord(list(places), list(envelopes))

    def restore(self, record: HoldRecord | None) -> None:
        """Go back to what the store says, after a transaction that was undone."""
        self._messages = {}
        if record is not None:
            for place, data in zip(record.places, record.envelopes, strict=True):
                self._messages[decode_envelope(data).id] = (place, data)
