"""Who is in which room and what was said there, shared by all workers in one SQLite file."""

import os
import sqlite3
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from threading import Lock

import msgspec

from busway.bus.errors import BuswayError, ConfigurationError

STATE_VARIABLE = "BUSWAY_DEMO_STATE"
"""Environment variable that names the private directory of the database."""

HISTORY = 50
"""Messages that a room keeps."""
MAX_NAME = 24
"""Longest name of a person, in characters."""
MAX_ROOMS = 50
"""Rooms at a time; the one that was quiet for longest makes way for a new one."""
MAX_SOCKETS = 100
"""Browser pages in one room at a time."""
SILENCE = 150.0
"""Seconds after which a page that sends no sign of life counts as gone."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS members (
    socket TEXT PRIMARY KEY, room TEXT NOT NULL, name TEXT NOT NULL, seen REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS members_of_room ON members (room, name);
CREATE TABLE IF NOT EXISTS messages (
    room TEXT NOT NULL, at REAL NOT NULL, name TEXT NOT NULL, text TEXT NOT NULL,
    ref TEXT NOT NULL, PRIMARY KEY (room, at), UNIQUE (room, name, ref)
) WITHOUT ROWID;
"""


class Refused(BuswayError):
    """Somebody cannot come in; the text says why, to be shown to them."""


class Said(msgspec.Struct, frozen=True):
    """One message of a room."""

    at: float
    """When: seconds since the epoch. Unique and growing in its room, so it is an identity too."""
    name: str
    text: str
    ref: str
    """The sender's own mark; a message that is sent again has the same."""


class People(msgspec.Struct, frozen=True):
    """The names in a room."""

    at: float
    """When it was so, in seconds since the epoch: of two lists, the later one holds."""
    names: list[str]


class Room(msgspec.Struct, frozen=True):
    """A line of the lobby's list."""

    room: str
    names: list[str]


