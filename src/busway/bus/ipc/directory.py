"""Where a bus lives: a private directory in shared memory, or on disk.

data.mdb, lock.mdb   the messages (LMDB)
alive/PROCESS        locked while the process lives
bells/RECEIVER       the socket that wakes it
marks/RECEIVER       what it has begun of its batch
"""

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from busway.bus.errors import LayerUnavailable

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  (made private below it)


def find_directory(name: str, size: int) -> Path:
    """Return the directory of the bus `name`: where it is, or where `size` bytes have room.

    Shared memory is preferred, the temporary directory is the fallback. It is made if need be.
    """
    places = [SHARED_MEMORY, Path(tempfile.gettempdir())]
    candidates = [place / f"busway-{os.geteuid()}" / name for place in places]
    for candidate in candidates:
        if (candidate / "data.mdb").exists():
            return make_private(candidate)
    for place, candidate in zip(places, candidates, strict=True):
        if place.is_dir() and os.access(place, os.W_OK) and free_space(place) > size + size // 8:
            return make_private(candidate)
    tried = " and ".join(f"{place} ({free_space(place) >> 20} MiB free)" for place in places)
    raise LayerUnavailable(
        f"no room for a bus of {size >> 20} MiB: tried {tried}; "
        "give a smaller 'size' or another 'directory'"
    )


def free_space(place: Path) -> int:
    """Return the bytes that this user can still write below `place`."""
    try:
        found = os.statvfs(place)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize


def make_private(path: Path) -> Path:
    """Make the directory `path` for this user alone; returns it.

    Raises `LayerUnavailable` when it, or the directory of this user above it, is somebody
    else's or open to others.
    """
    shared_parent = path.parent.name == f"busway-{os.geteuid()}"
    for part in [path.parent, path] if shared_parent else [path]:
        try:
            found = _make(part, parents=not shared_parent)
        except OSError as error:
            raise LayerUnavailable(
                f"the bus directory {part} cannot be made: {error.strerror}; "
                "give a 'directory' that this user may write"
            ) from error
        _check_private(part, found)
    return path


def _make(path: Path, *, parents: bool) -> os.stat_result:
    """Make a directory unless it is there; returns its status."""
    for _ in range(_TRIES):
        # The last process of an empty bus may remove its directory at any moment.
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            path.mkdir(mode=0o700, parents=parents, exist_ok=True)
            return path.lstat()
    path.mkdir(mode=0o700, parents=parents, exist_ok=True)
    return path.lstat()


_TRIES = 100


def make_places(path: Path) -> None:
    """Make what the directory of a bus has in it. Called under its lock."""
    for child in ("alive", "bells", "marks"):
        (path / child).mkdir(mode=0o700, exist_ok=True)


def _check_private(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISDIR(found.st_mode):
        problem = "is not a directory"
    elif found.st_uid != os.geteuid():
        problem = f"is owned by user {found.st_uid}, and this process runs as {os.geteuid()}"
    elif found.st_mode & 0o077:
        problem = f"is open to other users (mode {stat.S_IMODE(found.st_mode):o}, expected 700)"
    else:
        return
    raise LayerUnavailable(
        f"the bus directory {path} {problem}; remove it, or give another 'directory'"
    )
