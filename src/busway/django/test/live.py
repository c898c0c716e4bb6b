"""A real interface server and real workers, for tests that drive a browser."""

import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, ClassVar, Self

from django.apps import apps
from django.conf import settings
from django.db import connections
from django.test import TransactionTestCase

from busway.bus.errors import ConfigurationError
from busway.bus.layer import ChannelLayer
from busway.django.layers import (
    DEFAULT_CHANNEL_LAYER,
    channel_layers,
    for_tests,
    is_local,
)
from busway.django.test.databases import shared_databases
from busway.django.test.layers import replaced_layers
from busway.django.test.processes import LiveProcess, ServerProcess, WorkerProcess

BUS_SIZE = 16 * 1024 * 1024
"""Bytes of the bus of a live server."""


class ChannelLiveServer:
    """The project, served on a free port, with the test's databases. A context manager.

    The settings are those of the settings module: what a test overrides does not reach the
    processes, and neither does `apply_routes`. Its channel layers are those of the test as long
    as it runs, so that both sides can send to each other.
    """

    def __init__(
        self,
        *,
        host: str = "localhost",
        worker_threads: int = 1,
        serve_static: bool = True,
        databases: Iterable[str] = ("default",),
        server_class: type[LiveProcess] = ServerProcess,
        worker_class: type[LiveProcess] = WorkerProcess,
    ) -> None:
        """Prepare to serve.

        Args:
            host: a name or address of this machine to listen on.
            worker_threads: consumer threads of each worker; there is one worker for each layer.
            serve_static: whether static files are served from the applications.
            databases: aliases; those in the memory of SQLite become files meanwhile.
            server_class: what runs the interface server.
            worker_class: what runs a worker.
        """
        self.host = host
        self.port = 0
        """The port, while it runs."""
        self._threads = worker_threads
        self._static = serve_static and apps.is_installed("django.contrib.staticfiles")
        self._databases = list(databases)
        self._classes = server_class, worker_class
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        """Where HTTP is served."""
        return f"http://{self._address}"

    @property
    def ws_url(self) -> str:
        """Where WebSockets are served."""
        return f"ws://{self._address}"

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(shared_databases(self._databases))
            setup = stack.enter_context(self._layers())
            sock = stack.enter_context(self._listen())
            processes = list(self._processes(setup, sock.fileno()))
            for process in processes:
                stack.callback(process.stop)
                process.start()
            for process in processes:
                process.wait_until_ready()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def _address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def _listen(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        sock = socket.create_server((self.host, 0), family=family)
        self.port = sock.getsockname()[1]
        return sock

    @contextmanager
    def _layers(self) -> Iterator[dict[str, Any]]:
        """Have the layers of the test in place of the project's; gives what processes need."""
        with TemporaryDirectory(prefix="busway-live-") as directory:
            configs = {
                alias: live_config(config, f"{directory}/{number}")
                for number, (alias, config) in enumerate(channel_layers.configs.items())
            }
            layers = {alias: _open(alias, config) for alias, config in configs.items()}
            with replaced_layers(layers):
                yield {
                    "layers": configs,
                    "databases": {
                        alias: str(connections[alias].settings_dict["NAME"])
                        for alias in self._databases
                    },
                    "host": self.host,
                    "debug": settings.DEBUG,
                }

    def _processes(self, setup: dict[str, Any], fd: int) -> Iterator[LiveProcess]:
        server, worker = self._classes
        words = ["--threads", str(self._threads), "--skip-checks"]
        words.append("--insecure" if self._static else "--nostatic")
        for alias in setup["layers"]:
            yield worker(setup, ["--layer", alias, *words])
        yield server(setup, ["--layer", DEFAULT_CHANNEL_LAYER, "--fd", str(fd)], [fd])


class ChannelLiveServerTestCase(TransactionTestCase):
    """Has the project served while its tests run. See `ChannelLiveServer`."""

    host: ClassVar[str] = "localhost"
    worker_threads: ClassVar[int] = 1
    serve_static: ClassVar[bool] = True
    ProtocolServerProcess: ClassVar[type[LiveProcess]] = ServerProcess
    WorkerProcess: ClassVar[type[LiveProcess]] = WorkerProcess
    live_server: ClassVar[ChannelLiveServer]

    @classmethod
    def setUpClass(cls) -> None:
        """Start the server, and its workers."""
        super().setUpClass()
        cls.live_server = cls.enterClassContext(
            ChannelLiveServer(
                host=cls.host,
                worker_threads=cls.worker_threads,
                serve_static=cls.serve_static,
                databases=cls.databases,
                server_class=cls.ProtocolServerProcess,
                worker_class=cls.WorkerProcess,
            )
        )

    @property
    def live_server_url(self) -> str:
        """Where HTTP is served."""
        return self.live_server.url

    @property
    def live_server_ws_url(self) -> str:
        """Where WebSockets are served."""
        return self.live_server.ws_url


def live_config(config: Mapping[str, Any], directory: str) -> dict[str, Any]:
    """Return the layer of a live server, as CHANNEL_LAYERS would say it, without a ROUTING.

    It is the TEST_CONFIG, or else a bus of its own in `directory`.
    """
    if "TEST_CONFIG" not in config:
        return {"CONFIG": {"name": "live", "directory": directory, "size": BUS_SIZE}}
    kept = ("URL", "BACKEND", "CONFIG")
    return {key: value for key, value in for_tests(config).items() if key in kept}


def _open(alias: str, config: dict[str, Any]) -> ChannelLayer:
    layer = channel_layers.make_from(alias, config)
    if is_local(layer):
        layer.close()
        raise ConfigurationError(
            f"the TEST_CONFIG of CHANNEL_LAYERS[{alias!r}] is of a layer that stays in one "
            "process, and a live server has several; leave it out, or name another"
        )
    return layer
