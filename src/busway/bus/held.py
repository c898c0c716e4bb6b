"""What a receiver has in its hands: messages that it took and has not finished."""

from collections.abc import Iterable, Sequence

from busway.bus.codec import decode_envelope
from busway.bus.layer import Delivery
from busway.bus.records import HoldRecord


class Held:
    """A receiver's messages: first those it has begun, then the unbegun ones of its last batch."""

    def __init__(self) -> None:
        self.batch = 0
        """The newest batch; batches count from 1."""
        self.begun = 0
        """How many messages of the newest batch have been begun."""
        self._unbegun = 0
        self._envelopes: dict[int, bytes] = {}

    def take(self, fresh: Sequence[tuple[int, bytes]]) -> None:
        """Add a batch of (id, envelope). Everything before it counts as begun."""
        self.batch += 1
        self.begun = 0
        self._unbegun = len(fresh)
        self._envelopes.update(fresh)

    def begin(self, place: int) -> None:
        """Note that the newest batch has been begun up to and including `place`."""
        if place >= self.begun:
            self._unbegun -= place + 1 - self.begun
            self.begun = place + 1

    def finish(self, done: Iterable[Delivery], returned: Iterable[Delivery]) -> bool:
        """Remove what was handled or given back; True when anything of it was held."""
        before = len(self._envelopes)
        for delivery in done:
            if self._envelopes.pop(delivery.id, None) and delivery.batch == self.batch:
                self.begin(delivery.place)
        for delivery in returned:
            if self._envelopes.pop(delivery.id, None):
                self._unbegun -= 1
        return len(self._envelopes) != before

    def restore(self, record: HoldRecord | None) -> None:
        """Go back to what the store says, after a transaction that was undone."""
        if record is None:
            self._envelopes, self._unbegun = {}, 0
            return
        self.batch, self.begun = record.batch, record.first
        self._unbegun = len(record.envelopes) - record.begun
        self._envelopes = {decode_envelope(raw).id: raw for raw in record.envelopes}

    def get(self, delivery: Delivery) -> bytes | None:
        """Return the envelope of a delivery, or None when it is not held."""
        return self._envelopes.get(delivery.id)

    def unbegun(self) -> list[bytes]:
        """Return the envelopes that were not begun, in order."""
        envelopes = list(self._envelopes.values())
        return envelopes[len(envelopes) - self._unbegun :]

    def record(self) -> HoldRecord:
        """Return the record for the store: who finds this receiver dead settles it by that."""
        envelopes = list(self._envelopes.values())
        return HoldRecord(self.batch, len(envelopes) - self._unbegun, self.begun, envelopes)
