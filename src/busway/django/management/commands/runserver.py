"""`manage.py runserver`: an interface server and workers, for development."""

import asyncio
import errno
import os
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.staticfiles.management.commands.runserver import Command as RunserverCommand
from django.core.management.base import CommandError, CommandParser
from django.db import connections

from busway.bus.errors import BuswayError, ConfigurationError
from busway.cli.web import listen
from busway.django.management.processes import add_layer_argument, shared_layer, start_log
from busway.supervisor import ChildSpec, Supervisor

GRACE = 5.0
"""Seconds that processes have to stop before they are killed."""


class Command(RunserverCommand):
    """See `help`."""

    help = (
        "Starts an interface server for HTTP and WebSockets, and workers, for development. "
        "When code changes the workers are replaced; connections stay open."
    )

    addr: str
    port: str
    _raw_ipv6: bool

    def add_arguments(self, parser: CommandParser) -> None:
        """Add Django's options, and those of Busway."""
        super().add_arguments(parser)
        parser.add_argument(
            "--workers", type=int, default=2, help="Worker processes. Default: %(default)s."
        )
        parser.add_argument(
            "--noworker",
            action="store_false",
            dest="run_worker",
            help="Start no workers: they are started with runworker.",
        )
        parser.add_argument(
            "--noasgi",
            action="store_false",
            dest="use_asgi",
            help="Run Django's own server instead, without WebSockets and workers.",
        )
        parser.add_argument(
            "--http_timeout",
            "--http-timeout",
            type=float,
            default=60.0,
            metavar="SECONDS",
            help="How long a worker has to answer a request, then 503. Default: %(default)s.",
        )
        parser.add_argument(
            "--websocket_handshake_timeout",
            "--websocket-handshake-timeout",
            type=float,
            default=5.0,
            metavar="SECONDS",
            help="How long workers have to accept a WebSocket, then 503. Default: %(default)s.",
        )
        add_layer_argument(parser)

    def get_handler(self, *args: Any, **options: Any) -> Any:
        """Return the WSGI application that --noasgi serves."""
        static = options["use_static_handler"] and apps.is_installed("django.contrib.staticfiles")
        return super().get_handler(*args, **options | {"use_static_handler": static})

    def run(self, **options: Any) -> None:
        """Serve until Ctrl-C."""
        if not options["use_asgi"]:
            super().run(**options)
            return
        if options["workers"] < 1:
            raise CommandError("--workers takes 1 or more; for none there is --noworker")
        start_log("busway", options["verbosity"])
        try:
            # Opened to be told now, once and in one line, what is wrong with it.
            shared_layer(options["layer"], "runserver").close()
        except BuswayError as error:
            raise CommandError(str(error)) from error
        if not options["skip_checks"]:
            self.stdout.write("Performing system checks...\n\n")
            self.check(display_num_errors=True)
        self.check_migrations()
        connections.close_all()
        status = self._serve(options)
        if status:
            sys.exit(status)

    def _serve(self, options: dict[str, Any]) -> int:
        where = {"fd": None, "unix_socket": None, "host": self.addr, "port": int(self.port)}
        try:
            sock = listen(where)[0]
        except ConfigurationError as error:
            raise CommandError(_explain(error, self.addr, int(self.port))) from error
        self.port = str(sock.getsockname()[1])
        try:
            specs = [_web(options, sock.fileno())]
            specs += _workers(options)
            return asyncio.run(self._supervise(specs, options))
        finally:
            sock.close()

    async def _supervise(self, specs: list[ChildSpec], options: dict[str, Any]) -> int:
        # watchfiles starts slowly, and --noreload does without.
        from busway.supervisor.reload import changed_files  # noqa: PLC0415

        return await Supervisor(
            specs,
            grace=GRACE,
            changes=changed_files(code_directories()) if options["use_reloader"] else None,
            on_ready=lambda: self._greet(options),
        ).run()

    def _greet(self, options: dict[str, Any]) -> None:
        now = datetime.now().strftime("%B %d, %Y - %X")  # noqa: DTZ005  (for people, here)
        address = f"[{self.addr}]" if self._raw_ipv6 else self.addr
        count = _worker_count(options)
        workers = f"{count or 'no'} worker{'s' * (count != 1)}"
        self.stdout.write(
            f"{now}\nDjango version {self.get_version()}, using settings "
            f"{settings.SETTINGS_MODULE!r}\n{self.protocol}://{address}:{self.port}/ serves HTTP "
            f"and WebSockets, with {workers}; Ctrl-C stops it.\n"
        )
        if not count:
            self.stdout.write("Nothing is answered until `manage.py runworker` runs.\n")
        self.stdout.flush()


