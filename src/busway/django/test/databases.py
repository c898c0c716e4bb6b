"""Test databases that other processes can open."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from django.db import connections


@contextmanager
def shared_databases(aliases: Iterable[str]) -> Iterator[None]:
    """Let databases that SQLite keeps in memory be files meanwhile; others stay what they are.

    What is in them is there before, and what is written meanwhile is gone after. Not inside a
    transaction. It holds for connections that other threads open meanwhile, too.
    """
    with ExitStack() as stack:
        directory = stack.enter_context(TemporaryDirectory(prefix="busway-test-"))
        for alias in aliases:
            if _is_in_memory(alias):
                stack.enter_context(_in_file(alias, Path(directory, f"{alias}.sqlite3")))
        yield


def _is_in_memory(alias: str) -> bool:
    connection = connections[alias]
    return connection.vendor == "sqlite" and connection.is_in_memory_db()  # type: ignore[attr-defined]


@contextmanager
def _in_file(alias: str, path: Path) -> Iterator[None]:
    connection = connections[alias]
    connection.ensure_connection()
    kept, name = connection.connection, connection.settings_dict["NAME"]
    with closing(sqlite3.connect(path)) as target:
        kept.backup(target)
        # Readers in other processes do not wait for writers then.
        target.execute("PRAGMA journal_mode=WAL")
    # The settings are those of every thread.
    connection.connection, connection.settings_dict["NAME"] = None, str(path)
    try:
        yield
    finally:
        connection.close()
        connection.connection, connection.settings_dict["NAME"] = kept, name
