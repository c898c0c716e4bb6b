"""`busway layer`: what it shows of a bus that is used, and what it says when it cannot."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from busway.bus.errors import ChannelFull
from busway.bus.ipc import IPCChannelLayer
from busway.bus.memory import MemoryChannelLayer
from busway.bus.statistics import GroupSize, Shard
from busway.cli import busway
from busway.cli.layer import URLS
from busway.cli.layer import layer as group
from services import Service

SUBCOMMANDS = sorted(group.commands)


def run(*words: str, answer: str | None = None) -> tuple[int, str]:
    """Run `busway layer` in this process; returns its exit status and all of its output."""
    result = CliRunner().invoke(busway, ["layer", *words], input=answer)
    return result.exit_code, result.output


def ask(*words: str) -> Any:
    """Return what a command answers in JSON."""
    status, text = run(*words, "--json")
    assert status == 0, text
    (line,) = text.splitlines()
    return json.loads(line)


@pytest.fixture(autouse=True)
def bus(bus_place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[IPCChannelLayer]:
    """Return a bus that another part of a service uses, the default one of this test."""
    url = f"ipc://chat?directory={bus_place}/bus&size=4194304&capacity=3"
    monkeypatch.setenv("BUSWAY_LAYER", url)
    layer = IPCChannelLayer.from_url(url)
    yield layer
    layer.close()


@pytest.fixture
def used(bus: IPCChannelLayer) -> IPCChannelLayer:
    """Return the bus with messages and groups on it."""
    for _ in range(3):
        bus.send("jobs", {})
    with pytest.raises(ChannelFull):
        bus.send("jobs", {})
    bus.send("websocket.receive", {})
    bus.receive(["websocket.receive"])
    for member in ("web.x!1", "web.x!2", "web.y!1", "plain"):
        bus.group_add("room-1", member)
    bus.group_add("room-2", "jobs")
    bus.group_add("news", "plain")
    bus.group_send("room-2", {})
    return bus


# -- what it shows ---------------------------------------------------------------------------


def test_channels_are_listed_with_what_waits_in_them(used: IPCChannelLayer) -> None:
    jobs, *others = ask("channels")["channels"]
    assert 0 < jobs.pop("oldest") < 60
    assert jobs == {
        "channel": "jobs",
        "pending": 3,
        "capacity": 3,
        "accepted": 3,
        "refused": 1,
        "dropped": {"full": 1},
    }
    assert {each["channel"] for each in others} >= {"websocket.receive"}
    assert used.statistics("jobs").messages_pending == 3
    status, text = run("channels")
    assert status == 0
    header, first, *_ = text.splitlines()
    assert " ".join(header.split()) == "channel waiting capacity oldest accepted refused dropped"
    assert first.split()[:3] == ["jobs", "3", "3"]
    assert first.split()[-2:] == ["1", "full"]


def test_a_pattern_chooses_channels_and_groups(used: IPCChannelLayer) -> None:
    assert [row["channel"] for row in ask("channels", "websocket.*")["channels"]] == [
        "websocket.receive"
    ]
    assert [row["group"] for row in ask("groups", "room-*")["groups"]] == ["room-1", "room-2"]
    assert run("groups", "nothing*") == (0, "no groups\n")
    assert run("channels", "nothing*") == (0, "no channels\n")
    del used


def test_groups_are_listed_with_their_sizes(used: IPCChannelLayer) -> None:
    assert used.group_sizes()["room-1"] == GroupSize(members=4, processes=2)
    assert ask("groups")["groups"] == [
        {"group": "room-1", "members": 4, "processes": 2},
        {"group": "news", "members": 1, "processes": 0},
        {"group": "room-2", "members": 1, "processes": 0},
    ]


def test_a_long_table_is_cut_and_says_so(bus: IPCChannelLayer) -> None:
    for number in range(7):
        bus.group_add(f"group-{number}", "plain")
    _, text = run("groups", "--rows", "5")
    assert len(text.splitlines()) == 7
    assert text.endswith("… and 2 more; --rows 0 shows all\n")
    assert len(run("groups", "--rows", "0")[1].splitlines()) == 8
    assert len(ask("groups")["groups"]) == 7


def test_names_are_shown_as_they_are(bus: IPCChannelLayer) -> None:
    name = "x" * 99
    bus.send(name, {})
    assert name in run("channels")[1]


def test_latencies_are_in_order() -> None:
    found = ask("ping", "--times", "7")
    assert found["times"] == 7
    assert 0 < found["min"] <= found["median"] <= found["p99"] <= found["max"] < 5
    status, text = run("ping", "-n", "1")
    assert status == 0
    assert text.splitlines()[1].startswith("1 messages")


def test_a_ping_leaves_nothing_and_takes_nothing(used: IPCChannelLayer) -> None:
    run("ping")
    assert used.statistics().messages_pending == used.statistics("jobs").messages_pending == 3


def test_shards_say_where_messages_are(used: IPCChannelLayer) -> None:
    (shard,) = ask("shards")["shards"]
    assert shard["name"] == str(used.directory)
    assert shard["healthy"]
    assert shard["limit"] == 4194304 // 2
    assert 0 < shard["used"] < shard["limit"]
    assert shard["detail"] == "other processes on it: 1"
    _, text = run("shards")
    assert "✓ well" in text
    assert "2,048 KiB" in text


def test_the_status_has_everything(used: IPCChannelLayer) -> None:
    found = ask("status")
    assert found["layer"] == f"ipc://chat?directory={used.directory}&size=4194304&capacity=3"
    assert found["shards"][0]["healthy"]
    assert found["ping"]["times"] == 20
    assert found["total"]["messages_pending"] == 3
    assert {row["channel"] for row in found["channels"]} == {
        "jobs",
        "websocket.receive",
        *(f"web.{name}!" for name in "xy"),
    }
    assert len(found["groups"]) == 3
    _, text = run("status")
    for part in (str(used.directory), "20 messages", "all channels", "jobs", "room-1"):
        assert part in text


def test_what_is_unwell_is_told_by_the_exit_status_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = Shard("redis://two", healthy=False, detail="connection refused; start it")
    well = Shard("redis://one", healthy=True, detail="7.0")
    monkeypatch.setattr(IPCChannelLayer, "shards", lambda _: [well, lost])
    for words in (["shards"], ["status"]):
        status, text = run(*words)
        assert status == 1
        assert "✗ unwell" in text
        assert "connection refused; start it" in text
        status, text = run(*words, "--json")
        assert status == 1
        assert [shard["healthy"] for shard in json.loads(text)["shards"]] == [True, False]


def test_a_layer_in_one_process_can_be_looked_at_too(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = MemoryChannelLayer()
    layer.send("jobs", {})
    urls = URLS._replace(open=lambda _: layer)
    monkeypatch.setattr(sys.modules["busway.cli.layer"], "URLS", urls)
    found = ask("status", "--layer", "memory://")
    assert found["shards"][0]["name"] == "memory"
    assert [row["channel"] for row in found["channels"]] == ["jobs"]


def test_watching_ends_in_silence_when_nobody_reads_on() -> None:
    command = [sys.executable, "-m", "busway", "layer", "channels", "--json", "--watch", "0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_watching_goes_on_until_it_is_interrupted(bus: IPCChannelLayer) -> None:
    command = ["busway", "layer", "channels", "--watch", "0.1"]
    with Service([*command, "--json"]) as service:
        service.expect(r'"channels":\[\]')
        bus.send("jobs", {})
        service.expect(r'"channel":"jobs","pending":1')
        bus.send("jobs", {})
        service.expect(r'"channel":"jobs","pending":2')
        service.signal(signal.SIGINT)
        assert service.ended() == 0
    with Service(command) as service:
        service.expect("jobs +2")
        service.signal(signal.SIGINT)
        assert service.ended() == 0


# -- flush -----------------------------------------------------------------------------------


def test_a_flush_asks_before_it_drops_anything(used: IPCChannelLayer) -> None:
    for answer in ("n\n", ""):
        status, text = run("flush", answer=answer)
        assert status == 1
        assert "Drop 3 messages and all groups of ipc://chat" in text
        assert "nothing was dropped; --yes drops it without asking" in text
        assert used.statistics().messages_pending == 3
    status, text = run("flush", answer="y\n")
    assert status == 0
    assert used.statistics().messages_pending == 0
    assert used.group_channels("room-1") == []


def test_a_flush_does_not_ask_when_it_was_told_so(used: IPCChannelLayer) -> None:
    status, text = run("flush", "--yes")
    assert status == 0
    assert text.endswith("is empty; 3 messages were dropped\n")
    assert used.statistics().messages_pending == 0


# -- mistakes --------------------------------------------------------------------------------


@pytest.mark.parametrize("command", SUBCOMMANDS)
def test_a_layer_that_cannot_be_used_is_named_with_the_remedy(command: str, tmp_path: Path) -> None:
    directory = tmp_path / "open"
    directory.mkdir(mode=0o755)
    status, text = run(command, "--layer", f"ipc://x?directory={directory}&size=1048576")
    assert status == 1
    (line,) = text.splitlines()
    assert line.startswith(f"Error: cannot use the channel layer ipc://x?directory={directory}")
    assert "is open to other users" in line
    assert "remove it, or give another 'directory'" in line
    assert "name it with --layer or BUSWAY_LAYER" in line


@pytest.mark.parametrize("command", SUBCOMMANDS)
def test_a_url_that_is_wrong_is_a_mistake_of_one_line(command: str) -> None:
    status, text = run(command, "--layer", "rabbit://ada:secret@x")
    assert status == 1
    (line,) = text.splitlines()
    assert "no channel layer for 'rabbit://***@x'" in line


@pytest.mark.parametrize("command", SUBCOMMANDS)
def test_the_help_of_a_command_explains_every_option(command: str) -> None:
    status, text = run(command, "-h")
    assert status == 0
    for option in group.commands[command].params:
        if isinstance(option, click.Option) and not option.hidden:
            assert option.help
            assert all(flag in text for flag in option.opts)


def test_the_help_names_every_command_with_what_it_does() -> None:
    _, text = run("--help")
    for command in SUBCOMMANDS:
        assert f"  {command} " in text
    assert "..." not in text.partition("Commands:")[2]
