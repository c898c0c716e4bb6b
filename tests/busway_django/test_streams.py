"""Sockets with streams and a bound model, over an interface server and two workers."""

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, unix_connect

from services import PATIENCE, Service

MANAGE = [sys.executable, "-m", "django"]


@pytest.fixture
def socket(tmp_path: Path) -> Iterator[str]:
    """Return the path of the UNIX socket of a service."""
    environment = {
        "DJANGO_SETTINGS_MODULE": "busway_django.project.streams_settings",
        "BUSWAY_TEST_DIRECTORY": str(tmp_path),
        "PYTHONPATH": ":".join(filter(None, sys.path)),
    }
    with ExitStack() as stack:

        def start(*words: str) -> Service:
            return stack.enter_context(Service([*MANAGE, *words], environment=environment))

        assert start("migrate", "--run-syncdb", "-v0").ended() == 0
        path = str(tmp_path / "socket")
        services = [start("runweb", "-u", path), start("runworker"), start("runworker")]
        services[0].expect("ready on")
        for worker in services[1:]:
            worker.expect("consuming")
        yield path


def connect(path: str, **options: Any) -> ClientConnection:
    client: ClientConnection = unix_connect(
        path, uri="ws://localhost/streams/", open_timeout=PATIENCE, **options
    )
    return client


def send(client: ClientConnection, stream: str, payload: Any) -> None:
    client.send(json.dumps({"stream": stream, "payload": payload}))


def receive(client: ClientConnection) -> Any:
    return json.loads(client.recv(PATIENCE))


def test_streams_share_a_socket_and_changes_reach_every_page(socket: str) -> None:
    with connect(socket, subprotocols=["streams"]) as one, connect(socket) as two:
        assert one.subprotocol == "streams"
        send(one, "echo", [1])
        assert receive(one) == {"stream": "echo", "payload": [1]}
        send(one, "notes", {"action": "create", "data": {"text": "a", "secret": "b"}})
        created = receive(one)
        pk = created["payload"]["pk"]
        assert created["payload"] == {
            "action": "create",
            "pk": pk,
            "data": {"text": "a"},
            "model": "project.note",
        }
        assert receive(two) == created
        send(two, "notes", {"action": "update", "pk": pk, "data": {"text": "c"}})
        send(two, "notes", {"action": "delete", "pk": pk})
        for page in (one, two):
            told = [receive(page)["payload"] for _ in range(2)]
            assert [(each["action"], each["data"]["text"]) for each in told] == [
                ("update", "c"),
                ("delete", "c"),
            ]
        send(two, "nowhere", {})
        with pytest.raises(ConnectionClosed, match="there is no such stream"):
            two.recv(PATIENCE)
        send(one, "echo", "still here")
        assert receive(one)["payload"] == "still here"
