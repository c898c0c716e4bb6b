"""Who is alive: every process on the bus holds a lock that its end, however it comes, lets go."""

import contextlib
import fcntl
import mmap
import os
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from struct import Struct

from busway.bus.bell import Bell
from busway.bus.errors import LayerUnavailable
from busway.bus.marks import Mark

_MARK = Struct("=Q")


@contextlib.contextmanager
def _making(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LayerUnavailable(
            f"{path} cannot be made: {error.strerror}; make room there, or give the bus another "
            "'directory'"
        ) from error


class Presence:
    """This process's lock file."""

    def __init__(self, directory: Path, process: str) -> None:
        """Show `process` as alive in `directory`."""
        self._path = directory / "alive" / process
        hidden = self._path.with_name(f".{process}")
        with _making(hidden):
            self._fd = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            # Shown only when locked, so that nobody takes it for a dead one.
            hidden.rename(self._path)

    def close(self) -> None:
        """Let go: from now on this process counts as gone."""
        self._path.unlink(missing_ok=True)
        os.close(self._fd)

    def abandon(self) -> None:
        """Close a forked child's copy; the parent's lock stays."""
        os.close(self._fd)


@contextlib.contextmanager
def _claim(path: Path) -> Iterator[bool]:
    """Lock a presence file, if its process is dead: yields whether it is."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(fd)


def dead_processes(directory: Path) -> Iterator[str]:
    """Yield the processes that died; each is removed after the caller has settled it."""
    for path in list((directory / "alive").iterdir()):
        if path.name.startswith("."):
            continue
        with _claim(path) as dead:
            if dead:
                yield path.name
                remove_files(directory, path.name)
                path.unlink(missing_ok=True)


def living_processes(directory: Path) -> Iterator[str]:
    """Yield the processes that are on the bus."""
    for path in (directory / "alive").iterdir():
        with _claim(path) as dead:
            if not dead and path.exists():
                yield path.name


def somebody_lives(directory: Path) -> bool:
    """Say whether any process is on the bus."""
    return next(living_processes(directory), None) is not None


def remove_files(directory: Path, process: str) -> None:
    """Remove the bells and marks of a process."""
    for child in ("bells", "marks"):
        for path in (directory / child).glob(f"{process}.*"):
            path.unlink(missing_ok=True)


def bind_bell(directory: Path, receiver: str) -> Bell:
    """Return a new bell for `receiver`."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    path = directory / "bells" / receiver
    try:
        with _making(path):
            listening.bind(str(path))
    except LayerUnavailable:
        listening.close()
        raise
    return Bell(listening)


_CONNECTED = 64
"""Bells that a process keeps connections to: ringing is cheaper than by path."""


class Ringer:
    """Rings the bells of a directory. Thread-safe."""

    def __init__(self, directory: Path) -> None:
        """Ring in `directory`."""
        self._bells = f"{directory}/bells/"
        self._connected: dict[str, socket.socket] = {}

    def ring(self, receivers: Iterable[str]) -> bool:
        """Wake receivers; False when one was not there."""
        everyone = True
        for receiver in receivers:
            try:
                (self._connected.get(receiver) or self._connect(receiver)).send(b"!")
            except BlockingIOError:
                pass  # it has been rung often enough
            except OSError:
                everyone = False
                self._disconnect(receiver)
        return everyone

    def _connect(self, receiver: str) -> socket.socket:
        if len(self._connected) >= _CONNECTED:
            self._disconnect(next(iter(self._connected), ""))
        bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            bell.setblocking(False)
            bell.connect(self._bells + receiver)
        except OSError:
            bell.close()
            raise
        # Another thread may have been quicker; shown only when connected, it can be used at once.
        kept = self._connected.setdefault(receiver, bell)
        if kept is not bell:
            bell.close()
        return kept

    def _disconnect(self, receiver: str) -> None:
        bell = self._connected.pop(receiver, None)
        if bell is not None:
            bell.close()

    def close(self) -> None:
        """Close the sockets that ring."""
        for receiver in list(self._connected):
            self._disconnect(receiver)


class SharedMark(Mark):
    """A receiver's mark: 8 bytes in shared memory, written in one store."""

    def __init__(self, directory: Path, receiver: str) -> None:
        """Make the mark of `receiver`."""
        self._path = directory / "marks" / receiver
        with _making(self._path):
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, _MARK.size)
                self._map = mmap.mmap(fd, _MARK.size)
            finally:
                os.close(fd)

    def write(self, place: int) -> None:
        """Note that everything up to `place` has been begun."""
        _MARK.pack_into(self._map, 0, place)

    def close(self) -> None:
        """Remove the mark."""
        self._map.close()
        self._path.unlink(missing_ok=True)


def read_marks(directory: Path, process: str) -> dict[str, int]:
    """Return for each receiver of a process up to which place it had begun."""
    marks = {}
    for path in (directory / "marks").glob(f"{process}.*"):
        data = path.read_bytes()
        if len(data) == _MARK.size:
            (marks[path.name],) = _MARK.unpack(data)
    return marks
