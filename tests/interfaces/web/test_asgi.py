"""The ASGI 3 application under servers that are not ours: real processes of each."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from busway.bus.layer import ChannelLayer
from busway.bus.operations import GroupAdd
from busway.bus.urls import open_layer
from interfaces.web.harness import PATIENCE, Message, Worker, accept, echo, nothing, private_bus

MODULE = """
import os
from busway.bus.urls import open_layer
from busway.interfaces.web.asgi import Application
from busway.interfaces.web.options import WebOptions

application = Application(
    open_layer(os.environ["TEST_LAYER"]),
    WebOptions(max_message_size=100_000, http_timeout=2.0, websocket_connect_timeout=1.0),
)
"""

COMMANDS = {
    "uvicorn-sansio": "uvicorn --port 0 --ws websockets-sansio service:application",
    "uvicorn-wsproto": "uvicorn --port 0 --ws wsproto --http h11 service:application",
    "uvicorn-busway": (
        "uvicorn --port 0 --ws busway.interfaces.web.uvicorn_websocket:WebSocketProtocol "
        "service:application"
    ),
    "hypercorn": "hypercorn --bind 127.0.0.1:0 service:application",
    "daphne": "daphne --port 0 service:application",
}

LISTENING = re.compile(rb"(?:[Rr]unning on http://|Listening on TCP address )127\.0\.0\.1:(\d+)")


class Service:
    """A server process, and everything it printed."""

    def __init__(self, name: str, directory: Path, layer_url: str) -> None:
        self.name = name
        self.output = b""
        self._found = threading.Event()
        self.process = subprocess.Popen(
            [sys.executable, "-m", *COMMANDS[name].split()],
            cwd=directory,
            env={**os.environ, "TEST_LAYER": layer_url, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        assert self._found.wait(PATIENCE * 2), self.output
        match = LISTENING.search(self.output)
        assert match, self.output
        self.url = f"http://127.0.0.1:{match[1].decode()}"
        self.ws_url = f"ws://127.0.0.1:{match[1].decode()}"

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if LISTENING.search(line):
                self._found.set()
        self._found.set()

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()


def by_path(message: Message) -> Sequence[Any]:
    """Accept, deny, join or say nothing, as the path asks for."""
    match message["path"]:
        case "/deny":
            return [{"accept": False}]
        case "/silent":
            return []
        case "/room":
            return [{"accept": True}, GroupAdd("room", message["reply_channel"])]
        case "/protocol":
            return [{"accept": True, "subprotocol": message["subprotocols"][0]}]
    return accept(message)


def respond(message: Message) -> Sequence[Any]:
    """Answer whole, in parts, or not at all."""
    whole = {"status": 200, "headers": [[b"x-method", message["method"].encode()]]}
    match message["path"]:
        case "/silent":
            return []
        case "/stream":
            return [
                {**whole, "content": b"one", "more_content": True},
                {"content": b"two", "more_content": True},
                {"content": b"three"},
            ]
    return [{**whole, "content": message["body"]}]


@pytest.fixture(scope="module", params=COMMANDS)
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Service, ChannelLayer]]:
    """Return a running server and its layer."""
    directory = tmp_path_factory.mktemp("asgi")
    (directory / "service.py").write_text(MODULE)
    with private_bus() as url, closing(open_layer(url)) as layer:
        server = Service(request.param, directory, url)
        yield server, layer
        server.close()


@pytest.fixture
def server(service: tuple[Service, ChannelLayer]) -> Service:
    """Return the server."""
    return service[0]


@pytest.fixture
def layer(service: tuple[Service, ChannelLayer]) -> ChannelLayer:
    """Return its layer."""
    return service[1]


@pytest.fixture
def worker(layer: ChannelLayer) -> Iterator[Worker]:
    """Return a worker on that layer."""
    script = {"websocket.connect": by_path, "http.request": respond, "websocket.receive": echo}
    with Worker(layer, script) as worker:
        yield worker


def test_requests_are_answered(server: Service, worker: Worker) -> None:
    response = httpx.put(server.url + "/caf%C3%A9?a=1", content=b"body")
    assert (response.status_code, response.text) == (200, "body")
    assert response.headers["x-method"] == "PUT"
    message = worker.expect("http.request")
    assert message["path"] == "/café"
    assert message["query_string"] == b"a=1"
    assert message["client"][0] == "127.0.0.1"


def test_responses_stream(server: Service, worker: Worker) -> None:
    with httpx.stream("GET", server.url + "/stream") as response:
        assert b"".join(response.iter_bytes()) == b"onetwothree"


def test_large_bodies_come_in_parts(server: Service, layer: ChannelLayer) -> None:
    body = os.urandom(1_000_000)
    with Worker(layer, {"http.request": nothing}) as worker, ThreadPoolExecutor() as pool:
        posted = pool.submit(httpx.post, server.url, content=body)
        message = worker.expect("http.request")
        received, more = message["body"], True
        while more:
            _, part = layer.receive([message["body_channel"]], timeout=PATIENCE)
            assert part is not None
            received += part["content"]
            more = part["more_content"]
        layer.send(message["reply_channel"], {"status": 200, "content": b"thanks"})
        assert posted.result().text == "thanks"
    assert received == body


def test_a_request_without_an_answer_gets_503(server: Service, worker: Worker) -> None:
    assert httpx.get(server.url + "/silent").status_code == 503
    worker.expect("http.disconnect", path="/silent")


def test_a_client_that_leaves_is_a_disconnect(server: Service, worker: Worker) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(server.url + "/silent", timeout=0.2)
    worker.expect("http.disconnect", path="/silent")


def test_messages_go_to_the_worker_and_back(server: Service, worker: Worker) -> None:
    with connect(server.ws_url + "/path?q=1") as client:
        for payload in ("text", b"\x00\xff", "x" * 90_000):
            client.send(payload)
            assert client.recv() == payload
    for order, name in enumerate(("connect", "receive", "receive", "receive", "disconnect")):
        message = worker.expect(f"websocket.{name}")
        assert (message["order"], message["path"]) == (order, "/path")
    if server.name != "hypercorn":  # it does not pass the client's code on
        assert message["code"] == 1000


def test_a_denied_handshake_is_forbidden(server: Service, worker: Worker) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(server.ws_url + "/deny")
    assert refused.value.response.status_code == 403


def test_a_handshake_without_an_answer_is_refused(server: Service, worker: Worker) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(server.ws_url + "/silent")
    # Without an extension of ASGI that not all servers have there is no other status.
    assert refused.value.response.status_code == (403 if server.name == "daphne" else 503)
    worker.expect("websocket.disconnect", path="/silent")


def test_a_page_of_another_origin_is_forbidden(server: Service, worker: Worker) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(server.ws_url, additional_headers={"Origin": "http://evil.example"})
    assert refused.value.response.status_code == 403


def test_subprotocols_are_chosen_by_the_consumer(server: Service, worker: Worker) -> None:
    with connect(server.ws_url + "/protocol", subprotocols=[Subprotocol("chat")]) as client:
        assert client.subprotocol == "chat"


def test_close_codes_and_reasons_pass_both_ways(
    server: Service, layer: ChannelLayer, worker: Worker
) -> None:
    with connect(server.ws_url + "/by-client") as client:
        client.close(4001, "from the client")
        code = worker.expect("websocket.disconnect", path="/by-client")["code"]
        assert code == (1006 if server.name == "hypercorn" else 4001)
    with connect(server.ws_url + "/by-worker") as client:
        channel = worker.expect("websocket.connect", path="/by-worker")["reply_channel"]
        layer.send(channel, {"close": 4002, "reason": "from the worker"})
        with pytest.raises(ConnectionClosed) as closed:
            client.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4002
    if server.name != "daphne":  # it does not pass reasons on
        assert closed.value.rcvd.reason == "from the worker"
    worker.expect("websocket.disconnect", path="/by-worker", code=4002)


def test_group_messages_reach_members(server: Service, layer: ChannelLayer, worker: Worker) -> None:
    with connect(server.ws_url + "/room") as one, connect(server.ws_url + "/room") as two:
        one.send("joined")
        two.send("joined")
        assert (one.recv(), two.recv()) == ("joined", "joined")
        layer.group_send("room", {"text": "to all"})
        assert (one.recv(), two.recv()) == ("to all", "to all")


def test_a_message_over_the_limit_closes_with_1009(server: Service, worker: Worker) -> None:
    with connect(server.ws_url) as client:
        client.send("x" * 100_001)
        with pytest.raises(ConnectionClosed) as closed:
            client.recv()
    assert closed.value.rcvd is not None
    # daphne lets applications close with no more than 1000 and 3000 to 4999.
    assert closed.value.rcvd.code == (1011 if server.name == "daphne" else 1009)


def test_a_bad_reply_closes_with_1011(server: Service, layer: ChannelLayer, worker: Worker) -> None:
    with connect(server.ws_url + "/bad") as client:
        channel = worker.expect("websocket.connect", path="/bad")["reply_channel"]
        layer.send(channel, {"nonsense": True})
        with pytest.raises(ConnectionClosed) as closed:
            client.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1011
