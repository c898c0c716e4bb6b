"""`manage.py runserver`: an interface server and workers, for development."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.core.management.commands.runserver import Command as RunserverCommand
from django.utils import autoreload

from busway.bus.errors import BuswayError
from busway.django.management.processes import add_layer_argument, shared_layer, start_log
from busway.supervisor import ChildSpec, Supervisor
from busway.supervisor.listening import listen_tcp

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
        parser.add_argument(
            "--nostatic",
            action="store_false",
            dest="static",
            help="Do not answer requests for static files.",
        )
        parser.add_argument(
            "--insecure", action="store_true", help="Answer them even while DEBUG is off."
        )
        add_layer_argument(parser)

    def run(self, **options: Any) -> None:
        """Serve until Ctrl-C."""
        if not options["use_asgi"]:
            super().run(**options)
            return
        start_log("busway", options["verbosity"])
        # Opened to be told now, once and in one line, what is wrong with it.
        shared_layer(options["layer"], "runserver").close()
        if not options["skip_checks"]:
            self.stdout.write("Performing system checks...\n\n")
            self.check(display_num_errors=True)
        self.check_migrations()
        try:
            status = self._serve(options)
        except BuswayError as error:
            raise CommandError(str(error)) from error
        if status:
            sys.exit(status)

    def _serve(self, options: dict[str, Any]) -> int:
        sock = listen_tcp(self.addr, int(self.port), 1)[0]
        self.port = str(sock.getsockname()[1])  # another than asked for, if that was 0
        try:
            specs = [_web(options, sock.fileno())]
            if options["run_worker"]:
                specs += _workers(options)
            return asyncio.run(self._supervise(specs, options))
        finally:
            sock.close()

    async def _supervise(self, specs: list[ChildSpec], options: dict[str, Any]) -> int:
        return await Supervisor(
            specs,
            grace=GRACE,
            changes=_changes() if options["use_reloader"] else None,
            on_ready=lambda: self._greet(options),
        ).run()

    def _greet(self, options: dict[str, Any]) -> None:
        now = datetime.now().strftime("%B %d, %Y - %X")  # noqa: DTZ005  (for people, here)
        address = f"[{self.addr}]" if self._raw_ipv6 else self.addr
        workers = options["workers"] if options["run_worker"] else "no"
        self.stdout.write(
            f"{now}\nDjango version {self.get_version()}, using settings "
            f"{settings.SETTINGS_MODULE!r}\nHTTP and WebSockets at "
            f"{self.protocol}://{address}:{self.port}/, {workers} worker(s); Ctrl-C stops it.\n\n"
        )


def _web(options: dict[str, Any], fd: int) -> ChildSpec:
    words = [
        *("--fd", str(fd), "--layer", options["layer"]),
        *("--http-timeout", str(options["http_timeout"])),
        *("--websocket-connect-timeout", str(options["websocket_handshake_timeout"])),
        *("--shutdown-timeout", str(GRACE / 2)),
    ]
    return _spec("web", "runweb", [*words, *_common(options)], fds=(fd,))


def _workers(options: dict[str, Any]) -> Iterator[ChildSpec]:
    words = ["--layer", options["layer"], *_common(options)]
    words += ["--insecure"] * options["insecure"] + ["--nostatic"] * (not options["static"])
    count = options["workers"] if options["use_threading"] else 1
    for number in range(1, count + 1):
        yield _spec(f"worker {number}", "runworker", words, rolls=True)


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


def _changes() -> AsyncIterator[set[str]]:
    from busway.supervisor.reload import changed_files  # noqa: PLC0415  (starts slowly)

    here = Path.cwd()
    site = {Path(path) for path in sys.path if "site-packages" in path}
    roots = {
        root
        for root in autoreload.sys_path_directories()
        if root.is_dir() and root not in site and "lib/python" not in str(root)
    }
    return changed_files(sorted({here, *(root for root in roots if root.is_relative_to(here))}))
