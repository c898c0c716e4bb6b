"""The LMDB environment of a bus, and its transactions as stores."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any

import lmdb
import msgspec

from busway.bus.errors import LayerUnavailable
from busway.bus.ipc.directory import free_space, make_places, make_private
from busway.bus.ipc.processes import Presence, somebody_lives
from busway.bus.records import FORMAT
from busway.bus.transaction import StoreFull

_FORMAT = FORMAT.encode()
_FORMAT_KEY = b"v"
_MEASURE_EVERY = 32
"""Reservations from one measurement of the room to the next, while there is plenty."""

_LOCK_SIZE = 64 * 1024


class Environment:
    """An open LMDB file. Not usable in a forked child."""

    def __init__(self, directory: Path, size: int) -> None:
        """Open the file in `directory`, and make it with `size` bytes if need be.

        Raises `LayerUnavailable` when it has no room, or is not a bus of this version.
        """
        self.directory = directory
        self.users = 0
        self.size = _reserve(directory, size)
        try:
            # Nothing is synced: the file outlives processes, not the machine's crash.
            self._lmdb = lmdb.open(
                str(directory),
                map_size=self.size,
                writemap=True,
                sync=False,
                metasync=False,
                meminit=False,
                mode=0o600,
                max_readers=8,
            )
            self._main = self._lmdb.open_db(None)
            with self._lmdb.begin(write=True) as txn:
                if txn.get(_FORMAT_KEY) != _FORMAT:
                    _start_anew(directory, txn, self._main)
        except lmdb.Error as error:
            raise LayerUnavailable(
                f"the bus in {directory} cannot be opened: {error}; stop what uses it and remove it"
            ) from error
        self.begin = partial(self._lmdb.begin, write=True)
        """Keeps all others out until the transaction that it returns ends."""
        # What is live may take half of it: the rest is for copies under way and for pages
        # that are free but scattered.
        self.limit = self.size // 2
        """Bytes of messages that there may be."""
        self._left = 0
        self._until_measured = 0

    def reserve(self, txn: lmdb.Transaction, size: int) -> int:
        """Count `size` bytes to be added; return how many more may be: see `Store.reserve`."""
        # Measured now and then: half of the map is slack enough for what others add meanwhile.
        self._until_measured -= 1
        if self._until_measured <= 0:
            self._until_measured = _MEASURE_EVERY
            self._left = self.limit - self._measure(txn)
        self._left -= size
        if self._left < self.limit // 4:
            self._until_measured = 0
        return self._left

    def _measure(self, txn: lmdb.Transaction) -> int:
        found = txn.stat(self._main)
        pages = found["branch_pages"] + found["leaf_pages"] + found["overflow_pages"]
        return int(pages) * int(found["psize"])

    def used(self) -> int:
        """Return how many bytes are in use, waiting for other processes' transactions to end."""
        try:
            with self._lmdb.begin(write=True) as txn:
                return self._measure(txn)
        except lmdb.Error as error:
            raise LayerUnavailable(f"the bus failed: {error}") from error

    def is_empty(self) -> bool:
        """Say whether there is nothing in it for processes that may come.

        What is addressed to one reader or process is for none of them.
        """
        with StoreTransaction(self) as store:
            # A message's key ends with a NUL and eight bytes of any value.
            names = (
                key[:-9] if table == b"m" else key
                for table in (b"m", b"g")
                for key, _ in store.scan(table)
            )
            waiting = (name for name in names if b"?" not in name and b"!" not in name)
            other = (key for table in (b"b", b"d") for key, _ in store.scan(table))
            return next(waiting, None) is None and next(other, None) is None

    def abandon(self) -> None:
        """Close a forked child's copy, and leave the parent's as it is."""
        self._lmdb.close()

    def close(self) -> None:
        """Close the file; what is in it stays, for as long as its directory does."""
        self._lmdb.sync()
        self._lmdb.close()


