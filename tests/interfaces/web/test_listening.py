"""Listening sockets, and what is said when there can be none."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from busway.bus.errors import ConfigurationError
from busway.interfaces.web.listening import adopt, listen, listen_tcp, listen_unix
from busway.interfaces.web.options import WebOptions


def is_answered(sock: socket.socket) -> bool:
    """Connect to where `sock` listens; True if it gets the connection."""
    with socket.create_connection(sock.getsockname()[:2], timeout=5):
        sock.settimeout(5)
        connection, _ = sock.accept()
        connection.close()
    return True


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_it_listens_on_names_and_addresses(host: str) -> None:
    (sock,) = listen_tcp(host, 0)
    with closing(sock):
        assert is_answered(sock)


def test_a_port_in_use_is_reported_with_the_remedy() -> None:
    (first,) = listen_tcp("127.0.0.1", 0)
    with closing(first):
        port = first.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"port {port} .* in use.*--port {port + 1}"):
            listen_tcp("127.0.0.1", port)


def test_several_sockets_share_a_port_and_all_get_connections() -> None:
    with ExitStack() as stack:
        socks = [stack.enter_context(sock) for sock in listen_tcp("127.0.0.1", 0, 3)]
        assert len({sock.getsockname() for sock in socks}) == 1
        got = set[int]()
        for sock in socks:
            sock.setblocking(False)
        for _ in range(200):
            stack.enter_context(socket.create_connection(socks[0].getsockname(), timeout=5))
            for number, sock in enumerate(socks):
                try:
                    stack.enter_context(sock.accept()[0])
                except BlockingIOError:
                    continue
                got.add(number)
        assert got == {0, 1, 2}


def test_a_second_service_cannot_slip_into_a_shared_port() -> None:
    with ExitStack() as stack:
        socks = [stack.enter_context(sock) for sock in listen_tcp("127.0.0.1", 0, 2)]
        with pytest.raises(ConfigurationError, match="in use"):
            listen_tcp("127.0.0.1", socks[0].getsockname()[1], 2)


def test_servers_that_are_meant_to_share_a_port_do() -> None:
    options = WebOptions(port=0, reuse_port=True)
    with closing(listen(options)) as first:
        port = first.getsockname()[1]
        with closing(listen(WebOptions(port=port, reuse_port=True))) as second:
            assert second.getsockname() == first.getsockname()
        with pytest.raises(ConfigurationError, match="in use"):
            listen(WebOptions(port=port))


def test_options_say_where_to_listen(path: Path) -> None:
    with closing(listen(WebOptions(unix_socket=str(path)))) as sock:
        assert sock.getsockname() == str(path)
        with closing(listen(WebOptions(fd=os.dup(sock.fileno())))) as same:
            assert same.getsockname() == str(path)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("no.such.host.invalid", "host 'no.such.host.invalid' is unknown"),
        ("a..b", "host 'a..b' is unknown"),
        ("192.0.2.1", "192.0.2.1 is not an address of this machine"),
    ],
)
def test_a_host_that_is_not_ours_is_reported(host: str, expected: str) -> None:
    with pytest.raises(ConfigurationError, match=expected):
        listen_tcp(host, 0)


@pytest.fixture
def path() -> Iterator[Path]:
    """A short path: those of UNIX sockets are limited to 107 bytes."""
    with TemporaryDirectory() as directory:
        yield Path(directory) / "web.sock"


def test_it_listens_on_a_unix_socket_that_everybody_may_use(path: Path) -> None:
    with closing(listen_unix(path)), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        assert path.stat().st_mode & 0o777 == 0o666


def test_a_unix_socket_that_a_dead_process_left_is_replaced(path: Path) -> None:
    listen_unix(path).close()
    with closing(listen_unix(path)), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_unix_socket_in_use_is_left_alone(path: Path) -> None:
    with closing(listen_unix(path)), socket.socket(socket.AF_UNIX) as client:
        with pytest.raises(ConfigurationError, match="another process listens"):
            listen_unix(path)
        client.connect(str(path))


def test_a_file_in_the_way_of_a_unix_socket_is_left_alone(path: Path) -> None:
    path.write_text("mine")
    with pytest.raises(ConfigurationError, match="is no socket; remove it"):
        listen_unix(path)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("name", ["missing/web.sock", "x" * 200], ids=["where", "too long"])
def test_a_unix_socket_that_cannot_be_made_is_reported(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot listen on the UNIX socket"):
        listen_unix(tmp_path / name)


def test_an_inherited_socket_is_adopted_and_not_passed_on() -> None:
    (original,) = listen_tcp("127.0.0.1", 0)
    with closing(original):
        fd = os.dup(original.fileno())
        os.set_inheritable(fd, True)
        with closing(adopt(fd)) as sock:
            assert is_answered(sock)
            assert not os.get_inheritable(fd)


def test_a_connection_instead_of_a_listening_socket_is_reported_and_left_open() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(ConfigurationError, match="is not a listening socket"):
            adopt(ours.fileno())
        ours.sendall(b"still open")
        assert theirs.recv(100) == b"still open"


def test_a_descriptor_that_is_no_socket_is_reported_and_left_open(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        with pytest.raises(ConfigurationError, match="is not a listening socket"):
            adopt(file.fileno())
        file.write("still open")
