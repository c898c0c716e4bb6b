"""`busway serve` on several machines: each with a bus of its own, and Redis between them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from secrets import token_hex

import pytest
from websockets.sync.client import ClientConnection, connect

from busway.bus.redis import RedisLocalChannelLayer
from servers.redis import RedisServer
from services import Service

CODE = """
from busway import Group, route

def join(message):
    Group("room").add(message.reply_channel)
    message.reply_channel.send({"accept": True})

def say(message):
    if message["text"] == "who?":
        message.reply_channel.send({"text": "MACHINE"})
    else:
        Group("room").send({"text": message["text"]})

routing = [route("websocket.connect", join), route("websocket.receive", say)]
"""

Url = Callable[[str], str]


@pytest.fixture
def url(redis_server: RedisServer, bus_place: Path) -> Url:
    """Return the URL of the layer on a machine."""
    prefix = token_hex(4)

    def url(machine: str) -> str:
        place = f"local={machine}&directory={bus_place}/{machine}&size=4194304"
        return f"local+{redis_server.url}?prefix={prefix}&{place}"

    return url


@pytest.fixture
def sockets(url: Url, tmp_path: Path) -> Iterator[dict[str, ClientConnection]]:
    """Return a socket to each of two machines."""
    with ExitStack() as stack:
        services = {}
        for machine in ("one", "two"):
            folder = tmp_path / f"code-{machine}"
            folder.mkdir()
            (folder / "room.py").write_text(CODE.replace("MACHINE", machine))
            command = ["busway", "serve", "room:routing", "--port", "0", "--layer", url(machine)]
            services[machine] = stack.enter_context(Service(command, cwd=folder))
        found = {}
        for machine, service in services.items():
            port = service.expect(r"//127.0.0.1:(\d+) is ready")[1]
            found[machine] = stack.enter_context(connect(f"ws://127.0.0.1:{port}/"))
        yield found


def test_sockets_are_served_by_the_workers_of_their_machine(
    sockets: dict[str, ClientConnection],
) -> None:
    for _ in range(20):
        for machine, socket in sockets.items():
            socket.send("who?")
            assert socket.recv(timeout=30) == machine


def test_a_group_reaches_the_sockets_of_all_machines(
    sockets: dict[str, ClientConnection], url: Url
) -> None:
    sockets["one"].send("from one")
    assert [socket.recv(timeout=30) for socket in sockets.values()] == ["from one"] * 2
    with closing(RedisLocalChannelLayer.from_url(url("three"))) as third:
        third.group_send("room", {"text": "from three"})
    assert [socket.recv(timeout=30) for socket in sockets.values()] == ["from three"] * 2