class Store:
    """The state of the chat. Thread-safe, and shared by the processes that use one directory.

    Every method is one transaction, and transactions come one after another: what a method
    returns is never older than what another worker was given before.
    """

    def __init__(
        self, directory: Path | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        """Prepare a store; nothing is opened before it is used.

        Args:
            directory: private directory of the database, made when it is missing. None: the one
                that `BUSWAY_DEMO_STATE` names, or one for this user among the temporary files.
            clock: returns the time, in seconds since the epoch.
        """
        self._directory = directory
        self._clock = clock
        self._lock = Lock()

    def join(self, room: str, socket: str, name: str) -> bool:
        """Note that the page behind `socket` is in `room`; True when `name` was not there yet.

        Raises `Refused` when the name will not do, or when there is no room left.
        """
        if not (name.isprintable() and name == name.strip() and 1 <= len(name) <= MAX_NAME):
            raise Refused(f"Please pick a name of 1 to {MAX_NAME} visible characters.")
        with self._transaction() as database:
            if _count(database, "members WHERE room = ?", room) >= MAX_SOCKETS:
                raise Refused("This room is full: please take another one.")
            _make_way(database, room)
            newcomer = not _count(database, "members WHERE room = ? AND name = ?", room, name)
            database.execute(
                "INSERT OR REPLACE INTO members VALUES (?, ?, ?, ?)",
                (socket, room, name, self._clock()),
            )
        return newcomer

    def leave(self, socket: str) -> str | None:
        """Forget a page; returns the name that left its room with it, None when it was not the
        last page of that name, or unknown.
        """
        with self._transaction() as database:
            gone = database.execute(
                "DELETE FROM members WHERE socket = ? RETURNING room, name", (socket,)
            ).fetchone()
            if gone is None or _count(database, "members WHERE room = ? AND name = ?", *gone):
                return None
            return str(gone[1])

    def touch(self, socket: str) -> bool:
        """Note a sign of life; False when the page had been given up, and has to join again."""
        with self._transaction() as database:
            return bool(
                database.execute(
                    "UPDATE members SET seen = ? WHERE socket = ?", (self._clock(), socket)
                ).rowcount
            )

    def clean_up(self) -> set[str]:
        """Forget pages that vanished without a word; returns the rooms that they were in."""
        with self._transaction() as database:
            gone = database.execute(
                "DELETE FROM members WHERE seen < ? RETURNING room", (self._clock() - SILENCE,)
            )
            return {room for (room,) in gone}

    def say(self, socket: str, text: str, ref: str) -> Said | None:
        """Keep a message; returns it, or the same as before when `ref` comes a second time.

        None: the page is not in a room.
        """
        with self._transaction() as database:
            member = database.execute(
                "SELECT room, name FROM members WHERE socket = ?", (socket,)
            ).fetchone()
            if member is None:
                return None
            room, name = member
            database.execute(
                "INSERT OR IGNORE INTO messages VALUES (?, max(?, 0.001 + ifnull("
                "(SELECT max(at) FROM messages WHERE room = ?), 0)), ?, ?, ?)",
                (room, self._clock(), room, name, text, ref),
            )
            database.execute(
                "DELETE FROM messages WHERE room = ? AND at NOT IN "
                "(SELECT at FROM messages WHERE room = ? ORDER BY at DESC LIMIT ?)",
                (room, room, HISTORY),
            )
            said = database.execute(
                "SELECT at, name, text, ref FROM messages WHERE room = ? AND name = ? AND ref = ?",
                (room, name, ref),
            ).fetchone()
        return Said(*said)

    def history(self, room: str) -> list[Said]:
        """Return the last messages of `room`, oldest first."""
        with self._transaction() as database:
            rows = database.execute(
                "SELECT at, name, text, ref FROM messages WHERE room = ? ORDER BY at", (room,)
            )
            return [Said(*row) for row in rows]

    def people(self, room: str) -> People:
        """Return who is in `room`, each name once."""
        with self._transaction() as database:
            return People(self._clock(), _names(database, room))

    def rooms(self) -> list[Room]:
        """Return all rooms, those with most people first."""
        with self._transaction() as database:
            known = [Room(room, _names(database, room)) for room in _rooms(database)]
        return sorted(known, key=lambda room: (-len(room.names), room.room))

    def close(self) -> None:
        """Close the database of this process; the next use opens it again."""
        with self._lock:
            if "_database" in self.__dict__:
                self._database.close()
                del self._database

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._database as database:
            database.execute("BEGIN IMMEDIATE")
            yield database

    @cached_property
    def _database(self) -> sqlite3.Connection:
        file = _private(self._directory or _configured()) / "chat.sqlite3"
        database = sqlite3.connect(file, timeout=10, isolation_level=None, check_same_thread=False)
        database.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;" + _SCHEMA)
        return database


@contextmanager
def temporary_state() -> Iterator[Path]:
    """Give this process, and those it starts, a fresh private directory that is removed after.

    When `BUSWAY_DEMO_STATE` is set, that directory is used instead, and kept.
    """
    if STATE_VARIABLE in os.environ:
        yield _configured()
        return
    with tempfile.TemporaryDirectory(prefix="busway-demo-") as directory:
        os.environ[STATE_VARIABLE] = directory
        try:
            yield Path(directory)
        finally:
            del os.environ[STATE_VARIABLE]


def _configured() -> Path:
    own = Path(tempfile.gettempdir()) / f"busway-demo-{os.getuid()}"
    return Path(os.environ.get(STATE_VARIABLE) or own)


def _private(directory: Path) -> Path:
    """Return `directory`, made when it is missing; raises unless only this user can enter it."""
    directory.mkdir(mode=0o700, exist_ok=True)
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise ConfigurationError(
            f"{directory} holds the chat's database and has to be a directory of yours that "
            f"nobody else can enter: chmod 700 it, or set {STATE_VARIABLE} to another one"
        )
    return directory


def _count(database: sqlite3.Connection, what: str, *arguments: str) -> int:
    (number,) = database.execute(f"SELECT count(*) FROM {what}", arguments).fetchone()  # noqa: S608
    return int(number)


def _rooms(database: sqlite3.Connection) -> list[str]:
    rows = database.execute("SELECT room FROM members UNION SELECT room FROM messages")
    return [room for (room,) in rows]


def _names(database: sqlite3.Connection, room: str) -> list[str]:
    rows = database.execute(
        "SELECT DISTINCT name FROM members WHERE room = ? ORDER BY name COLLATE NOCASE", (room,)
    )
    return [name for (name,) in rows]


def _make_way(database: sqlite3.Connection, room: str) -> None:
    """See that `room` may exist; the empty room that was quiet for longest is forgotten for it."""
    known = _rooms(database)
    if room in known or len(known) < MAX_ROOMS:
        return
    quietest = database.execute(
        "SELECT room FROM messages WHERE room NOT IN (SELECT room FROM members) "
        "GROUP BY room ORDER BY max(at) LIMIT 1"
    ).fetchone()
    if quietest is None:
        raise Refused("There are people in every room that there can be: please join one of them.")
    database.execute("DELETE FROM messages WHERE room = ?", quietest)
