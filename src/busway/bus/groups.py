"""The lower level of groups: which of a process's own channels are members of what."""

from threading import Lock

from busway.bus.names import address


class LocalGroups:
    """A process's own members of every group, kept by the notices on its channels. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        # group → prefix → member channel → when the membership ends (seconds since the epoch)
        self._groups: dict[str, dict[str, dict[str, float]]] = {}
        self._of: dict[str, set[str]] = {}

    def add(self, group: str, channel: str, expires: float) -> None:
        """Make `channel` a member of `group` until `expires`, seconds since the epoch."""
        with self._lock:
            members = self._groups.setdefault(group, {}).setdefault(address(channel), {})
            members[channel] = expires
            self._of.setdefault(channel, set()).add(group)

    def discard(self, group: str, channel: str) -> None:
        """Take `channel` out of `group`."""
        with self._lock:
            self._discard(group, channel)
            groups = self._of.get(channel)
            if groups is not None:
                groups.discard(group)
                if not groups:
                    del self._of[channel]

    def leave(self, channel: str) -> None:
        """Take `channel` out of every group; for a prefix, all its channels."""
        prefix = channel[-1] == "!"
        with self._lock:
            gone = [c for c in self._of if address(c) == channel] if prefix else [channel]
            for member in gone:
                for group in self._of.pop(member, ()):
                    self._discard(group, member)

    def _discard(self, group: str, channel: str) -> None:
        prefixes = self._groups.get(group, {})
        members = prefixes.get(address(channel), {})
        members.pop(channel, None)
        if not members:
            prefixes.pop(address(channel), None)
        if not prefixes:
            self._groups.pop(group, None)

    def all(self) -> list[tuple[str, str]]:
        """Return every membership, as group and channel."""
        with self._lock:
            return [(group, channel) for channel, groups in self._of.items() for group in groups]

    def members(self, group: str, prefix: str, now: float) -> tuple[str, ...]:
        """Return the members of `group` under `prefix` whose membership has not ended."""
        with self._lock:
            members = self._groups.get(group, {}).get(prefix)
            if not members:
                return ()
            ended = [channel for channel, expires in members.items() if expires <= now]
            found = tuple(members)
        for channel in ended:
            self.discard(group, channel)
        return tuple(c for c in found if c not in ended) if ended else found
