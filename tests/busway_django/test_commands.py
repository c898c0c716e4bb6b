"""`manage.py runworker`, `runweb`, `channellayer` and `rundelay`."""

import json
import logging
import signal
from collections.abc import Iterator
from io import StringIO

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import override_settings

from busway.bus.conformance.harness import eventually
from busway_django.sites import Site


def test_an_interface_server_and_a_worker_find_each_other(site: Site) -> None:
    web = site.start("runweb", "--port", "0")
    address = web.expect(r"ready on http://([^\s;]+)")[1]
    worker = site.start("runworker", "--threads", "2")
    worker.expect("consuming")
    assert site.get("/", address).text == "first"
    socket = site.open(address)
    socket.send("hello")
    assert socket.recv(30) == "first hello"
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    again = site.start("runworker")
    socket.send("hello")
    assert socket.recv(30) == "first hello"
    for service in (again, web):
        service.signal(signal.SIGTERM)
        assert service.ended() == 0
        assert "Traceback" not in service.output


def test_workers_can_share_the_channels(site: Site) -> None:
    web = site.start("runweb", "--port", "0")
    address = web.expect(r"ready on http://([^\s;]+)")[1]
    views = site.start("runworker", "--only-channels", "http.*")
    assert views.expect("consuming (.*)")[1] == "http.disconnect, http.request"
    assert site.get("/", address).text == "first"
    sockets = site.start("runworker", "--exclude-channels", "http.*")
    assert "http" not in sockets.expect("consuming (.*)")[1]
    socket = site.open(address)
    socket.send("hello")
    assert socket.recv(30) == "first hello"


READY = """
import sys

from busway.django.signals import worker_process_ready, worker_ready

def announce(signal, **_):
    kind = "process" if signal is worker_process_ready else "thread"
    print(f"{kind} is ready", file=sys.stderr, flush=True)

worker_process_ready.connect(announce)
worker_ready.connect(announce)
"""


def test_signals_say_when_a_worker_is_ready(site: Site) -> None:
    with (site.directory / "mysite" / "routing.py").open("a") as file:
        file.write(READY)
    worker = site.start("runworker", "--threads", "2")
    worker.expect("process is ready")
    worker.expect("thread is ready")
    worker.expect("thread is ready")


@pytest.mark.parametrize("command", ["runworker", "runweb"])
def test_a_memory_layer_is_refused_with_the_remedy(site: Site, command: str) -> None:
    site.set(CHANNEL_LAYERS={"default": "memory://"})
    service = site.start(command)
    assert service.ended() == 1
    service.all_ended()
    assert "leave BACKEND out of CHANNEL_LAYERS['default']" in service.output
    assert "Traceback" not in service.output


def test_a_worker_without_channels_says_so(site: Site) -> None:
    service = site.start("runworker", "--only-channels", "nothing.*")
    assert service.ended() == 1
    service.all_ended()
    assert "no channel is left to consume" in service.output
    assert "Traceback" not in service.output


@pytest.mark.parametrize("command", ["runworker", "runweb"])
def test_an_unknown_layer_is_one_line(site: Site, command: str) -> None:
    service = site.start(command, "--layer", "other")
    assert service.ended() == 1
    service.all_ended()
    assert "there is no channel layer 'other'; CHANNEL_LAYERS has 'default'" in service.output
    assert "Traceback" not in service.output


def test_runweb_has_the_options_of_the_command_line(site: Site) -> None:
    service = site.start("runweb", "--help")
    assert service.ended() == 0
    service.all_ended()
    for option in ("--unix-socket", "--proxy-headers", "--layer", "--settings", "--http-timeout"):
        assert option in service.output


@pytest.fixture
def log_as_before() -> Iterator[None]:
    """Take back what a command does to the log of this process."""
    loggers = [logging.getLogger(name) for name in ("busway", "busway.access")]
    before = [(each.level, each.propagate, each.handlers[:]) for each in loggers]
    yield
    for each, (level, propagate, handlers) in zip(loggers, before, strict=True):
        each.setLevel(level)
        each.propagate, each.handlers = propagate, handlers


@pytest.mark.usefixtures("log_as_before")
def test_runweb_can_be_called_from_code() -> None:
    with (
        override_settings(CHANNEL_LAYERS={"default": "memory://"}),
        pytest.raises(CommandError, match="stays in one process"),
    ):
        call_command("runweb", port=0)


def test_runweb_writes_an_access_log(site: Site) -> None:
    log = site.directory / "access.log"
    web = site.start("runweb", "--port", "0", "--access-log", str(log))
    address = web.expect(r"ready on http://([^\s;]+)")[1]
    site.start("runworker").expect("consuming")
    site.get("/", address)
    eventually(lambda: '"GET / HTTP/1.1" 200 5' in log.read_text(), "the request is logged")


def test_what_is_on_a_layer_of_the_settings_is_shown(site: Site) -> None:
    web = site.start("runweb", "--port", "0")
    web.expect("ready on")
    status = site.start("channellayer", "status", "--json")
    found = json.loads(status.expect(r"^\{.*\}$")[0])
    assert status.ended() == 0
    assert found["layer"] == "'default' of CHANNEL_LAYERS"
    assert found["shards"][0]["detail"] == "other processes on it: 1"
    flush = site.start("channellayer", "flush", "--yes", "--settings", "mysite.settings")
    flush.expect("'default' of CHANNEL_LAYERS is empty; 0 messages were dropped")
    assert flush.ended() == 0


def test_the_command_for_layers_takes_an_alias(site: Site) -> None:
    service = site.start("channellayer", "ping", "--layer", "other")
    assert service.ended() == 1
    service.all_ended()
    assert "there is no channel layer 'other'; CHANNEL_LAYERS has 'default'" in service.output
    assert "Traceback" not in service.output
    service = site.start("channellayer", "ping", "--help")
    assert service.ended() == 0
    service.all_ended()
    assert "--layer ALIAS" in service.output
    assert "its alias in CHANNEL_LAYERS" in service.output


@pytest.mark.usefixtures("log_as_before")
def test_a_layer_can_be_emptied_from_code(capsys: pytest.CaptureFixture[str]) -> None:
    with override_settings(CHANNEL_LAYERS={"default": "memory://"}):
        call_command("channellayer", "flush", "--yes")
        assert "is empty; 0 messages were dropped" in capsys.readouterr().out
        with pytest.raises(CommandError, match="No such command 'fulsh'"):
            call_command("channellayer", "fulsh")
        with pytest.raises(CommandError, match="there is no channel layer 'other'"):
            call_command("channellayer", "ping", "--layer", "other")


def test_rundelay_says_that_there_is_nothing_to_run() -> None:
    out = StringIO()
    call_command("rundelay", "--sleep", "2", stdout=out)
    assert "delays are built in" in out.getvalue()
