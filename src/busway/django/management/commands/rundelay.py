"""`manage.py rundelay`: of the first generation of Channels; nothing to run any more."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from busway.django.management.processes import add_layer_argument


class Command(BaseCommand):
    """See `help`."""

    help = "Does nothing: delayed messages are part of every channel layer."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options that it had."""
        add_layer_argument(parser)
        parser.add_argument("--sleep", type=float, default=1.0, help="Has no effect.")

    def handle(self, *_: Any, **__: Any) -> None:
        """Say so."""
        self.stdout.write(
            "There is nothing to run: delays are built in. Send with "
            'Channel("name").send({…}, delay=seconds) and leave this process out.'
        )
