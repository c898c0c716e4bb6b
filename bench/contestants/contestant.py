"""What a contestant is."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import ClassVar

from bench import child
from bench.service import Service

#: Where the applications of the contestants are.
APPS = Path(__file__).parent.parent / "apps"

EVERY_PATH = frozenset({"/echo/sync", "/echo/async", "/open", "/group", "/trigger"})


class Contestant(ABC):
    """A server with an application that answers on the paths of the cases.

    - ``/echo/sync``, ``/echo/async``: sends each text back, from such a consumer
    - ``/open``: accepts
    - ``/group``: accepts as a member of the group
    - ``/trigger``: answers ``"COUNT TAG"`` with COUNT texts ``TAG-000``… to the group
    """

    #: Unique, as written after ``--peer``.
    name: ClassVar[str]

    #: For tables and the chart.
    title: ClassVar[str]

    #: The paths it answers on; it is left out of cases that need others.
    paths: ClassVar[frozenset[str]] = EVERY_PATH

    #: The table that it stands in.
    group: ClassVar[str] = "WebSocket"

    #: Whether it lives in the peers' environment, which must then be made first.
    is_peer: ClassVar[bool] = True

    def obstacle(self) -> str | None:
        """Why it cannot run on this machine, and the remedy; None when it can."""
        return None

    @abstractmethod
    def running(self) -> AbstractContextManager[Service]:
        """Start it without waiting until it is ready, and stop it on leaving."""


@contextmanager
def server(name: str, command: list[str], port: int, **environment: str) -> Iterator[Service]:
    """Run one server with the applications on its import path."""
    with child.running(name, command, PYTHONPATH=str(APPS), **environment) as process:
        yield Service(port, (process,))
