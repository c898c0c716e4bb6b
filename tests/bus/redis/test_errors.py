"""What is said when a server will not do."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
import redis

from busway.bus.conformance.harness import eventually
from busway.bus.errors import ChannelFull, ConfigurationError, InvalidMessage, LayerUnavailable
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


@pytest.fixture(params=binaries.NAMES)
def each_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """Return a server of each kind, for this test alone: they word their errors differently."""
    with RedisServer(binary=binaries.need(request.param)) as server:
        yield server


def test_a_full_server_refuses_and_still_gives(each_server: RedisServer) -> None:
    server = each_server
    layer = RedisChannelLayer(server.url, capacity=1000)
    layer.send("work", {"n": 1})
    server.call("CONFIG", "SET", "maxmemory", "100kb")
    with pytest.raises(ChannelFull) as caught:
        layer.send("work", {"n": 2})
    assert caught.value.reason == "memory"
    other = RedisChannelLayer(server.url)  # which has to connect
    assert other.receive(["work"]) == ("work", {"n": 1})
    other.close()
    server.call("CONFIG", "SET", "maxmemory", "0")
    layer.send("work", {"n": 3})
    assert layer.receive(["work"]) == ("work", {"n": 3})
    layer.close()


def test_a_server_that_became_a_replica_is_left(each_server: RedisServer) -> None:
    server = each_server
    layer = RedisChannelLayer(server.url)
    layer.send("work", {"n": 1})
    server.call("REPLICAOF", server.host, server.port + 1)
    with pytest.raises(LayerUnavailable, match="replica; it is a replica: name the master"):
        layer.send("work", {"n": 2})
    eventually(lambda: server.connections() <= 1, "its connections are closed")
    layer.close()


def test_a_server_that_cannot_save_says_so(each_server: RedisServer) -> None:
    server = each_server
    (server.directory / "dump.rdb").mkdir()  # where its data are to go
    server.call("CONFIG", "SET", "save", "1 1")
    server.call("SET", "key", "value")
    server.call("BGSAVE")
    failed = ("rdb_last_bgsave_status", "err")
    eventually(lambda: failed in server.info("persistence").items(), "it could not save")
    text = complaint(server.url)
    assert text.endswith("; it cannot save its data: see its log")
    assert "script" not in text


def test_a_busy_server_is_waited_for(each_server: RedisServer) -> None:
    server = each_server
    layer = RedisChannelLayer(server.url)
    layer.send("work", {"n": 1})
    server.call("CONFIG", "SET", "lua-time-limit", "10")
    endless = threading.Thread(target=run_for_ever, args=(server,))
    endless.start()
    eventually(lambda: is_busy(server), "it is busy")
    assert "SCRIPT KILL" in complaint(server.url)
    with ThreadPoolExecutor() as pool:
        sent = pool.submit(layer.send, "work", {"n": 2})
        server.call("SCRIPT", "KILL")
        sent.result()
    endless.join()
    layer.close()


def run_for_ever(server: RedisServer) -> None:
    with pytest.raises(redis.ResponseError, match="kill"):
        server.call("EVAL", "while true do end", 0)


def is_busy(server: RedisServer) -> bool:
    try:
        return not server.call("PING")
    except redis.ResponseError:
        return True


def test_what_is_somebody_elses_is_told(server: RedisServer) -> None:
    server.call("SET", "busway:{0}:c:work", "text")
    assert "`prefix` of its own" in complaint(server.url)


def test_missing_replicas_are_told(server: RedisServer) -> None:
    server.call("CONFIG", "SET", "min-replicas-to-write", "1")
    assert "min-replicas-to-write" in complaint(server.url)


def test_a_right_that_a_script_lacks_is_told(each_server: RedisServer) -> None:
    server = each_server
    server.call("ACL", "SETUSER", "me", "on", ">secret", "~*", "&*", "+@all", "-hmget")
    assert "give the user the commands of scripts" in complaint(server.url_for("me", "secret"))


@pytest.mark.parametrize(
    ("end", "remedy"),
    [
        ("/99", "`databases`"),
        ("/0?password=needless", "leave it out"),
        ("/0?ssl_ca_certs=/no/file", "ssl_ca_certs, ssl_certfile"),
    ],
)
def test_a_server_that_does_not_do_what_a_url_wants_says_so(
    server: RedisServer, end: str, remedy: str
) -> None:
    scheme = "rediss" if "ssl" in end else "redis"
    layer = open_layer(f"{scheme}://{server.host}:{server.port}{end}")
    with pytest.raises(LayerUnavailable, match=remedy):
        layer.send("work", {})
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
        # It says nothing, for it waits for the end of a line.
        url = f"rediss://127.0.0.1:{server.port}?socket_timeout=0.5"
        assert "redis:// is for one without" in complaint(url)

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
        "redis+sentinel://localhost:26379/main?sentinel_ssl=maybe",
        "redis://localhost?sentinel_password=secret",
        "redis://localhost:many",
        "redis+nothing://localhost",
        "redis://localhost?socket_timeout=-1",
        "rediss://localhost?ssl_cert_reqs=maybe",
    ],
)
def test_what_makes_no_sense_in_a_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        open_layer(url)


@pytest.mark.parametrize("password", ["sec/ret", "sec#ret", "sec?ret"])
def test_a_password_that_is_not_quoted_is_not_shown(password: str) -> None:
    with pytest.raises(ConfigurationError, match=r"urllib\.parse\.quote") as caught:
        open_layer(f"redis://:{password}@localhost:6379/0")
    assert "sec" not in str(caught.value)
    assert "ret" not in str(caught.value)


def test_options_of_tls_are_told_from_unknown_ones() -> None:
    with pytest.raises(ConfigurationError, match="rediss://"):
        open_layer("redis://localhost?ssl_ca_certs=/file")
    with pytest.raises(ConfigurationError, match="nothing"):
        RedisChannelLayer(connection_kwargs={"nothing": 1})


def test_a_server_that_is_no_sentinel_is_told_from_one(redis_server: RedisServer) -> None:
    with (
        closing(RedisChannelLayer(f"redis+sentinel://127.0.0.1:{redis_server.port}/main")) as layer,
        pytest.raises(LayerUnavailable, match="is that a sentinel"),
    ):
        layer.parts[0].server.connect()


def test_sentinels_that_are_down_are_named_at_once() -> None:
    url = "redis+sentinel://127.0.0.1:1,127.0.0.1:2/main"
    with closing(RedisChannelLayer(url)) as layer:
        start = time.monotonic()
        with pytest.raises(LayerUnavailable, match=r"sentinel 127\.0\.0\.1:1: .*is it running"):
            layer.parts[0].server.connect()
    assert time.monotonic() - start < 1


def test_arguments_for_sentinels_are_checked_before_any_is_asked() -> None:
    url = "redis+sentinel://localhost:26379/main"
    with pytest.raises(ConfigurationError, match=r"sentinel_kwargs.*nothing"):
        RedisChannelLayer(url, sentinel_kwargs={"nothing": 1})
    with pytest.raises(ConfigurationError, match=r"for redis\+sentinel.*: sentinel_password"):
        RedisChannelLayer("redis://localhost", sentinel_kwargs={"password": "x"})


def test_a_lane_that_no_encoding_has_is_on_no_shard() -> None:
    layer = RedisChannelLayer(["redis://one", "redis://two"])
    with pytest.raises(InvalidMessage, match=r"message\['reply_channel'\]"):
        layer.send("websocket.receive", {"reply_channel": "\ud800"})
    layer.close()


def test_arguments_of_connections_are_a_dict() -> None:
    with pytest.raises(ConfigurationError, match="connection_kwargs is 'x', expected a dict"):
        RedisChannelLayer(connection_kwargs="x")  # type: ignore[arg-type]
