"""The IPC channel layer."""

import logging
import os
import re
import time
import weakref
from collections.abc import Collection
from contextlib import AbstractContextManager
from pathlib import Path
from threading import RLock
from typing import Any
from urllib.parse import unquote, urlsplit

from busway.bus import names
from busway.bus.bell import Bell
from busway.bus.burial import bury
from busway.bus.errors import ConfigurationError, LayerClosed, LayerUnavailable
from busway.bus.groups import LocalGroups
from busway.bus.ipc import environment
from busway.bus.ipc.directory import find_directory, make_private
from busway.bus.ipc.environment import Environment, StoreTransaction
from busway.bus.ipc.processes import (
    Ringer,
    SharedMark,
    bind_bell,
    dead_processes,
    living_processes,
    read_marks,
    remove_files,
)
from busway.bus.marks import Mark
from busway.bus.statistics import Shard
from busway.bus.stored import StoredLayer
from busway.bus.transaction import Store, StoreFull, Transaction
from busway.bus.urls import LAYER_OPTIONS, default_name, query_options, shown

logger = logging.getLogger("busway.bus")

DEFAULT_SIZE = 64 * 1024 * 1024
MIN_SIZE = 1024 * 1024

_NAME = re.compile(r"[A-Za-z0-9\-_.]{1,40}", re.ASCII)
_LONGEST_SOCKET_PATH = 107
_RECEIVER_LENGTH = 24


