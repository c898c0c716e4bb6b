"""The load generator must notice what is wrong with an answer."""

import os
import select
import socket
from collections.abc import Iterator

import pytest

from bench.cases.broadcast import Audience, Heard
from bench.cases.echo import check
from bench.load import wire
from bench.load.crowd import Crowd
from bench.target import Failure, Target

MESSAGES = [b"tag-000", b"tag-001", b"tag-002"]
FRAMES = [wire.server_frame(message) for message in MESSAGES]


@pytest.fixture
def crowd() -> Iterator[tuple[Crowd, list[socket.socket]]]:
    """Two members, and the server's ends of their connections."""
    crowd = Crowd(Target(port=0, pids=()))
    servers = []
    for _ in range(2):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        crowd.sockets[ours.fileno()] = ours
        crowd.epoll.register(ours, select.EPOLLIN)
        servers.append(theirs)
    yield crowd, servers
    for end in [*servers, *crowd.sockets.values()]:
        end.close()
    crowd.epoll.close()


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        pytest.param(FRAMES, FRAMES, (6, 0, 0), id="all"),
        pytest.param(FRAMES, [FRAMES[0], FRAMES[2]], (5, 1, 0), id="one lost in the middle"),
        pytest.param(FRAMES, FRAMES[:2], (5, 1, 0), id="the last lost"),
        pytest.param(FRAMES, [], (3, 3, 0), id="nothing for one member"),
        pytest.param(FRAMES[::-1], FRAMES, (6, 0, 2), id="reversed"),
        pytest.param([*FRAMES, FRAMES[0]], FRAMES, (6, 0, 1), id="one twice"),
        pytest.param([b"\x89\x00", *FRAMES], FRAMES, (6, 0, 0), id="a ping between"),
    ],
)
def test_audience_counts_lost_and_disordered(
    crowd: tuple[Crowd, list[socket.socket]],
    monkeypatch: pytest.MonkeyPatch,
    first: list[bytes],
    second: list[bytes],
    expected: tuple[int, int, int],
) -> None:
    monkeypatch.setattr("bench.cases.broadcast._QUIET_S", 0.05)
    members, servers = crowd
    audience = Audience(members, MESSAGES)
    for server, frames in zip(servers, (first, second), strict=True):
        server.sendall(b"".join(frames))
    audience.listen()
    heard = audience.heard(1.0)
    assert (heard.deliveries, heard.lost, heard.disordered) == expected


def test_audience_hears_all_although_each_byte_comes_alone_with_pings_between(
    crowd: tuple[Crowd, list[socket.socket]], monkeypatch: pytest.MonkeyPatch
) -> None:
    members, servers = crowd
    audience = Audience(members, MESSAGES)
    read = os.read
    monkeypatch.setattr("bench.cases.broadcast.os.read", lambda fd, _: read(fd, 1))
    for server in servers:
        server.sendall(b"\x89\x01p".join(FRAMES))
    audience.listen()
    assert audience.heard(1.0) == Heard(3, 6, 0, 0, 1.0)
    assert [server.recv(100) for server in servers] == [wire.client_frame(b"p", wire.PONG) * 2] * 2


def test_audience_refuses_a_closed_member(crowd: tuple[Crowd, list[socket.socket]]) -> None:
    members, servers = crowd
    servers[0].close()
    with pytest.raises(Failure, match="closed"):
        Audience(members, MESSAGES).listen()


def test_check_completes_an_answer_that_comes_in_parts() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(FRAMES[0])
        check(ours.fileno(), os.read(ours.fileno(), 3), FRAMES[0])


def test_check_refuses_another_answer() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(Failure, match="wrong answer"):
        check(ours.fileno(), FRAMES[1], FRAMES[0])


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_frames_of_every_length_survive(size: int) -> None:
    stream = wire.server_frame(b"x" * size) * 2
    frames, rest = wire.split(stream)
    assert [len(frame.payload) for frame in frames] == [size, size]
    assert rest == b""
    assert wire.split(stream[:-1]) == (frames[:1], stream[len(stream) // 2 : -1])
