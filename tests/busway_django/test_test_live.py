"""A live server for users' tests: real processes, the test's databases and layers."""

import os
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.test import override_settings

from busway.bus.errors import ConfigurationError
from busway.bus.ipc import IPCChannelLayer
from busway.django import channel_layers
from busway.django.test import ChannelLiveServer, ChannelLiveServerTestCase, ServerProcess
from busway.django.test.live import live_config
from busway.django.test.processes import LiveProcess, ProcessFailed
from busway_django.sites import Site
from services import Service


class AdminTests(ChannelLiveServerTestCase):
    """The admin of the tests' project, with nothing configured."""

    def setUp(self) -> None:
        User.objects.create_superuser("ada", password="of a test")

    def test_the_users_of_the_test_can_log_in(self) -> None:
        with httpx.Client(base_url=self.live_server_url, timeout=30) as client:
            page = client.get("/admin/login/?next=/admin/")
            token = page.text.split('csrfmiddlewaretoken" value="')[1].split('"')[0]
            data = {
                "csrfmiddlewaretoken": token,
                "username": "ada",
                "password": "of a test",
                "next": "/admin/",
            }
            answer = client.post("/admin/login/", data=data)
            assert (answer.status_code, answer.headers["location"]) == (302, "/admin/")
            assert "Site administration" in client.get("/admin/").text
        assert User.objects.get().last_login is not None

    test_the_next_test_has_an_empty_database_and_the_same_server = (
        test_the_users_of_the_test_can_log_in
    )

    def test_static_files_are_served(self) -> None:
        assert httpx.get(f"{self.live_server_url}/static/admin/css/base.css").status_code == 200

    def test_sockets_have_their_url(self) -> None:
        assert self.live_server_ws_url == self.live_server_url.replace("http", "ws")
        assert isinstance(channel_layers["default"], IPCChannelLayer)


@pytest.mark.django_db(transaction=True)
def test_everything_is_as_before_after_it() -> None:
    before = channel_layers["default"]
    with ChannelLiveServer(serve_static=False, worker_threads=2) as server:
        assert httpx.get(f"{server.url}/static/admin/css/base.css").status_code == 404
        bus = channel_layers["default"]
        assert isinstance(bus, IPCChannelLayer)
        assert bus.directory.exists()
    assert channel_layers["default"] is before
    assert not bus.directory.parent.exists()
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url)


class Broken(LiveProcess):
    """A server that does not start."""

    command = "no-such-command"


@pytest.mark.django_db(transaction=True)
def test_a_process_that_does_not_start_is_an_error() -> None:
    before = channel_layers["default"]
    with (
        pytest.raises(ProcessFailed, match=r"no-such-command .* ended before it was ready"),
        ChannelLiveServer(server_class=Broken),
    ):
        pytest.fail("not reached")
    assert channel_layers["default"] is before
    assert ServerProcess.command == "runweb"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, {"CONFIG": {"name": "live", "directory": "/bus", "size": 16777216}}),
        ({"TEST_CONFIG": "ipc://tests"}, {"URL": "ipc://tests"}),
        ({"URL": "ipc://site", "TEST_CONFIG": "ipc://tests"}, {"URL": "ipc://tests"}),
        (
            {"BACKEND": "some.Layer", "CONFIG": {"a": 1}, "TEST_CONFIG": {"a": 2}, "ROUTING": []},
            {"BACKEND": "some.Layer", "CONFIG": {"a": 2}},
        ),
    ],
)
def test_the_bus_is_its_own_or_that_of_the_test_config(config: Any, expected: Any) -> None:
    assert live_config(config, "/bus") == expected


@pytest.mark.django_db(transaction=True)
def test_a_layer_in_memory_is_refused_with_the_remedy() -> None:
    config = {"BACKEND": "busway.bus.memory.MemoryChannelLayer", "TEST_CONFIG": {}}
    with (
        override_settings(CHANNEL_LAYERS={"default": config}),
        pytest.raises(ConfigurationError, match="leave it out, or name another"),
        ChannelLiveServer(),
    ):
        pytest.fail("not reached")


USERS_TESTS = """
import pytest
from websockets.sync.client import connect

from busway.django import Group


def test_a_socket(ws_client):
    ws_client.send_and_consume("websocket.connect")
    ws_client.send_and_consume("websocket.receive", text="hello")
    assert ws_client.receive(json=False) == "first hello"


def test_groups_use_the_layer_of_the_test(channel_layer, ws_client):
    ws_client.join_group("all")
    Group("all").send({"text": "[1]"})
    assert ws_client.receive() == [1]
    assert channel_layer.group_channels("all") == [ws_client.reply_channel]


def test_live(live_channel_server):
    with connect(live_channel_server.ws_url) as socket:
        socket.send("hello")
        assert socket.recv(30) == "first hello"
"""

USERS_TEST_CASE = """
from busway.django.test import ChannelTestCase, WSClient


class SocketTests(ChannelTestCase):
    def test_a_socket(self):
        client = WSClient()
        client.send_and_consume("websocket.connect")
"""


def run(site: Site, *words: str) -> str:
    """Run users' tests in a project, and return the output."""
    service = Service(
        [sys.executable, "-m", *words],
        cwd=site.directory,
        environment={
            "PYTHONPATH": os.pathsep.join([str(site.directory), *filter(None, sys.path)]),
            "DJANGO_SETTINGS_MODULE": "mysite.settings",
            "PYTEST_ADDOPTS": "",
        },
    )
    with service:
        assert service.ended() == 0, service.output
        service.all_ended()
        return service.output


def test_users_have_fixtures(site: Site) -> None:
    (site.directory / "test_site.py").write_text(USERS_TESTS)
    (site.directory / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    (site.directory / "test_cases.py").write_text(USERS_TEST_CASE)
    plugins = ("-p", "busway.pytest_plugin", "-p", "no:cacheprovider", "-p", "no:asyncio")
    assert "4 passed" in run(site, "pytest", "-q", *plugins)


def test_the_runner_of_django_runs_channel_tests(site: Site) -> None:
    (site.directory / "mysite" / "tests.py").write_text(USERS_TEST_CASE)
    assert "Ran 1 test" in run(site, "django", "test", "mysite")


def test_without_django_settings_the_plugin_keeps_out(tmp_path: Path) -> None:
    (tmp_path / "test_plain.py").write_text("def test_plain(): pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    with Service(
        [sys.executable, "-m", "pytest", "-p", "busway.pytest_plugin", "--fixtures", "-q"],
        cwd=tmp_path,
        environment={
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "DJANGO_SETTINGS_MODULE": "",
        },
    ) as service:
        assert service.ended() == 0, service.output
        service.all_ended()
        assert "live_channel_server" not in service.output
