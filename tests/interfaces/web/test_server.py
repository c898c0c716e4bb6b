"""The server as a process: sockets, TLS, signals, and errors that say what to do."""

import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect, unix_connect

from busway.bus.errors import ConfigurationError
from busway.bus.layer import ChannelLayer
from busway.bus.urls import open_layer
from busway.interfaces.web.options import WebOptions
from busway.interfaces.web.server import serve
from interfaces.web.harness import PATIENCE, RawClient, Worker, handshake, nothing, private_bus

PROGRAM = """
import sys
from busway.bus.urls import open_layer
from busway.interfaces.web.options import WebOptions
from busway.interfaces.web.server import serve

options = WebOptions(**eval(sys.argv[2]))
serve(open_layer(sys.argv[1]), options, lambda found: print(*found, flush=True))
"""


class Process:
    """A server in a process of its own."""

    def __init__(self, layer_url: str, options: Mapping[str, Any], fds: tuple[int, ...] = ()):
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, layer_url, repr(dict(options))],
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=fds,
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        assert self.address, "the server did not start"

    @property
    def ws_url(self) -> str:
        return "ws" + self.address.removeprefix("http")

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def url() -> Iterator[str]:
    """Return the URL of an IPC layer of this test's own."""
    with private_bus() as url:
        yield url


@pytest.fixture
def layer(url: str) -> Iterator[ChannelLayer]:
    """Return that layer."""
    layer = open_layer(url)
    yield layer
    layer.close()


@pytest.fixture
def start(url: str, layer: ChannelLayer) -> Iterator[Any]:
    """Return a function that starts a server."""
    started: list[Process] = []

    def begin(fds: tuple[int, ...] = (), **options: Any) -> Process:
        process = Process(url, {"port": 0, "shutdown_timeout": 4.0, **options}, fds)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.close()


@pytest.fixture
def bus_worker(layer: ChannelLayer) -> Iterator[Worker]:
    """Return a worker on that layer."""
    with Worker(layer) as worker:
        yield worker


def certificate(directory: Path) -> tuple[str, str]:
    """Return the paths of a certificate for localhost, and of its key."""
    paths = str(directory / "cert.pem"), str(directory / "key.pem")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "1", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-out", paths[0], "-keyout", paths[1]),
        ],
        check=True,
        capture_output=True,
    )
    return paths


def test_it_speaks_tls(start: Any, bus_worker: Worker, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    server = start(tls_certificate=cert, tls_key=key)
    assert server.address.startswith("https://127.0.0.1:")
    context = ssl.create_default_context(cafile=cert)
    assert httpx.post(server.address, content=b"secret", verify=context).text == "secret"
    assert bus_worker.expect("http.request")["scheme"] == "https"
    with connect(server.ws_url, ssl=context) as client:
        client.send("x" * 100_000)
        assert client.recv() == "x" * 100_000
    assert bus_worker.expect("websocket.connect")["scheme"] == "wss"
    assert bus_worker.expect("websocket.disconnect")["code"] == 1000


def test_it_listens_on_a_unix_socket(start: Any, bus_worker: Worker, tmp_path: Path) -> None:
    path = str(tmp_path / "web")
    server = start(unix_socket=path)
    assert server.address == path
    transport = httpx.HTTPTransport(uds=path)
    with httpx.Client(transport=transport) as client:
        assert client.post("http://test/", content=b"hello").text == "hello"
    with unix_connect(path) as socket_client:
        socket_client.send("hi")
        assert socket_client.recv() == "hi"
    assert bus_worker.expect("websocket.connect")["client"] is None
    assert server.stop() == 0
    assert not Path(path).exists()


def test_it_listens_on_an_inherited_descriptor(start: Any, bus_worker: Worker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = start(fds=(listening.fileno(),), fd=listening.fileno())
        port = listening.getsockname()[1]
    assert server.address == f"http://127.0.0.1:{port}"
    assert httpx.post(server.address, content=b"hello").text == "hello"


def test_several_servers_share_a_port(start: Any, bus_worker: Worker) -> None:
    first = start(reuse_port=True)
    second = start(reuse_port=True, port=int(first.address.rpartition(":")[2]))
    assert first.address == second.address
    for _ in range(10):
        assert httpx.post(first.address, content=b"x").text == "x"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_closes_sockets_tells_the_bus_and_ends_with_0(
    start: Any, bus_worker: Worker, number: int
) -> None:
    server = start()
    with connect(server.ws_url) as client:
        client.send("hi")
        client.recv()
        server.process.send_signal(number)
        with pytest.raises(ConnectionClosed) as closed:
            client.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
    assert closed.value.rcvd.reason == "service restart; reconnect"
    assert server.process.wait(PATIENCE) == 0
    assert bus_worker.expect("websocket.disconnect")["code"] == 1012


def test_a_request_that_runs_is_finished_before_the_end(
    start: Any, layer: ChannelLayer, url: str
) -> None:
    server = start()
    port = int(server.address.rpartition(":")[2])
    with Worker(layer, {"http.request": nothing}) as worker, RawClient(port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        channel = worker.expect("http.request")["reply_channel"]
        server.process.send_signal(signal.SIGTERM)
        while _accepts(port):
            pass
        layer.send(channel, {"status": 200, "content": b"just in time"})
        client.read_head()
        assert client.read_all() == b"just in time"
    assert server.process.wait(PATIENCE) == 0


def test_nobody_and_nothing_holds_up_the_end_for_long(
    start: Any, layer: ChannelLayer, url: str
) -> None:
    server = start(shutdown_timeout=0.5)
    port = int(server.address.rpartition(":")[2])
    with (
        Worker(layer, {"http.request": nothing}) as worker,
        RawClient(port) as poll,
        RawClient(port) as silent,
        RawClient(port) as half,
    ):
        poll.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        worker.expect("http.request")
        silent.connect()
        half.send(handshake()[:40])
        server.process.send_signal(signal.SIGTERM)
        assert b" 503 " in poll.read_head()
        assert silent.receive_close()[0] == 1012
        worker.expect("websocket.disconnect")
        worker.expect("http.disconnect")
    assert server.process.wait(PATIENCE) == 0


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_port_in_use_is_one_clear_error(layer: ChannelLayer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"port {port} on 127.0.0.1 is in use"):
            serve(layer, WebOptions(port=port))


def test_a_certificate_that_cannot_be_used_is_one_clear_error(
    layer: ChannelLayer, tmp_path: Path
) -> None:
    path = tmp_path / "no.pem"
    path.write_text("nonsense")
    with pytest.raises(ConfigurationError, match=r"cannot use the certificate '.*no\.pem'"):
        serve(layer, WebOptions(port=0, tls_certificate=str(path)))
