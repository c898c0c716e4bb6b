"""`manage.py runworker`: a worker."""

from argparse import ArgumentParser
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import close_old_connections

from busway.app.worker import Worker
from busway.bus.errors import BuswayError
from busway.django.database import tending_connections
from busway.django.handler import ViewConsumer
from busway.django.layers import channel_layers
from busway.django.management.processes import (
    add_layer_argument,
    add_supervised_arguments,
    begin,
    shared_layer,
)
from busway.django.signals import worker_process_ready, worker_ready
from busway.django.staticfiles import StaticFilesConsumer
from busway.django.views import view_route
from busway.supervisor.lifeline import announce_ready, ignore_interrupts


class Command(BaseCommand):
    """See `help`."""

    help = (
        "Runs a worker: it takes messages off a channel layer and calls the consumers of its "
        "ROUTING, and the project's views. On SIGTERM it finishes what it is doing."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        add_layer_argument(parser)
        parser.add_argument(
            "--only-channels",
            action="append",
            default=[],
            metavar="GLOB",
            help="Take messages of these channels alone; may be repeated.",
        )
        parser.add_argument(
            "--exclude-channels",
            action="append",
            default=[],
            metavar="GLOB",
            help="Leave messages of these channels to other workers; may be repeated.",
        )
        parser.add_argument(
            "--threads", type=int, default=1, help="Consumer threads. Default: %(default)s."
        )
        parser.add_argument(
            "--nostatic",
            action="store_false",
            dest="static",
            help="Do not answer requests for static files, as it does while DEBUG is on.",
        )
        parser.add_argument(
            "--insecure", action="store_true", help="Answer them even while DEBUG is off."
        )
        add_supervised_arguments(parser)

    def handle(self, *_: Any, **options: Any) -> None:
        """Consume until SIGTERM."""
        begin(options, "worker")
        try:
            layer = shared_layer(options["layer"], "runworker")
            router = channel_layers.router(options["layer"])
            router.check_default(view_route(_view_consumer(options)))
            worker = Worker(
                layer,
                router,
                threads=options["threads"],
                only_channels=options["only_channels"],
                exclude_channels=options["exclude_channels"],
                ready=lambda: _begin(options),
                idle=close_old_connections,
            )
            with tending_connections():
                worker.run()
        except BuswayError as error:
            raise CommandError(str(error)) from error
        finally:
            channel_layers.close()


def _view_consumer(options: dict[str, Any]) -> ViewConsumer:
    wanted = options["static"] and (settings.DEBUG or options["insecure"])
    found = wanted and apps.is_installed("django.contrib.staticfiles")
    consumer = StaticFilesConsumer() if found else ViewConsumer()
    _ = consumer.handler  # what is wrong with the middleware is to be seen now
    return consumer


def _begin(options: dict[str, Any]) -> None:
    """Tell whoever waits that messages are taken now."""
    worker_process_ready.send(Worker)
    for _ in range(options["threads"]):
        worker_ready.send(Worker)
    if options["ready_fd"] is not None:
        # Not before: the worker has just set up its own handler.
        ignore_interrupts()
        announce_ready(options["ready_fd"])