def _web(options: dict[str, Any], fd: int) -> ChildSpec:
    words = [
        *("--fd", str(fd), "--layer", options["layer"]),
        *("--http-timeout", str(options["http_timeout"])),
        *("--websocket-connect-timeout", str(options["websocket_handshake_timeout"])),
        *("--shutdown-timeout", str(GRACE / 2)),
        *(() if options["verbosity"] == 0 else ("--access-log", "-")),
    ]
    return _spec("web", "runweb", [*words, *_common(options)], fds=(fd,))


def _workers(options: dict[str, Any]) -> Iterator[ChildSpec]:
    words = ["--layer", options["layer"], *_common(options)]
    words += ["--insecure"] * options["insecure_serving"]
    words += ["--nostatic"] * (not options["use_static_handler"])
    words += ["--skip-checks"] * options["skip_checks"]
    for number in range(1, _worker_count(options) + 1):
        yield _spec(f"worker {number}", "runworker", words, rolls=True)


def _worker_count(options: dict[str, Any]) -> int:
    if not options["run_worker"]:
        return 0
    count: int = options["workers"]
    return count if options["use_threading"] else 1


def _common(options: dict[str, Any]) -> list[str]:
    return ["--verbosity", str(min(options["verbosity"], 2))]


def _spec(
    name: str, command: str, words: list[str], *, fds: tuple[int, ...] = (), rolls: bool = False
) -> ChildSpec:
    return ChildSpec(
        name=name,
        command=(*_manage(), command, *words, "--process-name", name),
        fds=fds,
        rolls=rolls,
        environment={
            "DJANGO_SETTINGS_MODULE": settings.SETTINGS_MODULE or "",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "PYTHONUNBUFFERED": "1",
            # Python tells source from bytecode by its size and the second it was changed in.
            "PYTHONDONTWRITEBYTECODE": "1",
        },
    )


def _manage() -> list[str]:
    """Return the command line of `manage.py`, or of what stands in for it."""
    script = Path(sys.argv[0])
    if script.suffix == ".py" and script.is_file() and script.name != "__main__.py":
        return [sys.executable, str(script)]
    return [sys.executable, "-m", "django"]


def code_directories() -> list[Path]:
    """Return where the project's code is: its directory, and those of its applications.

    What is installed is left out, and what lies within another of them.
    """
    script = Path(sys.argv[0]).resolve()
    found = {script.parent if script.name == "manage.py" else Path.cwd()}
    found |= {Path(config.path).resolve() for config in apps.get_app_configs()}
    mine = {path for path in found if not {"site-packages", "dist-packages"} & {*path.parts}}
    return sorted(path for path in mine if not mine & {*path.parents})


def _explain(error: ConfigurationError, host: str, port: int) -> str:
    """Return why nothing can listen there, with what to do in the words of this command."""
    number = error.__cause__.errno if isinstance(error.__cause__, OSError) else None
    if number == errno.EADDRINUSE:
        return (
            f"port {port} on {host} is in use; stop what listens there, "
            f"or choose another: manage.py runserver {port + 1 if port < 65535 else 8000}"
        )
    if number == errno.EACCES:
        return f"port {port} needs privileges; choose one from 1024: manage.py runserver 8000"
    return (
        f"{host!r} is not an address of this machine; choose one, "
        "for example manage.py runserver 127.0.0.1:8000, or 0.0.0.0:8000 for all of them"
    )
