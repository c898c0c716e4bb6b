"""The results for people: tables in the terminal and in RESULTS.md."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.cases import CASES
from bench.cases.case import Metric
from bench.comparisons import COMPARISONS, LIMITS
from bench.contestants import CONTESTANTS
from bench.contestants.contestant import Contestant
from bench.results import Key, Results

_US = CONTESTANTS[0]
_GROUPS = {
    group: [each for each in CONTESTANTS if each.group == group]
    for group in dict.fromkeys(each.group for each in CONTESTANTS)
}
"""The contestants of each table; the first is ours."""

_TITLES = {contestant.name: contestant.title for contestant in CONTESTANTS}

_NOTHING = "\N{EN DASH}"
_TIMES = "\N{MULTIPLICATION SIGN}"

_HOW = """\
Every contestant runs on its own, on the loopback interface, with one server process; Busway has one
worker process beside it, Channels 4 has a Redis server for groups. Django sites have two processes
that run views, Busway an interface server beside them, servers of ASGI one process. The load
generator is a process of its own on the same machine: raw sockets, frames encoded beforehand, every
answer compared byte for byte. Contestants take turns, round by round, after a round to warm up. A
ratio is the median of the ratios within each round; above 1 Busway is better. Memory is the growth
of the proportional set size (PSS in `/proc/PID/smaps_rollup`) of the process that holds the
sockets, divided by their number. Server CPU is that of all processes of a contestant, Redis and
worker included, for each message, round trip, delivery or connect; a load generator near 1 core
would have measured itself.
"""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table: its title, the names of its columns, and its cells as text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def sheets(results: Results) -> list[Sheet]:
    """All tables, the most important first."""
    found = [
        *(
            Sheet(f"{group}: {us.title}, compared", ["", *_titles(them)], rows)
            for group, (us, *them) in _GROUPS.items()
            if (rows := list(_ratio_rows(results, them)))
        ),
        Sheet("Goals", ["", "goal", "measured", ""], list(_goal_rows(results))),
        *(
            Sheet(f"{group}: figures", ["", *_titles(those)], list(_figure_rows(results, those)))
            for group, those in _GROUPS.items()
        ),
        Sheet("Not measured", ["", "why"], list(_failure_rows(results))),
    ]
    return [sheet for sheet in found if sheet.rows]


def show(results: Results, console: Console) -> None:
    """Print the tables."""
    for sheet in sheets(results):
        table = Table(title=sheet.title, title_justify="left", title_style="bold")
        for number, column in enumerate(sheet.columns):
            table.add_column(column, justify="right" if number else "left")
        for row in sheet.rows:
            table.add_row(*row)
        console.print(table)


def write(results: Results, path: Path, chart: str) -> None:
    """Write the tables, the chart (a file name) and the machine as Markdown."""
    ratios, *others = sheets(results)
    parts = [
        "# Busway beside its peers",
        "Written by `make bench`. Ratios carry over between machines better than figures do.",
        f"![Chart of the results]({chart})",
        *map(_markdown, [ratios, *others]),
        f"## How it was measured\n\n{_HOW.strip()}",
        "## Where\n\n" + "\n".join(f"- {key}: {value}" for key, value in results.machine.items()),
    ]
    path.write_text("\n\n".join(parts) + "\n")


def times(ratio: float | None) -> str:
    """A ratio as text."""
    if ratio is None:
        return _NOTHING
    return f"{ratio:.{0 if ratio >= 20 else 1 if ratio >= 2 else 2}f} {_TIMES}"


def amount(value: float | None, metric: Metric) -> str:
    """A figure as text, with its unit."""
    if value is None:
        return _NOTHING
    digits = 0 if value >= 100 or value == int(value) else 1 if value >= 2 else 2
    joint = "" if metric.unit.startswith("/") else " "
    return f"{value:,.{digits}f}{joint}{metric.unit}".strip()


def _titles(contestants: Sequence[Contestant]) -> list[str]:
    return [contestant.title for contestant in contestants]


def _ratio_rows(results: Results, them: Sequence[Contestant]) -> Iterator[list[str]]:
    for comparison in COMPARISONS:
        us = comparison.us or _US.name
        ratios = [
            None if each.name == us else comparison.ratio(results, us, each.name) for each in them
        ]
        if any(ratio is not None for ratio in ratios):
            yield [comparison.title, *map(times, ratios)]


def _goal_rows(results: Results) -> Iterator[list[str]]:
    for comparison in COMPARISONS:
        for them, goal in comparison.goals.items():
            ratio = comparison.ratio(results, _US.name, them)
            if ratio is not None:
                title = f"{comparison.title}, {_TITLES[them]}"
                yield [title, f"≥ {goal:g} {_TIMES}", times(ratio), _verdict(ratio >= goal)]
    for limit in LIMITS:
        us = limit.us or _US.name
        value = results.figure(Key(limit.case, limit.variant, us), limit.metric)
        if value is not None:
            goal_text = f"≤ {amount(limit.at_most, limit.metric)}"
            measured = amount(value, limit.metric)
            yield [limit.title, goal_text, measured, _verdict(value <= limit.at_most)]


def _figure_rows(results: Results, those: Sequence[Contestant]) -> Iterator[list[str]]:
    for case in CASES:
        for name, variant in case.variants.items():
            title = f"{case.title}, {variant.title}" if variant.title else case.title
            for metric in case.metrics:
                keys = [Key(case.name, name, contestant.name) for contestant in those]
                values = [results.figure(key, metric) for key in keys]
                if any(value is not None for value in values):
                    yield [f"{title}: {metric.title}", *(amount(value, metric) for value in values)]


def _failure_rows(results: Results) -> Iterator[list[str]]:
    for key, reason in results.failures.items():
        yield [f"{key.case}, {key.variant}, {_TITLES[key.contestant]}", reason]


def _verdict(reached: bool) -> str:
    return "✓" if reached else "✗"


def _markdown(sheet: Sheet) -> str:
    lines = [
        f"## {sheet.title}",
        "",
        "| " + " | ".join(sheet.columns) + " |",
        "|---" + "|---:" * (len(sheet.columns) - 1) + "|",
    ]
    for row in sheet.rows:
        cells = (cell.replace("\n", " ").replace("|", "\\|") for cell in row)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
