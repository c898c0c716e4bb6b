"""One server: Redis or Valkey, alone, with a password, TLS or a Unix socket, or as a replica."""

import random
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

import redis

from servers.binaries import any_server
from servers.certificates import Authority, Pair
from servers.starting import start, until
from services import Service

FAR_BUS = 10_000
"""What a cluster's node adds to its port for the port of the cluster's own talk."""

_PORTS = range(10_000, 21_000)
"""Below the range from which systems number outgoing connections, which would take them."""


class RedisServer:
    """A server with a directory and a port of its own, from `with` to its end.

    Its port and directory stay the same when it is stopped and started again.
    """

    def __init__(
        self,
        *,
        binary: Path | None = None,
        host: str = "127.0.0.1",
        inside: Sequence[str] = (),
        persistent: bool = False,
        password: str | None = None,
        users: Mapping[str, str] | None = None,
        tls: Authority | None = None,
        client_certificates: bool = False,
        maxmemory: int | None = None,
        replica_of: "RedisServer | None" = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        """Describe a server; `with` starts it.

        Args:
            binary: what to run; None: any that is there.
            host: address to listen on.
            inside: command that runs it elsewhere, such as `Host.inside`.
            persistent: whether messages outlive `kill`.
            password: that of the default user.
            users: name → rules of other users ("on >secret ~* &* +@all").
            tls: who signs its certificate: it then speaks TLS alone.
            client_certificates: whether clients must have one, of `tls`; see `client_pair`.
            maxmemory: bytes over which writes are refused.
            replica_of: the server to follow.
            options: other directives of its configuration file.
        """
        self.binary = binary or any_server()
        self.host = host
        self.password = password
        self.port = 0
        self._inside = tuple(inside)
        self._persistent = persistent
        self._users = dict(users or {})
        self._tls = tls
        self._client_certificates = client_certificates
        self._maxmemory = maxmemory
        self._replica_of = replica_of
        self._options = dict(options or {})
        self._stack = ExitStack()
        self._service: Service | None = None

    # -- life ---------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            self.directory = Path(
                self._stack.enter_context(
                    tempfile.TemporaryDirectory(prefix="busway-redis-", ignore_cleanup_errors=True)
                )
            )
            self._stack.callback(self.kill)
            self._make_certificates()
            _on_free_port(self._try_port)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def start(self) -> None:
        """Start it, on the port that it had, and wait until it answers."""
        command = [str(self.binary), str(self._file), *self.mode]
        self._service = start(command, inside=self._inside, cwd=self.directory)
        try:
            self._service.expect(self.ready)
        except AssertionError:
            self.kill()
            raise

    ready = "Ready to accept connections"
    """What it prints when it takes connections."""

    mode: Sequence[str] = ()
    """Arguments after its configuration file."""

    def kill(self) -> None:
        """End it at once, as `kill -9` does. What is not persistent is lost."""
        if self._service is not None:
            self._service.__exit__(None, None, None)
            self._service = None

    def restart(self, *, empty: bool = False) -> None:
        """Kill it and start it again; with `empty`, what was persistent is gone too."""
        self.kill()
        if empty:
            self._remove_data()
        self.start()

    def pause(self) -> None:
        """Let it hang: connections stay open, nothing is answered, until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """End a `pause`."""
        self._signal(signal.SIGCONT)

    @property
    def is_running(self) -> bool:
        """Whether it was started and not killed."""
        return self._service is not None

    @property
    def pid(self) -> int:
        """The id of its process."""
        if self._service is None:
            raise RuntimeError("the server does not run")
        return self._service.pid

    @property
    def output(self) -> str:
        """What it has printed since it was last started."""
        return self._service.output if self._service else ""

    # -- addresses ----------------------------------------------------------------------

    @property
    def address(self) -> tuple[str, int]:
        """Its host and port."""
        return self.host, self.port

    @property
    def socket_path(self) -> Path:
        """Its Unix socket, which is reachable from any host of a test's network."""
        return self.directory / "socket"

    @property
    def url(self) -> str:
        """`redis://…` or `rediss://…`, with the password, and the files that TLS needs."""
        return self.url_for(None, self.password)

    def url_for(self, user: str | None, password: str | None) -> str:
        """Return the URL for a user."""
        who = f"{quote(user or '', safe='')}:{quote(password, safe='')}@" if password else ""
        if self._tls is None:
            return f"redis://{who}{self.host}:{self.port}/0"
        files = {"ssl_ca_certs": self._tls.certificate}
        if self._client_certificates:
            files |= {"ssl_certfile": self.client_pair[0], "ssl_keyfile": self.client_pair[1]}
        return f"rediss://{who}{self.host}:{self.port}/0?{urlencode(files)}"

    @property
    def unix_url(self) -> str:
        """`unix://…`, with the password."""
        who = f":{quote(self.password, safe='')}@" if self.password else ""
        return f"unix://{who}{self.socket_path}"

    # -- looking inside -----------------------------------------------------------------

    def client(self) -> redis.Redis:
        """Return a client on its Unix socket, with every right; close it after."""
        return redis.Redis(
            unix_socket_path=str(self.socket_path),
            password=self.password,
            socket_timeout=10,
            single_connection_client=True,
            protocol=2,
        )

    def call(self, *words: str | int | bytes) -> Any:
        """Return its answer to one command."""
        with self.client() as client:
            return client.execute_command(*words)

    def info(self, section: str) -> dict[str, Any]:
        """Return a section of its INFO."""
        with self.client() as client:
            found: dict[str, Any] = client.info(section)
            return found

    @property
    def is_primary(self) -> bool:
        """Whether it runs and is nobody's replica."""
        return self.is_running and bool(self.info("replication")["role"] == "master")

    def connections(self) -> int:
        """Return how many clients are connected; the one that asks does not count."""
        return int(self.info("clients")["connected_clients"]) - 1

    def wait_until_follows(self) -> None:
        """Wait until this replica has what its primary has."""
        until(
            lambda: self.info("replication").get("master_link_status") == "up",
            f"{self.port} follows its primary",
        )

    # -- how it is run ------------------------------------------------------------------

    def _configuration(self) -> dict[str, str]:
        """Return the directives of its configuration file."""
        lines = {
            "bind": self.host,
            "port": str(self.port),
            "dir": str(self.directory),
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "700",
            "save": '""',
            "appendonly": "yes" if self._persistent else "no",
            "daemonize": "no",
            "protected-mode": "no",
            # Replicas are sent what there is without a pause for others, or for a disk.
            "repl-diskless-sync": "yes",
            "repl-diskless-sync-delay": "0",
            "repl-ping-replica-period": "1",
        }
        if self.password is not None:
            lines |= {"requirepass": self.password, "masterauth": self.password}
        if self._maxmemory is not None:
            lines |= {"maxmemory": str(self._maxmemory), "maxmemory-policy": "noeviction"}
        if self._replica_of is not None:
            lines["replicaof"] = "{} {}".format(*self._replica_of.address)
        return lines | self._encryption() | self._options

    def _encryption(self) -> dict[str, str]:
        """Return the directives about TLS."""
        if self._tls is None:
            return {}
        return {
            "port": "0",
            "tls-port": str(self.port),
            "tls-cert-file": str(self._pair[0]),
            "tls-key-file": str(self._pair[1]),
            "tls-ca-cert-file": str(self._tls.certificate),
            "tls-auth-clients": "yes" if self._client_certificates else "no",
            "tls-replication": "yes" if self._replica_of else "no",
        }

    @property
    def _file(self) -> Path:
        return self.directory / "server.conf"

    def _write_configuration(self) -> None:
        # Once: servers note in it what sentinels and commands change, for their next start.
        lines = [f"{key} {value}" for key, value in self._configuration().items()]
        lines += [f"user {name} {rules}" for name, rules in self._users.items()]
        self._file.write_text("\n".join(lines) + "\n")

    def _make_certificates(self) -> None:
        if self._tls is not None:
            self._pair: Pair = self._tls.sign("server", [self.host, "localhost"])
            self.client_pair: Pair = self._tls.sign("client")

    def _try_port(self, port: int) -> bool:
        """Start on `port`; False when somebody else has it."""
        self.port = port
        self._write_configuration()
        try:
            self.start()
        except AssertionError as error:
            if "Address already in use" in str(error):
                return False
            raise
        return True

    def _remove_data(self) -> None:
        for path in self.directory.iterdir():
            if path != self._file:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _signal(self, number: signal.Signals) -> None:
        if self._service is None:
            raise RuntimeError("the server does not run")
        self._service.signal(number)


def _on_free_port(use: Callable[[int], bool]) -> None:
    """Call `use` with ports until it says that it could."""
    for port in random.sample(_PORTS, 200):
        if _is_free(port) and _is_free(port + FAR_BUS) and use(port):
            return
    raise RuntimeError("no free port was found")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
