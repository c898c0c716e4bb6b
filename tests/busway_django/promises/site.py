"""A Django project in a directory of its own, and its processes."""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from websockets.sync.client import ClientConnection, connect

from busway_django.promises.gallery import FILES
from services import PATIENCE, Service

USER, PASSWORD = "ada", "lovelace"


def build(directory: Path) -> None:
    """Write the project into `directory`, and make its database."""
    for name, content in FILES.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content.lstrip())
    (directory / "uploading").mkdir()
    command = [sys.executable, "manage.py", "migrate"]
    with Service(command, cwd=directory, environment=_environment("gallery")) as migrate:
        assert migrate.ended() == 0, migrate.output


class Site:
    """A project, copied from one that `build` made, and what runs of it."""

    def __init__(self, built: Path, directory: Path, stack: ExitStack) -> None:
        """Copy `built` to `directory`, which is new; `stack` ends the processes."""
        shutil.copytree(built, directory)
        self.directory = directory
        self._stack = stack
        # A short path, for its sockets.
        self._bus = stack.enter_context(TemporaryDirectory(prefix="busway-test-"))
        self.package = "gallery"
        """The project's package."""
        self._services: list[Service] = []
        self.address = ("", 0)
        """Where it listens."""
        self.worker: Service
        """What has the output of the workers that were started last."""

    def runserver(self, *options: str, debug: bool = True, bus: str | None = "own") -> Service:
        """Run `manage.py runserver` on a free port; returns it once it is ready.

        `bus` is None for the one of a project without settings for it.
        """
        service = self._start("runserver", "127.0.0.1:0", *options, debug=debug, bus=bus)
        self._listens(
            service.expect(r"//([\d.]+):(\d+)/ serves HTTP and WebSockets, with (no|\d+) worker")
        )
        self.worker = service
        return service

    def runweb(self, *options: str, debug: bool = False, bus: str | None = "own") -> Service:
        """Run `manage.py runweb` on a free port; returns it once it is ready."""
        service = self._start("runweb", "--port", "0", *options, debug=debug, bus=bus)
        self._listens(service.expect(r"//([\d.]+):(\d+)"))
        return service

    def runworker(
        self,
        *options: str,
        debug: bool = False,
        bus: str | None = "own",
        cwd: Path | None = None,
    ) -> Service:
        """Run `manage.py runworker`; returns it once it is ready.

        `cwd` is the directory to start it from, None: the project's.
        """
        service = self._start("runworker", *options, debug=debug, bus=bus, cwd=cwd)
        service.expect("consuming .*http")
        self.worker = service
        return service

    def rename(self, name: str) -> None:
        """Call the project's package `name` instead of "gallery"."""
        (self.directory / "gallery").rename(self.directory / name)
        for path in self.directory.glob("**/*.py"):
            path.write_text(path.read_text().replace("gallery", name))
        self.package = name

    def write(self, name: str, content: str) -> None:
        """Put a file into the project, at once and whole."""
        path = self.directory / name
        path.parent.mkdir(exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(content)
        new.replace(path)

    @property
    def url(self) -> str:
        """The address of its first page, without a slash at the end."""
        return f"http://{self.address[0]}:{self.address[1]}"

    @property
    def output(self) -> str:
        """What all its processes have printed."""
        return "\n".join(service.output for service in self._services)

    @contextmanager
    def socket(self, path: str) -> Iterator[ClientConnection]:
        """Open a WebSocket for the length of a `with` block."""
        url = f"ws://{self.address[0]}:{self.address[1]}{path}"
        with connect(url, open_timeout=PATIENCE) as client:
            yield client

    def _listens(self, found: re.Match[str]) -> None:
        self.address = found[1], int(found[2])

    def _start(
        self,
        *command: str,
        debug: bool = True,
        bus: str | None = "own",
        cwd: Path | None = None,
    ) -> Service:
        environment = _environment(self.package)
        environment["GALLERY_DEBUG"] = "on" if debug else "off"
        if bus is not None:
            environment["GALLERY_BUS"] = f"ipc://{bus}?directory={self._bus}"
        line = [sys.executable, str(self.directory / "manage.py"), *command]
        service = Service(line, cwd=cwd or self.directory, environment=environment)
        self._services.append(self._stack.enter_context(service))
        return service


def _environment(package: str) -> dict[str, str]:
    return {
        # pytest-django sets its own.
        "DJANGO_SETTINGS_MODULE": f"{package}.settings",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
