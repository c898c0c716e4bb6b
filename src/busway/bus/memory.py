"""The reference layer: one process, its threads and event loops; nothing to install or start."""

import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from busway.bus.bell import Bell
from busway.bus.errors import ConfigurationError, LayerClosed
from busway.bus.statistics import Shard
from busway.bus.stored import StoredLayer
from busway.bus.urls import LAYER_OPTIONS, query_options, shown


class _Tables:
    """Keys and values in dicts, one a table (the first byte of a key)."""

    def __init__(self) -> None:
        self._tables: dict[bytes, dict[bytes, bytes]] = {}

    def get(self, key: bytes, /) -> bytes | None:
        return self.table(key).get(key)

    def put(
        self,
        key: bytes,
        value: bytes,
        dupdata: bool = True,  # the name that LMDB gives it; of no effect here
        overwrite: bool = True,
    ) -> bool:
        table = self.table(key)
        if not overwrite and key in table:
            return False
        table[key] = value
        return True

    def pop(self, key: bytes, /) -> bytes | None:
        return self.table(key).pop(key, None)

    def table(self, key: bytes) -> dict[bytes, bytes]:
        """Return the table of a key."""
        return self._tables.setdefault(key[:1], {})


class _MemoryStore:
    """See `Store`."""

    def __init__(self) -> None:
        self.data = _Tables()

    def scan(self, prefix: bytes, /, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        table = self.data.table(prefix)
        for key in sorted(key for key in table if key.startswith(prefix) and key > after):
            value = table.get(key)
            if value is not None:
                yield key, value

    def reserve(self, size: int) -> int:
        return self.limit() - size

    def limit(self) -> int:
        return 1 << 62  # capacity is the limit here, not bytes


class MemoryChannelLayer(StoredLayer):
    """A channel layer inside one process, with every promise of the others.

    Messages are encoded as they would be between processes, so nobody sees another's changes.
    """

    def __init__(self, **options: Any) -> None:
        """Take the options of `ChannelLayer`."""
        super().__init__(**options)
        self._store = _MemoryStore()
        self._lock = Lock()
        self._bells: dict[str, socket.socket] = {}

    @classmethod
    def url_options(cls, url: str) -> dict[str, Any]:
        """Return the options of `memory://?capacity=…`."""
        parts = urlsplit(url)
        if parts.netloc or parts.path:
            raise ConfigurationError(
                f"{shown(url)!r} has a name; a memory layer has none: memory://"
            )
        return query_options(url, LAYER_OPTIONS)

    def shards(self) -> list[Shard]:
        """Return the one place: this process."""
        if self._closed:
            raise LayerClosed("channel layer")
        return [Shard("memory", healthy=True, detail="inside this process")]

    @contextmanager
    def transaction(self) -> Iterator[_MemoryStore]:
        """Begin a transaction. Everything that can fail was checked before, so none is undone."""
        if self._closed and not self._bells:
            raise LayerClosed("channel layer")
        with self._lock:
            yield self._store

    def bell(self, receiver: str) -> Bell:
        """Return a new bell that `ring` reaches under the name `receiver`."""
        listening, ringing = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ringing.setblocking(False)
        self._bells[receiver] = ringing
        return Bell(listening)

    def ring(self, receivers: Collection[str]) -> None:
        """Wake receivers."""
        for receiver in receivers:
            bell = self._bells.get(receiver)
            if bell is not None:
                # Full: it has been rung often enough. Closed: another thread just closed it.
                with suppress(BlockingIOError, ConnectionError, OSError):
                    bell.send(b"!")

    def forget(self, receiver: str) -> None:
        """Remove what `ring` knows of a receiver that was closed."""
        bell = self._bells.pop(receiver, None)
        if bell is not None:
            bell.close()
