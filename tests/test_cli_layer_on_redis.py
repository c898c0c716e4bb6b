"""`busway layer` and `manage.py channellayer` on Redis servers, one of which may be down."""

import json
from collections.abc import Iterator
from contextlib import closing
from secrets import token_hex
from typing import Any

import pytest
from click.testing import CliRunner
from django.core.management import call_command
from django.test import override_settings

from busway.bus.redis import RedisChannelLayer
from busway.cli import busway
from servers.redis import RedisServer


@pytest.fixture
def servers() -> Iterator[list[RedisServer]]:
    with RedisServer() as one, RedisServer() as two:
        yield [one, two]


@pytest.fixture
def url(servers: list[RedisServer], monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of a bus on both servers, the default one of this test."""
    hosts = ",".join(f"{server.host}:{server.port}" for server in servers)
    url = f"redis://{hosts}/0?prefix={token_hex(4)}&capacity=7"
    monkeypatch.setenv("BUSWAY_LAYER", url)
    return url


@pytest.fixture
def layer(url: str) -> Iterator[RedisChannelLayer]:
    with closing(RedisChannelLayer.from_url(url)) as layer:
        yield layer


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(busway, ["layer", *words])
    return result.exit_code, result.output


def ask(*words: str, status: int = 0) -> Any:
    code, text = run(*words, "--json")
    assert code == status, text
    return json.loads(text)


def test_all_of_it_is_shown(layer: RedisChannelLayer, servers: list[RedisServer]) -> None:
    for name in ("jobs", "mails", "web.x!1"):
        layer.send(name, {})
        layer.group_add("room", name)
    assert ask("ping", "--times", "20")["times"] == 20
    found = {row["channel"]: row for row in ask("channels")["channels"]}
    assert {"jobs", "mails", "web.x!"} <= found.keys()
    assert (found["jobs"]["pending"], found["jobs"]["capacity"]) == (1, 7)
    assert ask("groups")["groups"] == [{"group": "room", "members": 3, "processes": 1}]
    for shard, server in zip(ask("shards")["shards"], servers, strict=True):
        assert shard["healthy"]
        assert shard["name"].startswith(f"redis://{server.host}:{server.port}/0 ")
        assert shard["used"] > 0
        assert "answers in" in shard["detail"]
    status = ask("status")
    assert {"shards", "ping", "total", "channels", "groups"} <= status.keys()


def test_a_flush_empties_every_server(layer: RedisChannelLayer) -> None:
    for number in range(20):
        layer.send(f"jobs-{number}", {})
    status, text = run("flush", "--yes")
    assert (status, text.endswith("is empty; 20 messages were dropped\n")) == (0, True)
    assert layer.statistics().messages_pending == 0


@pytest.mark.usefixtures("url")
def test_a_server_that_is_down_is_named(servers: list[RedisServer]) -> None:
    servers[1].kill()
    well, unwell = ask("status", status=1)["shards"]
    assert well["healthy"]
    assert not unwell["healthy"]
    assert unwell["name"].startswith(f"redis://{servers[1].host}:{servers[1].port}")
    assert "is the server running" in unwell["detail"]
    status, text = run("flush", "--yes")
    assert status == 1
    assert f"redis://{servers[1].host}:{servers[1].port}/0: " in text
    assert "name it with --layer or BUSWAY_LAYER" in text


def test_a_server_that_wants_a_password_is_told_with_the_remedy() -> None:
    with RedisServer(password="secret") as server:
        address = f"{server.host}:{server.port}"
        for url in (f"redis://{address}", f"redis://:wrong@{address}"):
            (shard,) = ask("shards", "--layer", url, status=1)["shards"]
            assert "user:password@host" in shard["detail"]
            assert "wrong" not in json.dumps(shard)


def test_the_layers_of_the_settings_are_shown_too(
    layer: RedisChannelLayer, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    layer.send("jobs", {})
    with override_settings(CHANNEL_LAYERS={"default": "memory://", "far": url}):
        for command in ("shards", "channels", "groups", "ping", "status"):
            call_command("channellayer", command, "--layer", "far", "--json")
        call_command("channellayer", "flush", "--yes", "--layer", "far")
    shards, channels, *_, last = capsys.readouterr().out.splitlines()
    assert [each["healthy"] for each in json.loads(shards)["shards"]] == [True, True]
    assert json.loads(channels)["channels"][0]["channel"] == "jobs"
    assert last == "'far' of CHANNEL_LAYERS is empty; 1 messages were dropped"
