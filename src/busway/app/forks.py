"""Keeps a forked child from going on as a copy of its worker.

A consumer may fork when its child ends by itself (`os._exit`), as multiprocessing sees to. A child
that returns from the consumer instead would commit its parent's messages a second time.
"""

import logging
import os
from typing import NoReturn, Protocol
from weakref import WeakSet

logger = logging.getLogger("busway.worker")


class Part(Protocol):
    """A part of a worker that consumes messages."""

    def disown(self) -> None:
        """Be a copy, in a forked child: consume nothing, and `end_copy` when it is noticed."""


parts: "WeakSet[Part]" = WeakSet()
"""What consumes messages in this process."""


def end_copy() -> NoReturn:
    """End the child, without its parent's cleaning up."""
    logger.error(
        "a consumer forked and its child returned; it ends here, its parent goes on: "
        "end a child where its work is done, with os._exit()"
    )
    os._exit(1)


def _disown_all() -> None:
    for part in list(parts):
        part.disown()


os.register_at_fork(after_in_child=_disown_all)
