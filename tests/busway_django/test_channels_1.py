"""Projects as they were written for Channels 1, moved as the guide says, and nothing else.

They are in `channels_1`: a chat with rooms and users, and a page bound to a model.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from demo.browsers import CHROMIUM, Visitor, chromium
from services import Service

PROJECTS = Path(__file__).parent / "channels_1"
GUIDE = (Path(__file__).parents[2] / "docs/how-to/from-channels-1.md").read_text()
REPLACE_IMPORTS = re.findall(r"^\$ (grep .+?)\n```", GUIDE, re.MULTILINE | re.DOTALL)[0]

SCRIPT = '<script src="{% static "channels/js/websocketbridge.js" %}"></script>\n    <script>'
MODULE = """<script type="module">
        import * as channels from "{% static "busway/busway.js" %}";"""
"""The lines of a page that change; see "Come from Channels 1" in "Connect from a page"."""


def settings_of_the_guide(code: str, bus: Path) -> str:
    """Change settings as the guide's table says, with a small bus in a place of its own."""
    code = code.replace('"channels",', '"busway.django",')
    code = re.sub(r'"asgi_\w+\.\w+"', '"busway.bus.ipc.IPCChannelLayer"', code)
    code = re.sub(r'"TEST_CONFIG": .+', "", code)
    code = re.sub(r'"hosts": \[.+\]', '"name": "multichat"', code).replace('"prefix"', '"name"')
    own = {"directory": str(bus), "size": 4194304}
    return f"{code}\nCHANNEL_LAYERS['default']['CONFIG'].update({own})\n"


