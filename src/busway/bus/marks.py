"""How far a receiver is with its batch."""


class Mark:
    """Where a receiver notes how much of its batch it has begun; this one forgets."""

    def write(self, batch: int, begun: int) -> None:
        """Note that `begun` messages of `batch` have been begun."""

    def close(self) -> None:
        """Remove the mark."""
