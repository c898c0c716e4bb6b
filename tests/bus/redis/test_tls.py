"""Redis over TLS, with users and passwords, on a cluster and behind sentinels that have their own.

Mistakes are in `test_errors`.
"""

from collections.abc import Iterator
from contextlib import closing
from secrets import token_hex

import pytest

from busway.bus.errors import LayerUnavailable
from busway.bus.redis import RedisChannelLayer
from busway.bus.urls import open_layer
from servers.binaries import need
from servers.certificates import Authority
from servers.cluster import Cluster
from servers.redis import RedisServer
from servers.sentinel import Sentinels


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[RedisServer]:
    """Return a server that wants a certificate, a user and a password."""
    with RedisServer(
        binary=need("redis"),
        tls=authority,
        client_certificates=True,
        password="secret",
        users={"chat": "on >guess ~* &* +@all"},
    ) as server:
        yield server


@pytest.mark.parametrize("user", [(None, "secret"), ("chat", "guess")])
def test_who_has_a_certificate_and_password_is_let_in(
    server: RedisServer, user: tuple[str | None, str]
) -> None:
    url = f"{server.url_for(*user)}&prefix={token_hex(4)}"
    with closing(open_layer(url)) as layer, layer.receiver() as receiver:
        assert receiver.exchange((), (), ["work"], 1, wake_below=1).deliveries == []
        layer.send("work", {"n": 1})
        assert receiver.wait(10)
        (found,) = receiver.exchange((), (), ["work"], 1).deliveries
        assert found.message == {"n": 1}


def test_certificates_may_be_given_in_code(server: RedisServer, authority: Authority) -> None:
    certificate, key = server.client_pair
    with closing(
        RedisChannelLayer(
            f"rediss://:secret@{server.host}:{server.port}/0",
            prefix=token_hex(4),
            connection_kwargs={
                "ssl_ca_certs": str(authority.certificate),
                "ssl_certfile": str(certificate),
                "ssl_keyfile": str(key),
            },
        )
    ) as layer:
        layer.send("work", {"n": 1})
        assert layer.receive(["work"]) == ("work", {"n": 1})


def test_a_cluster_may_speak_tls(authority: Authority) -> None:
    options = {"tls-cluster": "yes"}
    with Cluster(replicas=0, binary=need("redis"), tls=authority, options=options) as cluster:
        url = cluster.url.replace("rediss://", "rediss+cluster://").replace("/0?", "?")
        with closing(open_layer(url)) as layer:
            for number in range(20):
                layer.send(f"work-{number}", {"n": number})
            for number in range(20):
                assert layer.receive([f"work-{number}"])[1] == {"n": number}


def test_sentinels_may_want_tls_and_a_password_of_their_own(authority: Authority) -> None:
    own = {"tls": authority, "password": "watch"}
    with Sentinels(
        binary=need("redis"), replicas=1, sentinels=2, password="secret", of_sentinels=own
    ) as group:
        url = group.layer_url.replace("://", "://:secret@")
        right = f"sentinel_ssl_ca_certs={authority.certificate}&sentinel_password=watch"
        with closing(open_layer(f"{url}?{right}")) as layer:
            layer.send("work", {"n": 1})
            assert layer.receive(["work"]) == ("work", {"n": 1})
        kwargs = {"ssl": True, "ssl_ca_certs": str(authority.certificate)}
        with (
            closing(RedisChannelLayer(url, sentinel_kwargs=kwargs)) as layer,
            pytest.raises(LayerUnavailable, match="sentinel_password"),
        ):
            layer.send("work", {})
        with (
            closing(open_layer(f"{url}?sentinel_password=watch")) as layer,
            pytest.raises(LayerUnavailable, match="sentinel_ssl=true"),
        ):
            layer.send("work", {})
