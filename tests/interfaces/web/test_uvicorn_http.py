"""HTTP/1.1 on the wire: what a client may send, however odd, and how its connection ends."""

import pytest

from busway.bus.layer import ChannelLayer
from interfaces.web.harness import RawClient, WebServer, Worker

CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

# -- trailers -------------------------------------------------------------------------------


def test_trailers_are_no_headers(client: RawClient, worker: Worker) -> None:
    client.send(CHUNKED + b"3\r\nabc\r\n0\r\nX-Forwarded-For: 10.0.0.1\r\nX_User: root\r\n\r\n")
    assert b" 200 " in client.read_head()
    message = worker.expect("http.request")
    assert message["body"] == b"abc"
    assert message["headers"] == [[b"host", b"x"], [b"transfer-encoding", b"chunked"]]


@pytest.mark.parametrize("trailers", [b"a:b\r\n" * 13_000, b"x" * 65_536])
def test_trailers_have_the_limit_of_a_head(
    server: WebServer, client: RawClient, trailers: bytes
) -> None:
    client.send(CHUNKED + b"0\r\nX: ")
    with pytest.raises(ConnectionError):
        client.send(trailers * 1000)


def test_a_large_chunk_does_not_count_as_trailers(layer: ChannelLayer, worker: Worker) -> None:
    with WebServer(layer, max_head_size=1024) as server, RawClient(server.port) as client:
        for _ in range(2):
            client.send(CHUNKED + b"4000\r\n" + b"x" * 0x4000 + b"\r\n0\r\nX: y\r\n")
            client.send(b"\r\n")
            assert b" 200 " in client.read_head()
            client.read(0x4000)


def test_the_data_of_a_chunk_need_not_hurry_like_a_head(
    layer: ChannelLayer, worker: Worker
) -> None:
    with (
        WebServer(layer, websocket_handshake_timeout=0.3) as server,
        RawClient(server.port) as client,
    ):
        client.send(CHUNKED + b"3\r\n")
        with RawClient(server.port) as silent:
            assert b" 408 " in silent.read_head()
        client.send(b"abc\r\n0\r\n\r\n")
        assert b" 200 " in client.read_head()
