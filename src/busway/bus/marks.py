"""How far a receiver is with its batch."""


class Mark:
    """Where a receiver notes how much of its batch it has begun; this one forgets."""

    def write(self, place: int) -> None:
        """Note that everything up to `place` has been begun."""

    def close(self) -> None:
        """Remove the mark."""
