"""`manage.py channellayer`: `busway layer` for the layers of the settings."""

from argparse import REMAINDER, ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from django.core.management.base import BaseCommand, CommandError

from busway.cli.command import CONTEXT, Option
from busway.cli.command import Command as Line
from busway.cli.layer import Source, layer
from busway.django.layers import DEFAULT_CHANNEL_LAYER, channel_layers

HELP = "Looks into a channel layer of the settings, or empties it."

_DJANGO: tuple[Option, ...] = (
    Option(
        "--layer", section="Processes", default=DEFAULT_CHANNEL_LAYER, metavar="ALIAS",
        help="The channel layer: its alias in CHANNEL_LAYERS.",
    ),
    Option("--settings", section="Django", metavar="MODULE", help="The settings to use."),
    Option("--pythonpath", section="Django", metavar="DIRECTORY", help="Where projects are."),
)  # fmt: skip

_SETTINGS = Source(channel_layers.make, "{!r} of CHANNEL_LAYERS".format, "name it with --layer")


def _line(command: click.Command) -> Line:
    """Return a command of `busway layer` that takes an alias instead of a URL."""
    own = [param for param in command.params if param.name != "layer"]
    return Line(
        command.name,
        callback=command.callback,
        help=command.help,
        params=[*own, *_DJANGO],
        context_settings=CONTEXT,
    )


LINE = click.Group(
    "channellayer",
    commands=[_line(command) for command in layer.commands.values()],
    help=HELP,
    context_settings=CONTEXT | {"obj": _SETTINGS},
)


class Command(BaseCommand):
    """See `help`; its commands and options are those of `busway layer`."""

    help = HELP

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take everything: `LINE` knows what it means."""
        parser.add_argument("words", nargs=REMAINDER, help="See `busway layer`.")

    def run_from_argv(self, argv: Sequence[str]) -> None:
        """Read a command of `busway layer` with its options, besides Django's."""
        LINE.main(args=list(argv[2:]), prog_name=f"{Path(argv[0]).name} {argv[1]}")

    def handle(self, *_: Any, **values: Any) -> None:
        """Do what `call_command("channellayer", "flush", "--yes")` says."""
        try:
            LINE.main(args=values["words"], prog_name=LINE.name, standalone_mode=False)
        except click.ClickException as error:
            raise CommandError(error.format_message()) from error
