"""`busway check`: is the routing right, and does the channel layer carry messages?"""

import time
from collections.abc import Iterable
from contextlib import closing
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from busway.app.routing import Router
from busway.bus.errors import BusError, ConfigurationError, LayerUnavailable
from busway.bus.layer import ChannelLayer
from busway.bus.urls import open_layer, shown
from busway.cli import options
from busway.cli.command import command
from busway.cli.loading import load_router
from busway.cli.logs import configure_logging

_PATIENCE = 5.0
"""Seconds that the layer has to bring back a message."""


@command(
    "check",
    (click.Argument(["routing"], metavar="MODULE:ROUTING"),),
    options.layer(),
    options.COMMON,
)
def check(**values: Any) -> None:
    """Say whether MODULE:ROUTING and the channel layer can be used, and what is wrong if not.

    Imports the routing, lists its channels with their consumers, and sends one message to itself
    over the layer. The exit status is 0 when all is well, 1 otherwise.
    """
    configure_logging("check", values["verbosity"])
    console = Console(highlight=False)
    router = load_router(values["routing"])
    if not router.channels:
        raise ConfigurationError(f"{values['routing']!r} has no routes; put route(…) into its list")
    console.print(_table(router))
    _say_well(console, f"{values['routing']} is in order")
    with closing(open_layer(values["layer"])) as layer:
        seconds = round_trip(layer, private_channel(layer))
    _say_well(
        console,
        f"{shown(values['layer'])} carries messages: {seconds * 1000:.2f} ms there and back",
    )


def private_channel(layer: ChannelLayer) -> str:
    """Return a channel of which workers and interface servers on `layer` notice nothing."""
    return layer.new_channel("busway.check?")


def round_trip(layer: ChannelLayer, channel: str) -> float:
    """Send a message over `layer` and receive it; returns the seconds that this took.

    Raises `BusError` when the message does not come back as it was.
    """
    message = {"text": "Zürich", "bytes": bytes(range(256)), "number": 2**62}
    # The first exchange pays for opening; it is not what a message takes.
    layer.receive([channel])
    began = time.perf_counter()
    layer.send(channel, message)
    found = layer.receive([channel], timeout=_PATIENCE)
    seconds = time.perf_counter() - began
    if found == (None, None):
        raise LayerUnavailable(
            f"a message that was sent did not arrive within {_PATIENCE:.0f} s; "
            "look at the load of the machine and at the layer's own log"
        )
    if found != (channel, message):
        raise BusError(f"the layer returned another message than was sent: {found!r}")
    return seconds


def _table(router: Router) -> Table:
    table = Table("channel", "consumer", box=None, header_style="bold", pad_edge=False)
    for channel in sorted(router.channels):
        for number, consumer in enumerate(_consumers(router, channel)):
            table.add_row("" if number else escape(channel), escape(consumer))
    return table


def _consumers(router: Router, channel: str) -> Iterable[str]:
    targets = router.targets(channel)
    if targets is None:
        return ["(decided by a route of your own)"]
    return dict.fromkeys(f"{'async ' * target.is_async}{target.name}" for target in targets)


def _say_well(console: Console, text: str) -> None:
    console.print(f"[green]✓[/green] {escape(text)}", soft_wrap=True)