class Project:
    """A project that was moved, in a directory of its own."""

    def __init__(self, name: str, place: Path) -> None:
        self.name = name
        self.directory = Path(shutil.copytree(PROJECTS / name, place / name))
        subprocess.run(["bash", "-c", REPLACE_IMPORTS], cwd=self.directory, check=True)
        settings = self.directory / name / "settings.py"
        settings.write_text(settings_of_the_guide(settings.read_text(), place / "bus"))
        for path in self.directory.rglob("*.html"):
            path.write_text(path.read_text().replace(SCRIPT, MODULE))

    def start(self, *words: str) -> Service:
        """Run a command of the project."""
        return Service(
            [sys.executable, "-W", "error", "manage.py", *words],
            cwd=self.directory,
            environment={
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                "DJANGO_SETTINGS_MODULE": f"{self.name}.settings",
                "DJANGO_SUPERUSER_PASSWORD": "secret",
            },
        )

    def finish(self, *words: str) -> str:
        """Run a command of the project to its end; returns what it printed."""
        with self.start(*words) as service:
            assert service.ended() == 0, service.output
            service.all_ended()
            return service.output

    @contextmanager
    def served(self, code: str) -> Iterator[str]:
        """Run `code` in the project's shell, on a new database, then its server: an address."""
        self.finish("makemigrations", "--verbosity", "0")
        self.finish("migrate", "--verbosity", "0")
        self.finish("shell", "--command", code)
        with self.start("runserver", "127.0.0.1:0", "--noreload") as service:
            yield service.expect(r"http://(\S+)/ serves HTTP and WebSockets")[1]


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a directory with a short path, for the sockets of the bus."""
    directory = Path(mkdtemp(prefix="busway-moved-"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(params=sorted(path.name for path in PROJECTS.iterdir() if path.is_dir()))
def any_project(request: pytest.FixtureRequest, place: Path) -> Project:
    """Return one of the projects."""
    return Project(request.param, place)


def test_nothing_of_channels_is_left(any_project: Project) -> None:
    for path in any_project.directory.rglob("*.py"):
        assert not re.search(r"\b(channels|asgi_\w+)\.", path.read_text()), path
    assert "no issues" in any_project.finish("check", "--fail-level", "WARNING")


def test_its_own_tests_pass(any_project: Project) -> None:
    any_project.finish("makemigrations", "--verbosity", "0")
    assert re.search(r"Ran [1-9]\d* tests", any_project.finish("test"))


def logged_in(address: str, username: str) -> dict[str, str]:
    """Log in on the site; returns the headers of a socket of that browser."""
    with httpx.Client(base_url=f"http://{address}", timeout=30) as client:
        login = "/accounts/login/"
        client.get(login)
        form = {"username": username, "password": "secret"}
        form["csrfmiddlewaretoken"] = client.cookies["csrftoken"]
        answer = client.post(login, data=form, follow_redirects=True)
        assert f"Hello {username}" in answer.text
        cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
        return {"Cookie": cookies}


def test_two_people_chat(place: Path) -> None:
    project = Project("multichat", place)
    people = (
        "from django.contrib.auth.models import User\n"
        "from chat.models import Room\n"
        "Room.objects.create(title='Lobby')\n"
        "Room.objects.create(title='Backstage', staff_only=True)\n"
        "[User.objects.create_user(name, password='secret') for name in ('ada', 'grace')]"
    )
    with project.served(people) as address, ExitStack() as stack:

        def enter(username: str) -> ClientConnection:
            headers = logged_in(address, username)
            url = f"ws://{address}/chat/stream/"
            return stack.enter_context(connect(url, additional_headers=headers, open_timeout=30))

        assert httpx.get(f"http://{address}/health/", timeout=30).text == "2 rooms at /health/"
        ada, grace = enter("ada"), enter("grace")
        assert say(ada, command="join", room="1") == {"join": "1", "title": "Lobby"}
        assert say(ada, command="join", room="2") == {"error": "ROOM_ACCESS_DENIED"}
        assert say(grace, command="send", room="1", message="x") == {"error": "ROOM_ACCESS_DENIED"}
        assert say(grace, command="join", room="1")["join"] == "1"
        assert hear(ada) == {"room": "1", "message": None, "username": "grace", "msg_type": 4}
        said = {"room": "1", "message": "hello", "username": "ada", "msg_type": 0}
        assert say(ada, command="send", room="1", message="hello") == said
        assert hear(grace) == said
        assert say(grace, command="leave", room="1")["msg_type"] == 5
        assert hear(grace) == {"leave": "1"}


BOARD = (
    "from values.models import Board, IntegerValue\n"
    "board = Board.objects.create(slug='main')\n"
    "IntegerValue.objects.create(board=board, name='pi', value=3)"
)


def test_two_clients_follow_a_model(place: Path) -> None:
    with Project("databinding", place).served(BOARD) as address, ExitStack() as stack:
        url = f"ws://{address}/binding/main/"
        one, other = (
            stack.enter_context(connect(url, open_timeout=30, origin=Origin(f"http://{address}")))
            for _ in range(2)
        )
        for socket in (one, other):
            assert hear(socket) == {"stream": "status", "payload": {"count": 1}}
        change = {"action": "update", "pk": 1, "data": {"value": -4}}
        one.send(json.dumps({"stream": "intval", "payload": change}))
        for socket in (one, other):
            found = hear(socket)["payload"]
            assert (found["action"], found["pk"]) == ("update", 1)
            assert found["data"]["value"] == -4
            assert found["data"]["is_negative"] is True
        one.send(json.dumps({"stream": "status", "payload": {"expire": 1}}))
        assert hear(other)["payload"]["action"] == "delete"  # the delayed message has done it


@pytest.mark.browser
@pytest.mark.skipif(
    not CHROMIUM.exists() and not os.environ.get("CI"), reason=f"there is no {CHROMIUM}"
)
def test_the_page_keeps_its_script(place: Path) -> None:
    with Project("databinding", place).served(BOARD) as address, chromium() as browser:
        one, other = (Visitor(browser, f"http://{address}/", name) for name in ("ada", "grace"))
        for visitor in (one, other):
            visitor.context.route("**/favicon.ico", lambda route: route.fulfill(status=204))
            visitor.page.goto(visitor.url)
            expect(visitor.page.locator("#status")).to_have_text("1 values")
        one.page.locator("#value-1 input").fill("7")
        one.page.locator("#value-1 input").press("Enter")
        expect(other.page.locator("#value-1 input")).to_have_value("7")
        for visitor in (one, other):
            visitor.leave()
            assert visitor.complaints == []


def say(socket: ClientConnection, **command: Any) -> Any:
    """Send a command, and return what comes next."""
    socket.send(json.dumps(command))
    return hear(socket)


def hear(socket: ClientConnection) -> Any:
    """Return what comes next."""
    return json.loads(socket.recv(30))
