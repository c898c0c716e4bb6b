"""What is said when a server will not do."""

from collections.abc import Iterator

import pytest

from busway.bus.errors import ChannelFull, ConfigurationError, LayerUnavailable
from busway.bus.redis import RedisChannelLayer
from busway.bus.urls import open_layer
from servers import binaries
from servers.certificates import Authority
from servers.redis import RedisServer
from servers.sentinel import Sentinels


def complaint(url: str) -> str:
    """Return what a layer says when it cannot send."""
    layer = RedisChannelLayer(url)
    try:
        with pytest.raises(LayerUnavailable) as caught:
            layer.send("work", {})
    finally:
        layer.close()
    return str(caught.value)


def test_a_wrong_password_is_named_and_not_shown() -> None:
    with RedisServer(password="right") as server:
        for wrong in (server.url_for(None, "guessed"), server.url_for("me", "guessed")):
            text = complaint(wrong)
            assert "user and password" in text
            assert "guessed" not in text
        assert "user and password" in complaint(server.url_for(None, None))


def test_a_password_lets_in() -> None:
    with RedisServer(password="r:/@ght") as server:
        layer = RedisChannelLayer(server.url)
        layer.send("work", {"n": 1})
        assert layer.receive(["work"], timeout=1) == ("work", {"n": 1})
        layer.close()


def test_an_unreachable_server_is_named(server: RedisServer) -> None:
    server.kill()
    text = complaint(server.url)
    assert str(server.port) in text
    assert "is the server running" in text


def test_a_user_without_rights_is_told_which() -> None:
    users = {"me": "on >secret ~busway:* &busway:* +@all -eval -evalsha"}
    with RedisServer(users=users) as server:
        assert "give the user" in complaint(server.url_for("me", "secret"))


def test_a_full_server_refuses_and_still_gives(server: RedisServer) -> None:
    layer = RedisChannelLayer(server.url, capacity=1000)
    layer.send("work", {"n": 1})
    server.call("CONFIG", "SET", "maxmemory", "1mb")
    with pytest.raises(ChannelFull) as caught:
        layer.send("work", {"n": 2})
    assert caught.value.reason == "memory"
    assert layer.receive(["work"]) == ("work", {"n": 1})
    server.call("CONFIG", "SET", "maxmemory", "0")
    layer.send("work", {"n": 3})
    assert layer.receive(["work"]) == ("work", {"n": 3})
    layer.close()


def test_a_replica_says_what_to_name_instead(redis_sentinels: Sentinels) -> None:
    replica = next(each for each in redis_sentinels.servers if not each.is_primary)
    assert "replica" in complaint(replica.url)


@pytest.fixture(scope="module")
def tls_server(authority: Authority) -> Iterator[RedisServer]:
    """Return a server that asks clients for certificates."""
    binary = binaries.need("redis")
    with RedisServer(binary=binary, tls=authority, client_certificates=True) as server:
        yield server


class TestTLS:
    """Servers and clients that prove who they are, and those that do not."""

    def test_messages_pass_in_both_directions(self, tls_server: RedisServer) -> None:
        layer = RedisChannelLayer(tls_server.url)
        for size in (1, 70_000):  # more than a record of TLS has
            layer.send("work", {"text": "x" * size})
            assert layer.receive(["work"], timeout=5)[1] == {"text": "x" * size}
        assert layer.receive(["work"], timeout=0.01) == (None, None)
        layer.close()

    async def test_async_code_waits_for_them(self, tls_server: RedisServer) -> None:
        layer = RedisChannelLayer(tls_server.url)
        assert await layer.areceive(["work"], timeout=0.01) == (None, None)
        await layer.asend("work", {"text": "x" * 70_000})
        assert (await layer.areceive(["work"], timeout=5))[0] == "work"
        layer.close()

    def test_tls_against_a_plain_port_is_recognised(self, server: RedisServer) -> None:
        assert "redis:// is for one without" in complaint(f"rediss://127.0.0.1:{server.port}")

    def test_a_plain_client_is_told_of_tls(self, tls_server: RedisServer) -> None:
        assert "rediss://" in complaint(f"redis://127.0.0.1:{tls_server.port}")

    def test_an_unknown_authority_is_named(self, tls_server: RedisServer) -> None:
        text = complaint(f"rediss://127.0.0.1:{tls_server.port}")
        assert "ssl_ca_certs" in text

    def test_a_missing_certificate_is_asked_for(
        self, tls_server: RedisServer, authority: Authority
    ) -> None:
        url = f"rediss://127.0.0.1:{tls_server.port}?ssl_ca_certs={authority.certificate}"
        assert "ssl_certfile" in complaint(url)


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
