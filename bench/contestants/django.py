"""One Django site under Busway, and under the servers that Django sites run on."""

import os
import socket
import subprocess
import sys
import tempfile
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import ClassVar

from bench import child, peers
from bench.child import free_port
from bench.contestants.bare import uvicorn
from bench.contestants.contestant import APPS, Contestant
from bench.service import Service
from bench.target import Failure


def _has_postgresql() -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", 5432), 1):
        return True
    return False


PATHS = frozenset({"/hello", "/sqlite"} | ({"/postgresql"} if _has_postgresql() else set()))


class DjangoSite(Contestant):
    """The site in ``apps/django_settings.py``."""

    paths: ClassVar = PATHS
    group = "Django over HTTP"

    @abstractmethod
    def commands(self, port: int) -> Sequence[list[str]]:
        """The commands that make the service, the one that listens first."""

    def environment(self, folder: str) -> dict[str, str]:
        """What the site is told; ``folder`` is its own."""
        return {
            "PYTHONPATH": str(APPS),
            "DJANGO_SETTINGS_MODULE": "django_settings",
            "BENCH_SQLITE": f"{folder}/site.sqlite3",
        }

    @contextmanager
    def running(self) -> Iterator[Service]:
        port = free_port()
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="busway-bench-"))
            environment = self.environment(folder)
            _prepare(environment)
            children = [
                stack.enter_context(child.running(self.name, command, **environment))
                for command in self.commands(port)
            ]
            yield Service(port, tuple(children), probe="/hello")


class BuswayDjango(DjangoSite):
    name = "busway-django"
    title = "Busway"
    is_peer = False

    def environment(self, folder: str) -> dict[str, str]:
        layer = {"BENCH_LAYER": f"ipc://bench?directory={folder}/bus"}
        return super().environment(folder) | layer

    def commands(self, port: int) -> Sequence[list[str]]:
        manage = [sys.executable, "-m", "django"]
        worker = [*manage, "runworker", "--verbosity", "0"]
        return [
            [*manage, "runweb", "--host", "127.0.0.1", "--port", str(port), "--verbosity", "0"],
            worker,
            worker,
        ]


class Gunicorn(DjangoSite):
    name = "gunicorn"
    title = "gunicorn, 2 sync workers"
    options: ClassVar[Sequence[str]] = ("--workers", "2")

    def commands(self, port: int) -> Sequence[list[str]]:
        gunicorn = [str(peers.PYTHON), "-m", "gunicorn", "--bind", f"127.0.0.1:{port}"]
        return [[*gunicorn, *self.options, "--log-level", "warning", "django_server"]]


class GunicornThreads(Gunicorn):
    name = "gunicorn-gthread"
    title = "gunicorn, 2 gthread workers"
    options = ("--workers", "2", "--worker-class", "gthread", "--threads", "4")


class Granian(DjangoSite):
    name = "granian"
    title = "granian, WSGI, 2 workers"

    def commands(self, port: int) -> Sequence[list[str]]:
        granian = str(peers.PYTHON.with_name("granian"))
        options = ["--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port)]
        return [
            [
                granian,
                *options,
                "--workers",
                "2",
                "--blocking-threads",
                "4",
                "--no-log",
                "django_server:application",
            ]
        ]


class AsgiSite(DjangoSite):
    """The site on a server of ASGI."""

    def environment(self, folder: str) -> dict[str, str]:
        return super().environment(folder) | {"BENCH_CONN_MAX_AGE": "0"}


class DjangoOnUvicorn(AsgiSite):
    name = "django-uvicorn"
    title = "Django on uvicorn"

    def commands(self, port: int) -> Sequence[list[str]]:
        return [uvicorn("django_server:asgi_application", port)]


class DjangoOnDaphne(AsgiSite):
    name = "django-daphne"
    title = "Django on daphne"

    def commands(self, port: int) -> Sequence[list[str]]:
        daphne = [str(peers.PYTHON), "-m", "daphne", "--verbosity", "0", "--bind", "127.0.0.1"]
        return [[*daphne, "--port", str(port), "django_server:asgi_application"]]


def _prepare(environment: dict[str, str]) -> None:
    aliases = ["default", *(["postgresql"] if "/postgresql" in PATHS else [])]
    outcome = subprocess.run(
        [sys.executable, str(Path(APPS) / "django_prepare.py"), *aliases],
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
        text=True,
    )
    if outcome.returncode:
        raise Failure(f"the databases could not be filled: {outcome.stderr[-500:]}")
