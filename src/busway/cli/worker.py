"""`busway worker`: a worker alone."""

from contextlib import closing
from typing import Any

import click

from busway.app.worker import Worker
from busway.cli import options
from busway.cli.command import command
from busway.cli.loading import load_router, open_shared_layer
from busway.cli.logs import configure_logging
from busway.supervisor.lifeline import announce_ready, hold_lifeline, ignore_interrupts


@command(
    "worker",
    (click.Argument(["routing"], metavar="MODULE:ROUTING"),),
    options.WORKER,
    options.layer(),
    options.COMMON,
    options.SUPERVISED,
)
def worker(**values: Any) -> None:
    """Run a worker: it takes messages off the channel layer and calls MODULE:ROUTING's consumers.

    Interface servers that bring it messages are started with `busway web`. On SIGTERM it finishes
    what it is doing, and leaves the rest to other workers.
    """
    if values["lifeline_fd"] is not None:
        hold_lifeline(values["lifeline_fd"])
    configure_logging(values["process_name"] or "worker", values["verbosity"])
    with closing(open_shared_layer(values["layer"], "worker")) as layer:
        router = load_router(values["routing"])
        # Or clients would wait for an answer, and disconnects for a reader, that never comes.
        router.check_default()
        Worker(
            layer,
            router,
            threads=values["threads"],
            only_channels=values["only_channels"],
            exclude_channels=values["exclude_channels"],
            ready=lambda: _begin(values["ready_fd"]),
        ).run()


def _begin(ready_fd: int | None) -> None:
    """Tell the supervisor, if there is one, that messages are taken now."""
    if ready_fd is not None:
        # Not before: the worker has just set up its own handler.
        ignore_interrupts()
        announce_ready(ready_fd)
