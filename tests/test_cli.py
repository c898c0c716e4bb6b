"""The command line: options, help, and what is said about mistakes."""

import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from busway.bus.errors import ConfigurationError
from busway.bus.memory import MemoryChannelLayer
from busway.bus.urls import default_url
from busway.cli import busway, options
from busway.cli.check import private_channel, round_trip
from busway.cli.command import arguments, explain
from busway.cli.logs import configure_logging
from busway.cli.web import web
from busway.interfaces.web.options import WebOptions
from services import Service

COMMANDS = sorted(busway.commands)


@pytest.fixture(autouse=True)
def _own_bus(bus_place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave alone the bus that the user of this machine may have."""
    monkeypatch.setenv("BUSWAY_LAYER", f"ipc://test?directory={bus_place}/bus&size=4194304")


def run(*arguments: str) -> tuple[int, str]:
    """Run the command line in this process; returns its exit status and all of its output."""
    result = CliRunner().invoke(busway, arguments)
    return result.exit_code, result.output


# -- options and help -----------------------------------------------------------------------


def test_the_help_names_every_command_with_what_it_does() -> None:
    status, text = run("--help")
    assert status == 0
    for command in COMMANDS:
        assert re.search(rf"^  {command} +\w+", text, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_explains_every_option(command: str) -> None:
    status, text = run(command, "-h")
    assert status == 0
    for option in busway.commands[command].params:
        if isinstance(option, click.Option) and not option.hidden:
            assert option.help
            assert all(flag in text for flag in option.opts)


def test_the_help_shows_options_under_headings() -> None:
    _, text = run("serve", "--help")
    headings = re.findall(r"^(\S.*):$", text, re.MULTILINE)
    assert headings[0] == "Where to listen"
    assert {"Processes", "HTTP", "WebSocket", "Log"} <= set(headings)


def test_the_version_is_told() -> None:
    assert run("--version") == (0, "busway, version 0.1.0\n")


def test_every_setting_of_the_interface_server_has_an_option() -> None:
    settings = {field.name for field in msgspec.structs.fields(WebOptions)}
    of_the_supervisor = {"reuse_port", "backlog"}
    assert settings - {option.name for option in web.params} == of_the_supervisor


@pytest.mark.parametrize(
    ("flags", "name", "default"),
    [
        ("-b --bind --host", "host", "127.0.0.1"),
        ("-p --port", "port", 8000),
        ("-u --unix-socket", "unix_socket", None),
        ("-t --http-timeout", "http_timeout", 120.0),
        ("--websocket_timeout --websocket-timeout", "websocket_timeout", 86_400.0),
        ("--websocket_connect_timeout", "websocket_connect_timeout", 5.0),
        ("--ping-interval", "ping_interval", 20.0),
        ("--ping-timeout", "ping_timeout", 30.0),
        ("--root-path", "root_path", ""),
        ("-v --verbosity", "verbosity", 1),
    ],
)
def test_names_and_defaults_that_people_know_are_kept(
    flags: str, name: str, default: object
) -> None:
    assert web.make_context("web", []).params[name] == default
    for flag in flags.split():
        assert str(web.make_context("web", [flag, "2"]).params[name]) in ("2", "2.0")


def test_options_become_settings_of_the_interface_server() -> None:
    words = "--ws-protocol a --ws-protocol b -t 3 --access-log - --proxy-headers --root-path /x"
    settings = options.web_options(web.make_context("web", words.split()).params)
    assert settings == WebOptions(
        ws_protocols=("a", "b"),
        http_timeout=3.0,
        access_log=True,
        proxy_headers=True,
        root_path="/x",
    )


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "host": st.text("abc.:", min_size=1),
            "port": st.integers(0, 65535),
            "http_timeout": st.floats(0, 1e6),
            "ws_protocols": st.lists(st.text("-abc", min_size=1)).map(tuple),
            "proxy_headers": st.booleans(),
            "access_log": st.none() | st.text("-abc", min_size=1),
            "max_connections": st.none() | st.integers(1, 10**9),
            "root_path": st.text("-/abc"),
        },
    )
)
def test_a_command_line_that_is_passed_on_means_the_same(values: dict[str, Any]) -> None:
    given = web.make_context("web", []).params | values
    passed_on = web.make_context("web", arguments(web, given)).params
    assert passed_on == given


# -- mistakes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["serve"], "Missing argument 'MODULE:ROUTING'"),
        (["serve", "chat:routing", "--port", "high"], "'high' is not a valid integer"),
        (["serve", "chat:routing", "--port", "70000"], "70000 is not in the range"),
        (["serve", "chat:routing", "--prot", "1"], "No such option"),
        (["sevre", "chat:routing"], "No such command 'sevre'"),
        (["web", "--tls-key", __file__], "tls_key needs tls_certificate"),
        (["web", "--root-path", "x"], "expected '/path' without a slash at the end"),
        (["web", "--http-timeout", "-1"], "http_timeout is -1.0, expected at least 0"),
        (["web", "--host", "no.such.host.invalid"], "host 'no.such.host.invalid' is unknown"),
        (["web", "--fd", "99"], "descriptor 99 is not a listening socket"),
        (["worker", "x:y", "--layer", "rabbit://x"], "no channel layer for 'rabbit://x'"),
        (["worker", "x:y", "--layer", "ipc://x?capcity=1"], "unknown option 'capcity'"),
        (["check", "no_such_module:routing"], "no module 'no_such_module'"),
        (["check", "os:routing"], "'os' has no 'routing'"),
        (["check", "nothing"], "expected 'package.module:name'"),
    ],
)
def test_a_mistake_is_answered_with_the_remedy_and_no_traceback(
    words: list[str], expected: str
) -> None:
    status, text = run(*words)
    assert status in (1, 2)
    assert expected in text
    assert "Traceback" not in text


@pytest.mark.parametrize("command", ["serve", "worker", "web"])
def test_a_layer_that_stays_in_one_process_is_refused_for_several(command: str) -> None:
    routing = [] if command == "web" else ["x:y"]
    status, text = run(command, *routing, "--layer", "memory://")
    assert status == 1
    assert "'memory://' stays in one process" in text
    assert "leave --layer out" in text


MODULES = {
    "syntax": ("def broken(:\n", r"SyntaxError: .*\(mistake\.py line 1\)"),
    "name": ("x = 1\ny = undefined\n", r"NameError: name 'undefined' .*\(mistake\.py line 2\)"),
    "missing": ("import no_such_thing\n", r"No module named 'no_such_thing' \(mistake\.py line 1"),
    "quits": ("import sys\nsys.exit(3)\n", r"SystemExit: 3 \(mistake\.py line 2\)"),
    "number": ("routing = 5\n", r"'mistake:routing' is 5; expected a list of route"),
    "empty": ("routing = []\n", r"'mistake:routing' has no routes"),
    "filter": (
        "from busway import route\nrouting = [route('a', print, path='(')]\n",
        r"'\('|\(mistake\.py line 2\)",
    ),
    "arguments": (
        "from busway import route\nrouting = [route('a', lambda message: 1, path='(?P<x>y)')]\n",
        r"mistake\.<lambda>.*cannot be called with \(message, x\)",
    ),
}


@pytest.mark.parametrize("kind", MODULES)
def test_a_routing_that_cannot_be_used_is_reported_in_one_line(kind: str, tmp_path: Path) -> None:
    code, expected = MODULES[kind]
    (tmp_path / "mistake.py").write_text(code)
    with Service(["busway", "check", "mistake:routing"], cwd=tmp_path) as service:
        assert service.ended() == 1
        service.all_ended()
        (line,) = service.output.splitlines()
        assert line.startswith("Error: ")
        assert re.search(expected, line), line


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    (tmp_path / "mistake.py").write_text("1 / 0\n")
    with Service(["busway", "check", "mistake:routing", "--debug"], cwd=tmp_path) as service:
        service.expect("Traceback")
        service.expect("ZeroDivisionError")
        assert service.ended() == 1


@pytest.mark.parametrize("missing", ["click", "rich", "uvicorn"])
def test_without_its_libraries_the_command_says_how_to_install_them(missing: str) -> None:
    code = f"""
        import sys
        sys.modules[{missing!r}] = None
        sys.argv = ["busway", "web", "--port", "0"]
        from busway.__main__ import main
        main()
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    expected = f'busway: {missing} is not installed; run: pip install "busway[server]"\n'
    assert done.stderr.endswith(expected)
    assert "Traceback" not in done.stderr


def test_an_error_of_ours_is_its_own_text() -> None:
    assert explain(ConfigurationError("do this")) == "do this"


def test_an_error_that_nobody_foresaw_is_told_with_its_place() -> None:
    with pytest.raises(ValueError, match="Expecting") as caught:
        json.loads("{")
    assert re.fullmatch(
        r"JSONDecodeError: Expecting .*decoder\.py line \d+\); run again with --debug .*",
        explain(caught.value),
    )


# -- check -----------------------------------------------------------------------------------


def test_check_lists_channels_with_their_consumers(tmp_path: Path) -> None:
    (tmp_path / "fine.py").write_text(
        dedent(
            """
            from busway import route
            def connect(message): ...
            async def receive(message): ...
            routing = [route("websocket.connect", connect), route("websocket.receive", receive)]
            """
        )
    )
    command = ["busway", "check", "fine:routing", "--layer", f"ipc://x?directory={tmp_path}/bus"]
    with Service(command, cwd=tmp_path) as service:
        service.expect(r"^channel +consumer")
        service.expect(r"^websocket\.connect +fine\.connect")
        service.expect(r"^websocket\.receive +async fine\.receive")
        service.expect("✓ fine:routing is in order")
        service.expect("✓ ipc://x.* carries messages")
        assert service.ended() == 0


@pytest.mark.parametrize("command", ["serve", "web", "worker", "check"])
def test_every_command_takes_the_bus_of_the_current_directory(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BUSWAY_LAYER")
    monkeypatch.chdir(tmp_path)
    routing = [] if command == "web" else ["x:y"]
    context = busway.commands[command].make_context(command, routing)
    assert context.params["layer"] == default_url()
    assert "of the current directory" in " ".join(run(command, "--help")[1].split())


def test_a_shell_uses_the_bus_of_the_services_in_its_directory(tmp_path: Path) -> None:
    (tmp_path / "fine.py").write_text("from busway import route\nrouting = [route('a', print)]\n")
    code = "from busway.app.context import current_layer as c; print('ipc://' + c().name)"
    unset = {"BUSWAY_LAYER": ""}
    with Service([sys.executable, "-c", code], cwd=tmp_path, environment=unset) as shell:
        name = shell.expect(r"^ipc://\S+$")[0]
    with Service(["busway", "check", "fine:routing"], cwd=tmp_path, environment=unset) as check:
        check.expect(f"✓ {name} carries messages")


def test_check_leaves_nothing_on_the_layer() -> None:
    layer = MemoryChannelLayer()
    assert round_trip(layer, private_channel(layer)) < 5
    assert layer.statistics().messages_pending == 0
    layer.close()


# -- the log ---------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """Undo what a test does to the log of this process."""
    loggers = [logging.getLogger(name) for name in (None, "busway", "busway.access")]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        for handler in set(logger.handlers) - set(handlers):
            handler.close()
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate


def test_log_lines_have_time_process_and_message(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging("worker 2")
    logging.getLogger("busway.app").info("hello")
    logging.getLogger("busway.app").warning("careful")
    logging.getLogger("busway.app").debug("details")
    lines = capfd.readouterr().err.splitlines()
    assert [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in lines] == [
        "worker 2 │ hello",
        "worker 2 │ warning: careful",
    ]


def test_the_access_log_has_a_file_of_its_own(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    configure_logging("web", access_log=str(tmp_path / "access.log"))
    logging.getLogger("busway.access").info("GET /")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d{4} GET /\n", (tmp_path / "access.log").read_text()
    )
    assert capfd.readouterr().err == ""
