"""`busway demo`: a chat, to see all of it work."""

import os
import sys
from typing import Any

from busway.cli import options
from busway.cli.command import command
from busway.cli.serve import run_service

ROUTING = "busway.demo.routing:routing"


@command(
    "demo",
    options.LISTEN,
    options.SUPERVISOR,
    options.WORKER,
    options.layer(default=None, shown="a bus of the port"),
    options.WEB,
    options.COMMON,
)
def demo(**values: Any) -> None:
    """Run a chat in the browser; its code is in the package busway.demo.

    It has rooms, keeps their last messages, and starts anew every time. Code that is edited
    while it runs is used at once, and no page loses its connection.
    """
    from busway.demo.store import temporary_state  # noqa: PLC0415  (only needed here)

    # A bus for each port: demos that run side by side would answer each other's pages.
    url = values["layer"] or f"ipc://demo-{values['port'] or os.getpid()}"
    with temporary_state():
        sys.exit(
            run_service(
                values | {"layer": url, "routing": ROUTING, "reload": True, "reload_dir": ()}
            )
        )
