"""`busway serve`: interface servers and workers under one supervisor."""

import asyncio
import logging
import socket
import sys
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import click

from busway.cli import options
from busway.cli.command import Command, arguments, command
from busway.cli.loading import open_shared_layer, use_current_directory
from busway.cli.logs import configure_logging
from busway.cli.web import listen, url_of, web
from busway.cli.worker import worker
from busway.supervisor import ChildSpec, Supervisor

logger = logging.getLogger("busway.supervisor")


@command(
    "serve",
    (click.Argument(["routing"], metavar="MODULE:ROUTING"),),
    options.LISTEN,
    options.SUPERVISOR,
    options.RELOAD,
    options.WORKER,
    options.layer(),
    options.WEB,
    options.COMMON,
)
def serve(**values: Any) -> None:
    """Run MODULE:ROUTING: an interface server and its workers.

    The module is looked for in the current directory too. Processes that die are replaced.
    SIGHUP replaces the workers one at a time; SIGTERM or Ctrl-C stops everything.
    """
    sys.exit(run_service(values))


def run_service(values: dict[str, Any]) -> int:
    """Run the service that the options of `serve` describe; returns the exit status."""
    configure_logging("busway", values["verbosity"])
    options.web_options(values)
    # Opened to be told now, once and in one line, what is wrong with it.
    open_shared_layer(values["layer"], "serve").close()
    sockets = listen(values, values["web"])
    try:
        return asyncio.run(_supervise(values, sockets))
    finally:
        for sock in sockets:
            sock.close()
        if values["unix_socket"] is not None:
            Path(values["unix_socket"]).unlink(missing_ok=True)


async def _supervise(values: dict[str, Any], sockets: list[socket.socket]) -> int:
    def announce() -> None:
        workers = f"{values['workers']} worker{'s' * (values['workers'] > 1)}"
        logger.info("%s is ready, with %s; Ctrl-C stops it", url_of(values, sockets[0]), workers)

    return await Supervisor(
        [*_web_specs(values, sockets), *_worker_specs(values)],
        grace=values["grace"],
        changes=_changes(values) if values["reload"] else None,
        on_ready=announce,
    ).run()


def _web_specs(values: dict[str, Any], sockets: list[socket.socket]) -> Iterable[ChildSpec]:
    # Half of the time to stop is the most that finishing may take: workers stop after.
    shutdown = min(values["shutdown_timeout"], values["grace"] / 2)
    for number in range(1, values["web"] + 1):
        fd = sockets[(number - 1) % len(sockets)].fileno()
        own = {
            "fd": fd,
            "host": None,
            "port": None,
            "unix_socket": None,
            "shutdown_timeout": shutdown,
        }
        name = "web" if values["web"] == 1 else f"web {number}"
        yield _spec(name, web, values | own, fds=(fd,))


def _worker_specs(values: dict[str, Any]) -> Iterable[ChildSpec]:
    for number in range(1, values["workers"] + 1):
        yield _spec(f"worker {number}", worker, values, rolls=True)


def _spec(
    name: str,
    target: Command,
    values: dict[str, Any],
    *,
    fds: tuple[int, ...] = (),
    rolls: bool = False,
) -> ChildSpec:
    # The layer's URL may hold a password: every user can read command lines, not environments.
    environment = {"BUSWAY_LAYER": values["layer"], "PYTHONUNBUFFERED": "1"}
    if values["reload"]:
        # Python tells source from bytecode by its size and the second it was changed in.
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
    words = arguments(target, values | {"process_name": name, "layer": None})
    return ChildSpec(
        name=name,
        command=(sys.executable, "-m", "busway", target.name or "", *words),
        fds=fds,
        rolls=rolls,
        environment=environment,
    )


def _changes(values: dict[str, Any]) -> AsyncIterator[set[str]]:
    # watchfiles starts slowly, and only --reload needs it.
    from busway.supervisor.reload import changed_files, code_directories  # noqa: PLC0415

    use_current_directory()
    directories = [Path(given).absolute() for given in values["reload_dir"]]
    return changed_files(directories or code_directories(values["routing"].partition(":")[0]))
