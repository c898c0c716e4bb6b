"""How what is on a channel layer looks to people."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table

from busway.bus.statistics import Shard, Statistics

_WIDE = 200
"""Columns where there is no terminal that has a width: a file or a pipe."""


def console() -> Console:
    """Return what tables are printed on."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)


def stacked(parts: Iterable[RenderableType]) -> RenderableType:
    """Show one below the other, with a line between them."""
    lines = [line for part in parts for line in ("", part)]
    return Group(*lines[1:])


def ping(found: Mapping[str, Any]) -> RenderableType:
    """Show how long messages took."""
    table = _table("there and back", *(f"{name}:" for name in ("min", "median", "p99", "max")))
    table.add_row(
        f"{found['times']} messages",
        *(f"{found[name] * 1000:.2f} ms" for name in ("min", "median", "p99", "max")),
    )
    return table


def channels(found: Sequence[Mapping[str, Any]], rows: int) -> RenderableType:
    """Show channels, at most `rows` of them; 0: all."""
    table = _table(
        "channel", "waiting:", "capacity:", "oldest:", "accepted:", "refused:", "dropped"
    )
    for row in _first(found, rows):
        full = row["pending"] >= row["capacity"]
        table.add_row(
            escape(row["channel"]),
            f"{row['pending']:,}",
            f"{row['capacity']:,}",
            _age(row["oldest"]) if row["pending"] else "",
            f"{row['accepted']:,}",
            f"{row['refused']:,}",
            _reasons(row["dropped"]),
            style="red" if full else None,
        )
    return _with_rest(table, len(found), rows, "channels")


def groups(found: Sequence[Mapping[str, Any]], rows: int) -> RenderableType:
    """Show groups, at most `rows` of them; 0: all."""
    table = _table("group", "members:", "processes:")
    for row in _first(found, rows):
        table.add_row(escape(row["group"]), f"{row['members']:,}", f"{row['processes']:,}")
    return _with_rest(table, len(found), rows, "groups")


def shards(found: Iterable[Shard]) -> RenderableType:
    """Show where messages are."""
    table = _table("shard", "health", "used:", "of:", "detail")
    for shard in found:
        table.add_row(
            escape(shard.name),
            "[green]✓ well[/green]" if shard.healthy else "[red]✗ unwell[/red]",
            _size(shard.used),
            _size(shard.limit),
            escape(shard.detail),
        )
    return table


def total(found: Statistics) -> RenderableType:
    """Show the counts of the whole layer."""
    table = _table("all channels", "waiting:", "oldest:", "accepted:", "refused:", "dropped")
    table.add_row(
        "",
        f"{found.messages_pending:,}",
        _age(found.messages_max_age) if found.messages_pending else "",
        f"{found.messages_count:,}",
        f"{found.channel_full_count:,}",
        _reasons(found.dropped),
    )
    return table


def _table(*columns: str) -> Table:
    """Return a table; names that end with ":" are of numbers."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in columns:
        if name.endswith(":"):
            table.add_column(name[:-1], justify="right", no_wrap=True)
        else:
            table.add_column(name, overflow="fold")
    return table


def _first(found: Sequence[Mapping[str, Any]], rows: int) -> Sequence[Mapping[str, Any]]:
    return found[:rows] if rows else found


def _with_rest(table: Table, count: int, rows: int, what: str) -> RenderableType:
    if not count:
        return f"no {what}"
    if not rows or count <= rows:
        return table
    return Group(table, f"… and {count - rows:,} more; --rows 0 shows all")


def _reasons(dropped: Mapping[str, int]) -> str:
    return escape(", ".join(f"{count:,} {reason}" for reason, count in dropped.items()))


def _age(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s"


def _size(size: int) -> str:
    if not size:
        return ""
    return f"{size / 1024:,.0f} KiB" if size < 10 * 1024 * 1024 else f"{size / 1024**2:,.0f} MiB"
