"""The command line: one module a command, what they share in `options`, `command` and `logs`."""

import click

from busway import __version__
from busway.cli.check import check
from busway.cli.command import CONTEXT
from busway.cli.demo import demo
from busway.cli.layer import layer
from busway.cli.serve import serve
from busway.cli.web import web
from busway.cli.worker import worker


@click.group(context_settings=CONTEXT)
@click.version_option(__version__, prog_name="busway")
def busway() -> None:
    """Realtime for Django and any Python on a message bus.

    An interface server holds the connections of browsers, workers run your code, and the channel
    layer carries messages between them. `busway serve` starts all of it.
    """


for _command in (serve, web, worker, check, layer, demo):
    busway.add_command(_command)
