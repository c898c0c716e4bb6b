"""`manage.py runweb`: an interface server."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from busway.bus.errors import BuswayError
from busway.cli import options
from busway.cli.command import CONTEXT, Option
from busway.cli.command import Command as Line
from busway.cli.web import serve_web
from busway.django.layers import DEFAULT_CHANNEL_LAYER
from busway.django.management.processes import begin, shared_layer

_DJANGO: tuple[Option, ...] = (
    Option("--settings", section="Django", metavar="MODULE", help="The settings to use."),
    Option("--pythonpath", section="Django", metavar="DIRECTORY", help="Where projects are."),
    Option(
        "--layer", section="Processes", default=DEFAULT_CHANNEL_LAYER, show_default=True,
        metavar="ALIAS", help="The channel layer: its alias in CHANNEL_LAYERS.",
    ),
)  # fmt: skip


HELP = (
    "Runs an interface server alone: HTTP and WebSocket on one side, a channel layer on the "
    "other. Workers are started with runworker. Origins of WebSockets are checked by them."
)


def serve(**values: Any) -> None:
    """Serve until SIGTERM."""
    begin(values, "web")
    layer = shared_layer(values["layer"], "runweb")
    # Workers know ALLOWED_HOSTS.
    origins = values.get("allowed_origins") or ("*",)
    protocols = values.get("ws_protocols") or getattr(settings, "CHANNELS_WS_PROTOCOLS", None) or ()
    serve_web(layer, values | {"allowed_origins": origins, "ws_protocols": tuple(protocols)})


LINE = Line(
    name="runweb",
    callback=serve,
    help=HELP,
    params=[*options.LISTEN, *options.WEB, *_DJANGO, *options.COMMON, *options.SUPERVISED],
    context_settings=CONTEXT,
)


class Command(BaseCommand):
    """See `help`; the options are those of `busway web`."""

    help = HELP
    stealth_options = tuple(param.name for param in LINE.params if param.name)

    def run_from_argv(self, argv: Sequence[str]) -> None:
        """Read the options of `busway web` besides Django's."""
        LINE.main(args=list(argv[2:]), prog_name=f"{Path(argv[0]).name} {argv[1]}")

    def handle(self, *_: Any, **values: Any) -> None:
        """Serve with the options that are given by name: for `call_command`."""
        defaults = LINE.make_context("runweb", []).params
        try:
            serve(**defaults | {name: values[name] for name in defaults if name in values})
        except BuswayError as error:
            raise CommandError(str(error)) from error
