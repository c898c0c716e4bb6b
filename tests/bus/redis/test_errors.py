"""What is said when a server will not do."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bus.redis.servers import RedisServer, free_port
from busway.bus.errors import ChannelFull, ConfigurationError, LayerUnavailable
from busway.bus.redis import RedisChannelLayer
from busway.bus.urls import open_layer


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def server(tmp_path: Path, port: int) -> Iterator[RedisServer]:
    with RedisServer(tmp_path, "--bind", "127.0.0.1", "--port", str(port)) as server:
        yield server


def complaint(url: str) -> str:
    """Return what a layer says when it cannot send."""
    layer = RedisChannelLayer(url)
    try:
        with pytest.raises(LayerUnavailable) as caught:
            layer.send("work", {})
    finally:
        layer.close()
    return str(caught.value)


def test_a_wrong_password_is_named_and_not_shown(server: RedisServer, port: int) -> None:
    server.command("ACL", "SETUSER", "me", "on", ">right", "~*", "&*", "+@all")
    text = complaint(f"redis://me:wrong@127.0.0.1:{port}")
    assert "user and password" in text
    assert "wrong" not in text.lower().replace("wrongpass", "")


def test_tls_against_a_plain_port_is_recognised(server: RedisServer, port: int) -> None:
    assert "redis:// is for one without" in complaint(f"rediss://127.0.0.1:{port}")


def test_an_unreachable_server_is_named(port: int) -> None:
    text = complaint(f"redis://127.0.0.1:{port}")
    assert str(port) in text
    assert "is the server running" in text


def test_a_user_without_rights_is_told_which(server: RedisServer, port: int) -> None:
    server.command(
        "ACL", "SETUSER", "me", "on", ">right", "~busway:*", "&busway:*", "+@all", "-eval"
    )
    server.command("ACL", "SETUSER", "me", "-evalsha")
    assert "give the user" in complaint(f"redis://me:right@127.0.0.1:{port}")


def test_a_full_server_refuses_and_still_gives(server: RedisServer, port: int) -> None:
    layer = RedisChannelLayer(f"redis://127.0.0.1:{port}", capacity=1000)
    layer.send("work", {"n": 1})
    server.command("CONFIG", "SET", "maxmemory", "1mb")
    with pytest.raises(ChannelFull) as caught:
        layer.send("work", {"n": 2})
    assert caught.value.reason == "memory"
    assert layer.receive(["work"]) == ("work", {"n": 1})
    server.command("CONFIG", "SET", "maxmemory", "0")
    layer.send("work", {"n": 3})
    assert layer.receive(["work"]) == ("work", {"n": 3})
    layer.close()


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost?capcity=3",
        "redis://localhost?slots=3",
        "redis+cluster://localhost?slots=0",
        "redis+sentinel://localhost:26379",
        "redis+sentinel://localhost/main",
        "redis://localhost:many",
        "redis+nothing://localhost",
    ],
)
def test_what_makes_no_sense_in_a_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        open_layer(url)