class StoreTransaction(msgspec.Struct, gc=False):
    """A `Store` for the length of a `with` block. Waits for the other processes' to end."""

    environment: Environment
    data: Any = None

    def __enter__(self) -> "StoreTransaction":
        self.data = self.environment.begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            try:
                self.data.commit()
            except lmdb.MapFullError:
                raise StoreFull from None
            return
        self.data.abort()
        if isinstance(error, lmdb.MapFullError):
            raise StoreFull
        if isinstance(error, lmdb.Error):
            raise LayerUnavailable(f"the bus failed: {error}") from error

    def scan(self, prefix: bytes, /, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield keys that begin with `prefix`, and their values: see `Store.scan`."""
        cursor = self.data.cursor()
        start = after + b"\0" if after else prefix
        while cursor.set_range(start):
            key, value = cursor.item()
            if not key.startswith(prefix):
                return
            yield key, value
            start = key + b"\0"

    def reserve(self, size: int) -> int:
        """Count `size` bytes to be added; return how many more may be: see `Store.reserve`."""
        return self.environment.reserve(self.data, size)

    def limit(self) -> int:
        """Return how many bytes there may be in all."""
        return self.environment.limit


def _reserve(directory: Path, size: int) -> int:
    """Make sure that the files exist and have their pages; returns the data's size in bytes.

    LMDB writes through maps: on a file system that is full, a page that was not reserved is a
    SIGBUS, not an error. Called under the directory's lock.
    """
    data = directory / "data.mdb"
    new = not data.exists()
    if not new and somebody_lives(directory):
        return data.stat().st_size  # others have mapped it as it is
    try:
        if new:
            # Without a map for writing, so that a full file system is an error here.
            lmdb.open(str(directory), map_size=1 << 20, lock=False, mode=0o600).close()
        size = max(size, data.stat().st_size)
        _allocate(data, size)
        _allocate(directory / "lock.mdb", _LOCK_SIZE)
    except (OSError, lmdb.Error) as error:
        if new:
            data.unlink(missing_ok=True)
        raise LayerUnavailable(
            f"no room for a bus of {size >> 20} MiB in {directory} "
            f"({free_space(directory) >> 20} MiB free): {error}; "
            "give a smaller 'size' or another 'directory'"
        ) from error
    return size


def _start_anew(directory: Path, txn: lmdb.Transaction, table: Any) -> None:
    """Drop everything: no message outlives the version of Busway that wrote it."""
    if txn.stat(table)["entries"] and somebody_lives(directory):
        raise LayerUnavailable(
            f"the bus in {directory} is in use by another version of Busway; stop the processes "
            f"that use it ('fuser {directory}/data.mdb' names them), or take another bus, for "
            f"example with BUSWAY_LAYER=ipc://{directory.name[:38]}-2"
        )
    txn.drop(table, delete=False)
    txn.put(_FORMAT_KEY, _FORMAT)


def _allocate(path: Path, size: int) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, size)
    finally:
        os.close(fd)


_lock = Lock()
_open: dict[Path, Environment] = {}
_pauses: list[lmdb.Transaction] = []


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep other processes from making, growing or removing the bus in `directory`."""
    while True:
        make_private(directory)
        fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if directory.exists() and os.path.samestat(os.fstat(fd), directory.stat()):
                make_places(directory)
                yield
                return
            # It was removed while we waited for it.
        finally:
            os.close(fd)


def acquire(directory: Path, size: int, process: str) -> tuple[Environment, Presence]:
    """Return the environment in `directory`, and the presence of `process` there."""
    with _lock, _locked(directory):
        # LMDB wants each file opened once in a process.
        environment = _open.get(directory)
        if environment is None:
            environment = Environment(directory, size)
        presence = Presence(directory, process)
        _open[directory] = environment
        environment.users += 1
        return environment, presence


def release(environment: Environment, presence: Presence, *, keep: bool) -> None:
    """Leave the bus. The last user in a process closes the environment.

    Unless `keep`, the last process of all removes a bus that has nothing in it.
    """
    directory = environment.directory
    with _lock, _locked(directory):
        presence.close()
        environment.users -= 1
        if environment.users:
            return
        del _open[directory]
        unused = not keep and environment.is_empty() and not somebody_lives(directory)
        environment.close()
        if unused:
            shutil.rmtree(directory, ignore_errors=True)


def _before_fork() -> None:
    # Nobody may be in a transaction while the process is copied.
    _lock.acquire()
    _pauses.extend(environment.begin() for environment in _open.values())


def _after_fork_in_parent() -> None:
    while _pauses:
        _pauses.pop().abort()
    _lock.release()


def _after_fork_in_child() -> None:
    # The child must not go on with its parent's files: LMDB's locks are the parent's.
    for environment in _open.values():
        environment.abandon()
    _open.clear()
    _pauses.clear()
    _lock.release()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