class IPCChannelLayer(StoredLayer):
    """A channel layer for the processes of one user on one machine.

    Messages live in a file of a fixed size in shared memory (`/dev/shm`), or in a directory of
    your choice: one on disk outlives a reboot. Processes may be killed at any time. A process
    that forks goes on in the child as a new one.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        directory: str | os.PathLike[str] | None = None,
        size: int = DEFAULT_SIZE,
        **options: Any,
    ) -> None:
        """Open the bus `name`, and make it if need be.

        Args:
            name: 1 to 40 of ASCII letters, digits, "-", "_", "."; None: that of the current
                directory. Users do not see each other's.
            directory: where the bus lives, made with mode 700; None: below shared memory, or
                below the temporary directory when that has no room.
            size: bytes of the whole bus, reserved at once. Half of it can be used by messages.
            options: those of `ChannelLayer`.

        Raises `ConfigurationError`, and `LayerUnavailable` when the directory is somebody
        else's, or has no room.
        """
        super().__init__(**options)
        if name is None:
            name = default_name()
        _check(name, directory, size)
        self.name = name
        self.directory = (
            make_private(Path(directory).absolute())
            if directory is not None
            else find_directory(name, size)
        )
        longest = len(os.fsencode(self.directory)) + len("/bells/") + _RECEIVER_LENGTH
        if longest > _LONGEST_SOCKET_PATH:
            raise ConfigurationError(
                f"the bus directory {self.directory} has too long a path for sockets: "
                f"expected at most {_LONGEST_SOCKET_PATH - _RECEIVER_LENGTH - 7} bytes"
            )
        self._size = size
        self._keep = directory is not None
        self._opening = RLock()
        self._environment: Environment | None = None
        self._open()
        _layers.add(self)
        self.bury()

    @classmethod
    def url_options(cls, url: str) -> dict[str, Any]:
        """Return the options of `ipc://NAME?size=…&directory=…&capacity=…`."""
        parts = urlsplit(url)
        if parts.path not in ("", "/"):
            raise ConfigurationError(
                f"{shown(url)!r} has a path; expected ipc://NAME, or ipc://NAME?directory=/some/where"
            )
        kinds = LAYER_OPTIONS | {"size": int, "directory": str}
        return {"name": unquote(parts.netloc) or None, **query_options(url, kinds)}

    @classmethod
    def check_options(
        cls,
        name: str | None = None,
        directory: str | os.PathLike[str] | None = None,
        size: int = DEFAULT_SIZE,
        **options: Any,
    ) -> None:
        """See `ChannelLayer.check_options`."""
        super().check_options(**options)
        _check(name, directory, size)

    def _open(self) -> Environment:
        with self._opening:
            if self._closed:
                raise LayerClosed("channel layer")
            if self._environment is None:
                self._environment, self._presence = environment.acquire(
                    self.directory, self._size, self.process
                )
                self._ringer = Ringer(self.directory)
            return self._environment

    def transaction(self) -> AbstractContextManager[Store]:
        """Begin a transaction; it waits for other processes' to end."""
        return StoreTransaction(self._environment or self._open())

    def bell(self, receiver: str) -> Bell:
        """Return a new bell that `ring` reaches under the name `receiver`."""
        self._open()
        return bind_bell(self.directory, receiver)

    def ring(self, receivers: Collection[str]) -> None:
        """Wake receivers; those that have died are cleaned up."""
        if receivers and not self._closed and not self._ringer.ring(receivers):
            self.bury()

    def mark(self, receiver: str) -> Mark:
        """Return the place where `receiver` notes what it has begun."""
        return SharedMark(self.directory, receiver)

    def forget(self, receiver: str) -> None:
        """Remove the bell of a receiver that was closed."""
        (self.directory / "bells" / receiver).unlink(missing_ok=True)

    def bury(self) -> None:
        """Find processes that have died and settle what they held."""
        try:
            for process in dead_processes(self.directory):
                self._settle(process)
        except StoreFull as error:
            # Whoever looks again in a while may find room.
            logger.warning("cannot settle what a dead process held: %s", error)

    def _settle(self, process: str) -> None:
        with self.transaction() as store:
            step = Transaction(store, store.data, self.plans, time.time())
            bury(step, process, read_marks(self.directory, process))
            step.finish()
        self._ringer.ring(dict.fromkeys(step.rings))

    def shards(self) -> list[Shard]:
        """Return the one place: its directory."""
        name = str(self.directory)
        try:
            opened = self._open()
            used, limit = opened.used(), opened.limit
        except LayerUnavailable as error:
            return [Shard(name, healthy=False, detail=str(error))]
        others = sum(process != self.process for process in living_processes(self.directory))
        detail = f"other processes on it: {others}"
        return [Shard(name, healthy=True, detail=detail, used=used, limit=limit)]

    def close(self) -> None:
        """Leave the bus; messages stay in it, but for those addressed to this process.

        The last process removes a bus that is empty, unless its directory was given.
        """
        with self._opening:
            if self._closed:
                return
            super().close()
            opened, self._environment = self._environment, None
            if opened is None:
                return
            with StoreTransaction(opened) as store:
                step = Transaction(store, store.data, self.plans, time.time())
                bury(step, self.process, read_marks(self.directory, self.process))
                step.finish()
            self._ringer.ring(dict.fromkeys(step.rings))
            self._ringer.close()
            remove_files(self.directory, self.process)
            environment.release(opened, self._presence, keep=self._keep)

    def _after_fork(self) -> None:
        """Go on as a new process, which opens the bus when it needs it."""
        if self._environment is not None:
            self._environment = None
            self._presence.abandon()
            self._ringer.close()
        self._opening = RLock()
        self.process = names.random_part()
        self.groups = LocalGroups()
        while self._idle:
            self._idle.pop().abandon()


def _check(name: object, directory: object, size: object) -> None:
    """Raise `ConfigurationError` for what no bus can have."""
    if name is not None and (
        not isinstance(name, str) or not _NAME.fullmatch(name) or set(name) == {"."}
    ):
        raise ConfigurationError(
            f"bus name {name!r}: expected 1 to 40 of ASCII letters, digits, '-', '_', '.'"
        )
    if directory is not None and not isinstance(directory, str | os.PathLike):
        raise ConfigurationError(f"the bus directory is {directory!r}, expected a path")
    if not isinstance(size, int) or size < MIN_SIZE:
        raise ConfigurationError(f"bus size is {size!r} bytes, expected at least {MIN_SIZE}")


_layers: "weakref.WeakSet[IPCChannelLayer]" = weakref.WeakSet()


def _after_fork() -> None:
    for layer in list(_layers):
        layer._after_fork()  # noqa: SLF001  (the same module)


os.register_at_fork(after_in_child=_after_fork)
