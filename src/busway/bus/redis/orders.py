"""What a sleeping receiver may be handed by a shard, and what of that has come. No I/O here."""

from typing import NamedTuple

from busway.bus.redis import wire


class Letter(NamedTuple):
    """What comes along with a ring."""

    head: bytes
    """See `wire.ORDER`."""
    bundle: bytes


class Place(NamedTuple):
    """Where the messages of a letter belong among all that the receiver holds."""

    first: int
    """The place of the first; 0: they are done on delivery."""
    reach: int
    """How many of them count as begun."""


class Order:
    """A receiver's order at one shard: it says what a request has to say of it."""

    def __init__(self) -> None:
        """Begin without one."""
        self.number = 0
        """The request by which the receiver may be handed messages while it sleeps; 0: none."""
        self.awaits = 0
        """Number of the bundle that it waits to be handed, from 1, or `wire.HELD`; 0: none."""
        self.credit = 0
        """Messages that it may be handed still, where they are done on delivery."""
        self._was_given = False
        self._came = 0
        """Messages that it was handed, and that the shard does not know to have come."""
        self._over = 0
        """The same, of data that the shard has lost, and counts as lost."""

    def give(self, request: wire.Request, credit: int) -> None:
        """Ask for an order of `credit` messages; 0: for none."""
        request.credit = credit or -self._was_given
        self._was_given |= credit > 0

    def report(self, request: wire.Request, *, listening: bool) -> None:
        """Say in a request what has come, and what is waited for."""
        if listening:
            request.awaits = self.awaits
        # Of what is done on delivery the shard keeps a list until the receiver listens again.
        request.came = self._came if listening or not self.awaits else 0
        request.over = self._over

    def settle(self, request: wire.Request) -> None:
        """Take note that a request was done."""
        self._came = max(0, self._came - request.came)
        self._over -= request.over

    def renew(self, request: wire.Request, *, sleeps: bool) -> None:
        """Take note that a request for messages was done, and whether the receiver sleeps now."""
        self.number = self.awaits = 0
        if sleeps and request.credit > 0:
            self.number = request.number
            self.awaits = wire.HELD if request.hold else 1

    def take(self, letter: Letter) -> Place | None:
        """Take a letter; None: it has come otherwise since, or one before it is missing."""
        number, credit, place, reach = wire.ORDER.unpack(letter.head)
        if number != self.number:
            return None
        if reach < 0:
            if place != self.awaits:
                self.credit = 0
                return None
            self.awaits += 1
            self.credit = credit
        else:
            self.number = self.awaits = 0
        self._came += wire.HEAD.unpack_from(letter.bundle)[1]
        return Place(0, 0) if reach < 0 else Place(int(place), reach)

    def pending(self) -> int:
        """Return how many messages have come that are done on delivery and not yet reported."""
        return self._came if self.awaits > 0 else 0

    def lose(self) -> None:
        """Take note that the shard has lost its data."""
        self.number = self.awaits = 0
        self._over, self._came = self._over + self._came, 0

    def forget(self) -> None:
        """Take note that the shard has settled what it had handed over: it buried the receiver."""
        self._came = 0
