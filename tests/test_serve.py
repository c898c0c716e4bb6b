"""`busway serve` as a whole: real processes, real sockets, and what happens to both."""

import os
import re
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from services import Service, is_running

ECHO = """
import os
from busway import route

def hello(message):
    message.reply_channel.send({"status": 200, "content": b"hello"})

def accept(message):
    message.reply_channel.send({"accept": True})

def echo(message):
    message.reply_channel.send({"text": f"ANSWER {message['text']} {os.getpid()}"})

routing = [
    route("http.request", hello),
    route("websocket.connect", accept),
    route("websocket.receive", echo),
]
"""
"""A service that says in each answer which worker gave it."""


class Echo:
    """A running service, and the sockets that are open to it."""

    def __init__(
        self,
        directory: Path,
        stack: ExitStack,
        *options: str,
        code: str = ECHO,
        own_bus: bool = True,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """Start `code` in `directory`, on a free port; without `own_bus` on the default one."""
        self.directory = directory
        self._stack = stack
        self._code = code
        self.write("first")
        layer = f"ipc://echo?directory={directory}/bus&size=4194304" if own_bus else ""
        command = ["busway", "serve", "echo:routing", "--port", "0", *options]
        self.service = stack.enter_context(
            Service(command, cwd=directory, environment={"BUSWAY_LAYER": layer}, pass_fds=pass_fds)
        )

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens, once it is ready."""
        found = re.search(r"//([\d.]+):(\d+) is ready", self.service.output)
        if found is None:
            found = self.service.expect(r"//([\d.]+):(\d+) is ready")
        return found[1], int(found[2])

    def write(self, answer: str) -> None:
        """Save the service's code; it answers with `answer` from then on."""
        (self.directory / "echo.py").write_text(self._code.replace("ANSWER", answer))

    def open(self, path: str = "/") -> ClientConnection:
        """Return a new WebSocket; it is closed after the test."""
        host, port = self.address
        return self._stack.enter_context(connect(f"ws://{host}:{port}{path}", open_timeout=30))

    def get(self) -> str:
        """Return what the service answers to a request, on a connection of its own."""
        host, port = self.address
        return httpx.get(f"http://{host}:{port}/", timeout=30).text


def ask(client: ClientConnection, text: str = "x") -> tuple[str, int]:
    """Send `text`; returns the answer's first word and the pid of the worker it came from."""
    client.send(text)
    first, said, pid = str(client.recv(timeout=30)).split()
    assert said == text
    return first, int(pid)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


Start = Callable[..., Echo]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """A function that starts the service with more options."""
    with ExitStack() as stack:
        yield lambda *options, directory=tmp_path, **more: Echo(directory, stack, *options, **more)


def test_requests_and_sockets_are_answered_by_workers(start: Start) -> None:
    echo = start("--workers", "1")
    assert echo.get() == "hello"
    word, pid = ask(echo.open())
    assert word == "first"
    assert is_running(pid)


def test_a_killed_worker_is_replaced_while_its_socket_stays_open(start: Start) -> None:
    echo = start("--workers", "1")
    client, other = echo.open(), echo.open()
    _, killed = ask(client)
    kill(killed)
    echo.service.expect(rf"worker 1 \(pid {killed}\) died: signal SIGKILL; starting another")
    for open_since_before in (client, other):
        word, pid = ask(open_since_before)
        assert word == "first"
        assert pid != killed


def test_changed_code_is_used_while_its_socket_stays_open(start: Start) -> None:
    echo = start("--workers", "2", "--reload")
    client = echo.open()
    assert ask(client)[0] == "first"
    echo.write("second")
    echo.service.expect(r"changed: echo\.py; rolling")
    echo.service.expect("rolled")
    assert ask(client)[0] == "second"


def test_code_that_does_not_import_leaves_the_old_workers_running(start: Start) -> None:
    echo = start("--workers", "1", "--reload")
    client = echo.open()
    _, before = ask(client)
    (echo.directory / "echo.py").write_text("routing = undefined\n")
    echo.service.expect(r"'echo:routing' cannot be imported: NameError: .* \(echo\.py line 1\)")
    echo.service.expect("the old ones stay")
    assert ask(client) == ("first", before)
    echo.write("mended")
    echo.service.expect("rolled")
    assert ask(client)[0] == "mended"


def test_code_that_does_not_import_at_the_start_ends_the_service(start: Start) -> None:
    echo = start("--workers", "4", code="routing = undefined\n")
    echo.service.expect("'echo:routing' cannot be imported: NameError")
    assert echo.service.ended() == 1
    echo.service.all_ended()
    assert echo.service.output.count("cannot be imported") == 1


def test_sighup_rolls_the_workers_while_sockets_stay_open(start: Start) -> None:
    echo = start("--workers", "2")
    client = echo.open()
    _, before = ask(client)
    echo.write("second")
    echo.service.signal(signal.SIGHUP)
    echo.service.expect("rolled")
    word, after = ask(client)
    assert word == "second"
    assert before != after
    assert not is_running(before)


def test_no_request_fails_while_workers_are_rolled(start: Start) -> None:
    echo = start("--workers", "2")
    clients = [echo.open() for _ in range(4)]
    echo.service.signal(signal.SIGHUP)
    while "rolled" not in echo.service.output:
        for number, client in enumerate(clients):
            assert ask(client, str(number))[0] == "first"


def test_a_replaced_interface_server_takes_the_connections_that_came_meanwhile(
    start: Start,
) -> None:
    echo = start("--workers", "1", "-v", "2")
    web = int(echo.service.expect(r"web started \(pid (\d+)\)")[1])
    assert echo.get() == "hello"
    kill(web)
    assert echo.get() == "hello"


def test_several_interface_servers_share_the_port(start: Start) -> None:
    echo = start("--workers", "1", "--web", "2")
    clients = [echo.open() for _ in range(20)]
    assert {ask(client)[0] for client in clients} == {"first"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_closes_sockets_with_a_code_and_leaves_nothing(
    start: Start, number: signal.Signals
) -> None:
    echo = start("--workers", "2")
    client = echo.open()
    ask(client)
    echo.service.signal(number)
    with pytest.raises(ConnectionClosed) as closed:
        client.recv(timeout=30)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
    assert echo.service.ended() == 0
    echo.service.all_ended()
    assert "Traceback" not in echo.service.output
    assert "killed" not in echo.service.output


def test_everything_ends_when_the_supervisor_is_killed(start: Start) -> None:
    echo = start("--workers", "2")
    ask(echo.open())
    echo.service.signal(signal.SIGKILL)
    echo.service.all_ended()


def test_a_port_in_use_is_one_line_and_the_first_service_goes_on(
    start: Start, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first = start("--workers", "1")
    client = first.open()
    ask(client)
    port = first.address[1]
    second = start("--port", str(port), directory=tmp_path_factory.mktemp("second"))
    assert second.service.ended() == 1
    second.service.all_ended()
    (line,) = second.service.output.splitlines()
    assert f"port {port} on 127.0.0.1 is in use" in line
    assert ask(client)[0] == "first"


def test_services_in_two_directories_do_not_answer_each_others_clients(
    start: Start, tmp_path: Path
) -> None:
    services = []
    for name in ("one", "two"):
        (tmp_path / name / "project").mkdir(parents=True)
        code = ECHO.replace("ANSWER", name)
        directory = tmp_path / name / "project"
        services.append(start("--workers", "1", directory=directory, code=code, own_bus=False))
    clients = [service.open() for service in services]
    for n in range(20):
        assert [ask(client, str(n))[0] for client in clients] == ["one", "two"]
    for service in services:
        service.service.signal(signal.SIGTERM)
        assert service.service.ended() == 0


WAITER = """
from pathlib import Path
from busway import route

def wait(message):
    print("waiting", flush=True)
    message.reply_channel.send({"status": 200, "content": Path("answer").read_bytes()})

routing = [route("http.request", wait)]
"""
"""A service whose answer is read from a named pipe."""


def test_a_request_under_way_is_answered_after_ctrl_c(start: Start, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "answer")
    echo = start("--workers", "1", "-v", "2", code=WAITER)
    assert echo.address
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(echo.get)
        echo.service.expect("waiting")
        # As a terminal does it: every process of the group gets the signal.
        os.killpg(echo.service.pid, signal.SIGINT)
        echo.service.expect("stopping")
        (tmp_path / "answer").write_text("late but here")
        assert answer.result() == "late but here"
    assert echo.service.ended() == 0
    echo.service.all_ended()


SLEEPER = """
import threading
from busway import route

def sleep(message):
    print("sleeping", flush=True)
    threading.Event().wait()

routing = [route("http.request", sleep)]
"""


def test_a_consumer_that_never_ends_is_killed_after_the_grace(start: Start) -> None:
    echo = start("--workers", "1", "--grace", "1.5", code=SLEEPER)
    host, port = echo.address
    with socket.create_connection((host, port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        echo.service.expect("sleeping")
        echo.service.signal(signal.SIGTERM)
        echo.service.expect(r"worker 1 \(pid \d+\) did not stop in .* and was killed")
    assert echo.service.ended() == 0
    echo.service.all_ended()


def test_it_listens_on_a_unix_socket_and_removes_it_after(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    echo = start("--workers", "1", "--unix-socket", str(path))
    echo.service.expect("web.sock is ready")
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=30) as client:
        assert client.get("http://busway/").text == "hello"
    echo.service.signal(signal.SIGTERM)
    assert echo.service.ended() == 0
    assert not path.exists()


def test_a_certificate_that_cannot_be_used_ends_the_service(start: Start, tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("no certificate")
    echo = start("--workers", "1", "--tls-certificate", "bad.pem")
    echo.service.expect("web +│ error: cannot use the certificate 'bad.pem'")
    assert echo.service.ended() == 1
    echo.service.all_ended()


def test_it_takes_an_inherited_socket(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        fd = listening.fileno()
        echo = start("--workers", "1", "--fd", str(fd), pass_fds=[fd])
        assert echo.address[1] == listening.getsockname()[1]
        assert echo.get() == "hello"


def test_the_access_log_tells_of_requests_and_sockets(start: Start, tmp_path: Path) -> None:
    echo = start("--workers", "1", "--access-log", "-")
    echo.get()
    echo.service.expect(r'"GET / HTTP/1.1" 200 5 ')
    echo.open()
    echo.service.expect(r'"WebSocket /" connected')


def test_the_code_of_the_tutorial_works_as_it_says(start: Start) -> None:
    page = Path(__file__).parent.parent / "docs" / "tutorial" / "first-service.md"
    (code,) = re.findall(r'```python title="chat.py"\n(.*?)```', page.read_text(), re.DOTALL)
    echo = start("--workers", "2", code=code)
    tabs = [echo.open("/chat/lobby/") for _ in range(2)]
    tabs[0].send("hello")
    assert [tab.recv(timeout=30) for tab in tabs] == ["hello", "hello"]
