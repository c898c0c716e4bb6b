"""`busway layer`: what is on the channel layer, how it is, and how to empty it."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from fnmatch import fnmatchcase
from itertools import cycle
from typing import Any, NamedTuple

import click
import msgspec
from rich.console import RenderableType

from busway.bus.errors import LayerUnavailable
from busway.bus.layer import ChannelLayer
from busway.bus.urls import open_layer, shown
from busway.cli import options, tables
from busway.cli.check import private_channel, round_trip
from busway.cli.command import CONTEXT, Option, command
from busway.cli.logs import configure_logging

PATTERN = (click.Argument(["pattern"], metavar="[PATTERN]", default="*", required=False),)
OUTPUT = (
    Option("--json", "as_json", section="Output", is_flag=True, help="One line of JSON, in full."),
    Option(
        "--watch", section="Output", type=click.FloatRange(0.1), metavar="SECONDS",
        help="Look again so often, until Ctrl-C.",
    ),
)  # fmt: skip
ROWS = (
    Option(
        "--rows", section="Output", type=click.IntRange(0), default=50, metavar="NUMBER",
        help="Longest table; 0: all there is.",
    ),
)  # fmt: skip
TIMES = (
    Option(
        "--times", "-n", section="Output", type=click.IntRange(1), default=100, metavar="NUMBER",
        help="Messages that are sent and received.",
    ),
)  # fmt: skip
_CHANNELS = 8
"""Channels that a ping uses."""

ALWAYS = (*options.layer(), *options.COMMON)


class View(NamedTuple):
    """What a command found."""

    data: dict[str, Any]
    """For machines."""
    table: RenderableType
    """For people."""
    healthy: bool = True


@click.group("layer", context_settings=CONTEXT)
def layer() -> None:
    """Look into the channel layer, or empty it.

    Name the layer as for the services that use it: with --layer, with BUSWAY_LAYER, or by being
    in their directory.
    """


@command("ping", TIMES, OUTPUT, ALWAYS)
def ping(**values: Any) -> None:
    """Send messages there and back, and time them.

    They go one after another from this process to itself. Workers and interface servers notice
    nothing, but the layer counts them.
    """
    _show(values, lambda layer: _ping(layer, values["times"]))


@command("channels", PATTERN, ROWS, OUTPUT, ALWAYS)
def channels(**values: Any) -> None:
    """List channels, the fullest first.

    PATTERN is a glob, such as "websocket.*". Capacities are those that the layer's URL says.
    Process-specific channels are counted by their prefix, up to the "!".
    """
    _show(values, lambda layer: _channels(layer, values["pattern"], values["rows"]))


@command("groups", PATTERN, ROWS, OUTPUT, ALWAYS)
def groups(**values: Any) -> None:
    """List groups, the largest first.

    PATTERN is a glob, such as "room-*". A message to a group costs one for each process.
    """
    _show(values, lambda layer: _groups(layer, values["pattern"], values["rows"]))


@command("shards", OUTPUT, ALWAYS)
def shards(**values: Any) -> None:
    """Say where messages are, and how they are.

    The exit status is 0 when all shards are healthy, 1 otherwise.
    """
    _show(values, _shards)


@command("status", ROWS, OUTPUT, ALWAYS)
def status(**values: Any) -> None:
    """Show all of it at once.

    The exit status is 0 when all shards are healthy, 1 otherwise.
    """
    _show(values, lambda layer: _status(layer, values["rows"]))


@command(
    "flush",
    (Option("--yes", "-y", section="Output", is_flag=True, help="Do not ask."),),
    ALWAYS,
)
def flush(**values: Any) -> None:
    """Drop all messages, groups and counts.

    Services that use the layer go on; clients that wait for an answer get none.
    """
    with _opened(values) as layer:
        waiting = layer.statistics().messages_pending
        if not values["yes"]:
            _ask(f"Drop {waiting} messages and all groups of {shown(values['layer'])}?")
        layer.flush()
    click.echo(f"{shown(values['layer'])} is empty; {waiting} messages were dropped")


for _command in (ping, channels, groups, shards, status, flush):
    layer.add_command(_command)


# -- what they find --------------------------------------------------------------------------


def _ping(layer: ChannelLayer, times: int) -> View:
    # Several channels, to come to all shards; few, for each is remembered for a while.
    channels = [private_channel(layer) for _ in range(min(times, _CHANNELS))]
    seconds = sorted(
        round_trip(layer, channel) for _, channel in zip(range(times), cycle(channels))
    )
    data = {
        "times": times,
        "min": seconds[0],
        "median": statistics.median(seconds),
        "p99": seconds[min(times - 1, int(times * 0.99))],
        "max": seconds[-1],
    }
    return View(data, tables.ping(data))


def _channels(layer: ChannelLayer, pattern: str, rows: int) -> View:
    found: list[dict[str, Any]] = [
        {
            "channel": name,
            "pending": each.messages_pending,
            "capacity": layer.policies.find(name)[1].capacity,
            "oldest": each.messages_max_age,
            "accepted": each.messages_count,
            "refused": each.channel_full_count,
            "dropped": dict(each.dropped),
        }
        for name, each in layer.channel_statistics().items()
        if fnmatchcase(name, pattern)
    ]
    found.sort(key=lambda row: (-row["pending"], row["channel"]))
    return View({"channels": found}, tables.channels(found, rows))


def _groups(layer: ChannelLayer, pattern: str, rows: int) -> View:
    found: list[dict[str, Any]] = [
        {"group": name, "members": size.members, "processes": size.processes}
        for name, size in layer.group_sizes().items()
        if fnmatchcase(name, pattern)
    ]
    found.sort(key=lambda row: (-row["members"], row["group"]))
    return View({"groups": found}, tables.groups(found, rows))


def _shards(layer: ChannelLayer) -> View:
    found = layer.shards()
    data = {"shards": [msgspec.to_builtins(shard) for shard in found]}
    return View(data, tables.shards(found), all(shard.healthy for shard in found))


def _status(layer: ChannelLayer, rows: int) -> View:
    where = _shards(layer)
    if not where.healthy:
        return where  # nothing else can be asked
    total = layer.statistics()
    listed = [_channels(layer, "*", rows), _groups(layer, "*", rows)]
    latency = _ping(layer, 20)  # last, or its own channels would be among those
    data = where.data | {"ping": latency.data, "total": msgspec.to_builtins(total)}
    parts = [where.table, latency.table, tables.total(total)]
    for view in listed:
        data |= view.data
        parts.append(view.table)
    return View(data, tables.stacked(parts))


# -- how they do it --------------------------------------------------------------------------


def _show(values: dict[str, Any], look: Callable[[ChannelLayer], View]) -> None:
    """Open the layer, and print what `look` finds, once or until Ctrl-C."""
    with _opened(values) as layer:
        view = look(layer)
        if values["watch"] is None:
            _print(values, view)
        else:
            _watch(values, lambda: look(layer), view)
    if not view.healthy:
        click.get_current_context().exit(1)


def _print(values: dict[str, Any], view: View) -> None:
    if values["as_json"]:
        data = {"layer": shown(values["layer"]), **view.data}
        click.echo(msgspec.json.encode(data))
    else:
        tables.console().print(view.table)


def _watch(values: dict[str, Any], look: Callable[[], View], view: View) -> None:
    with suppress(KeyboardInterrupt):
        while True:
            if not values["as_json"]:
                click.clear()  # on a terminal
            _print(values, view)
            time.sleep(values["watch"])
            view = look()


@contextmanager
def _opened(values: dict[str, Any]) -> Iterator[ChannelLayer]:
    """Open the layer; say what to do when it, or its storage, cannot be reached."""
    configure_logging("layer", values["verbosity"])
    try:
        with closing(open_layer(values["layer"])) as layer:
            yield layer
    except LayerUnavailable as error:
        raise LayerUnavailable(
            f"cannot use the channel layer {shown(values['layer'])}: {error}; "
            "if it is another one that you mean, name it with --layer or BUSWAY_LAYER"
        ) from error


def _ask(question: str) -> None:
    try:
        sure = click.confirm(question)
    except click.Abort:
        sure = False  # nobody is there to answer
    if not sure:
        raise click.ClickException("nothing was dropped; --yes drops it without asking")
