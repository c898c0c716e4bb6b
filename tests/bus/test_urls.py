"""Layers from URLs."""

import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from busway.bus.errors import ConfigurationError
from busway.bus.ipc import IPCChannelLayer
from busway.bus.memory import MemoryChannelLayer
from busway.bus.urls import default_name, default_url, open_layer, query_options, shown


@pytest.fixture
def directory() -> Iterator[str]:
    """Return a place for a bus, with a path short enough for sockets."""
    with TemporaryDirectory(prefix="busway-test-") as path:
        yield f"{path}/bus"


def test_a_memory_layer_takes_its_options_from_the_url() -> None:
    layer = open_layer("memory://?capacity=3&expiry=2.5&group_expiry=7&message_size=1000")
    assert isinstance(layer, MemoryChannelLayer)
    policy = layer.policies.default
    assert (policy.capacity, policy.expiry) == (3, 2.5)
    assert (layer.group_expiry, layer.message_size) == (7.0, 1000)
    layer.close()


def test_every_memory_url_is_a_bus_of_its_own() -> None:
    one, other = open_layer("memory://"), open_layer("memory://")
    one.send("a", {})
    assert other.receive(["a"]) == (None, None)
    one.close()
    other.close()


def test_an_ipc_layer_takes_its_name_and_options_from_the_url(directory: str) -> None:
    layer = open_layer(f"ipc://chat?directory={directory}&size=2097152&lane_capacity=4")
    assert isinstance(layer, IPCChannelLayer)
    assert layer.name == "chat"
    assert str(layer.directory) == directory
    assert layer.policies.default.lane_capacity == 4
    layer.close()


def test_the_same_ipc_url_is_the_same_bus(directory: str) -> None:
    url = f"ipc://chat?directory={directory}&size=2097152"
    one, other = open_layer(url), open_layer(url)
    one.send("a", {"n": 1})
    assert other.receive(["a"]) == ("a", {"n": 1})
    one.close()
    other.close()


def test_directories_may_be_quoted(directory: str) -> None:
    quoted = (directory + " %").replace("%", "%25").replace(" ", "%20").replace("/", "%2F")
    layer = open_layer(f"ipc://chat?directory={quoted}&size=2097152")
    assert isinstance(layer, IPCChannelLayer)
    assert str(layer.directory) == directory + " %"
    layer.close()


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("", "no channel layer for ''"),
        ("memory", "no channel layer for 'memory'"),
        ("nats://host", "expected one of ipc://, .*memory://"),
        ("memory://name", "a memory layer has none"),
        ("memory:///path", "a memory layer has none"),
        ("memory://?capcity=1", "unknown option 'capcity'.*capacity"),
        ("memory://?capacity=many", "'many', expected int"),
        ("memory://?capacity=0", "capacity is 0"),
        ("memory://?capacity=1&capacity=2", "stands twice"),
        ("memory://?capacity=", "expected int"),
        ("memory://?expiry=nan", "expiry is nan"),
        ("memory://?group_expiry=-1", "group_expiry is -1"),
        ("ipc://a/b", "has a path"),
        ("ipc://a%20b?size=2097152", "bus name 'a b'"),
        ("ipc://a?size=1", "expected at least"),
        ("ipc://a?policies=x", "unknown option 'policies'"),
    ],
)
def test_a_mistake_in_a_url_is_named(url: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        open_layer(url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ipc://chat?capacity=2", "ipc://chat?capacity=2"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://:secret@host", "redis://***@host"),
        ("redis://ada:se:cr/et@host/1?x=a@b", "redis://***@host/1?x=a@b"),
        ("redis://:sec?ret@host/1?x=1", "redis://***@host/1?x=1"),
        ("redis://:secret@one,:secret@two:1", "redis://***@two:1"),
        ("ipc://a?encryption_keys=secret,secret&size=1", "ipc://a?encryption_keys=***&size=1"),
        ("ipc://a?size=1&PASSWORD=secret#x", "ipc://a?size=1&PASSWORD=***#x"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, expected: str) -> None:
    assert shown(url) == expected
    assert "secret" not in shown(url)


@pytest.mark.parametrize(
    "url",
    [
        "rabbit://ada:secret@host",
        "ipc://a?password=secret",
        "ipc://a/b?password=secret",
        "memory://name?password=secret",
        "memory://?capacity=1&capacity=2&password=secret",
        "memory://?capacity=x&password=secret",
    ],
)
def test_a_mistake_in_a_url_is_named_without_its_secrets(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_layer(url)
    assert "secret" not in str(caught.value)


def test_options_are_converted_to_their_types() -> None:
    kinds: dict[str, type] = {"n": int, "x": float, "t": str}
    assert query_options("s://h?n=1&x=2&t=a%26b", kinds) == {"n": 1, "x": 2.0, "t": "a&b"}
    assert query_options("s://h", kinds) == {}


@pytest.mark.parametrize(
    ("directory", "expected"),
    [
        ("chat", "chat-"),
        ("My Projects (old)", "My-Projects-old-"),
        ("...", "busway-"),
        ("Zürich", "Z-rich-"),
        ("日本", "busway-"),
        ("x" * 200, "x" * 31 + "-"),
    ],
)
def test_the_default_bus_is_named_after_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, directory: str, expected: str
) -> None:
    names = []
    for parent in ("one", "two"):
        (tmp_path / parent / directory).mkdir(parents=True)
        monkeypatch.chdir(tmp_path / parent / directory)
        names.append(default_name())
        assert default_url() == f"ipc://{default_name()}"
    assert names[0] != names[1]
    for name in names:
        assert re.fullmatch(re.escape(expected) + "[0-9a-f]{8}", name)
        assert len(name) <= 40


def test_a_url_without_a_name_means_the_default_bus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for layer in (open_layer(f"ipc://?directory={tmp_path}/b"), IPCChannelLayer(directory="b")):
        assert isinstance(layer, IPCChannelLayer)
        assert layer.name == default_name()
        layer.close()


def test_the_default_bus_of_the_root_directory_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert default_name().startswith("busway-")
