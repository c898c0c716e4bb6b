"""Time limits: clients and workers that do not answer."""

from collections.abc import Sequence

import httpx
import pytest

from busway.bus.layer import ChannelLayer
from busway.interfaces.web.frames import CLOSE, PING, PONG, TEXT
from interfaces.web.harness import (
    Message,
    RawClient,
    WebServer,
    Worker,
    fetch,
    frame,
    handshake,
    nothing,
)


def test_a_request_that_no_worker_answers_gets_503(layer: ChannelLayer) -> None:
    with (
        WebServer(layer, http_timeout=0.6) as server,
        Worker(layer, {"http.request": nothing}) as worker,
    ):
        response = fetch("GET", server.url + "/slow")
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        worker.expect("http.disconnect", path="/slow")
        server.dropped("unanswered request")


def test_half_a_request_behind_it_takes_no_time_limit_away(layer: ChannelLayer) -> None:
    with (
        WebServer(layer, http_timeout=2.0, websocket_handshake_timeout=0.3) as server,
        Worker(layer, {"http.request": nothing}),
        RawClient(server.port) as client,
    ):
        client.send(GET + b"GET /x HTTP/1.1\r\nHo")
        assert b" 503 " in client.read_head()


def test_an_answer_in_time_is_not_cut_while_it_streams(layer: ChannelLayer) -> None:
    with (
        WebServer(layer, http_timeout=0.3) as server,
        Worker(layer, {"http.request": nothing}) as worker,
        RawClient(server.port) as client,
    ):
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        channel = worker.expect("http.request")["reply_channel"]
        layer.send(channel, {"status": 200, "content": b"one", "more_content": True})
        client.read_head()
        # A second request runs into the timeout after this one should have.
        assert fetch("GET", server.url).status_code == 503
        layer.send(channel, {"content": b"two"})
        assert client.read(19) == b"3\r\none\r\n3\r\ntwo\r\n0\r\n"[:19]


GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def test_a_stream_whose_worker_goes_silent_ends_visibly(layer: ChannelLayer) -> None:
    acks = layer.new_channel("http.ack?")
    part = {"content": b"one", "more_content": True, "ack_channel": acks}
    with (
        WebServer(layer, stream_timeout=0.6) as server,
        Worker(layer, {"http.request": lambda _: [{"status": 200, **part}]}) as worker,
        RawClient(server.port) as client,
    ):
        client.send(GET)
        client.read_head()
        assert client.read_all() == b"3\r\none\r\n"
        server.dropped("silent stream")
        worker.expect("http.disconnect")
        assert layer.receive([acks], timeout=5)[1] == {"acked": 1}
        assert layer.receive([acks], timeout=5)[1] == {"disconnected": True}


def test_a_slow_stream_lives_while_its_worker_sends_parts_even_empty_ones(
    layer: ChannelLayer,
) -> None:
    acks = layer.new_channel("http.ack?")
    part = {"content": b"", "more_content": True, "ack_channel": acks}
    with (
        WebServer(layer, stream_timeout=1.0) as server,
        Worker(layer, {"http.request": nothing}) as worker,
        RawClient(server.port) as client,
    ):
        client.send(GET)
        channel = worker.expect("http.request")["reply_channel"]
        layer.send(channel, {"status": 200, **part})
        client.read_head()
        for _ in range(4):
            assert layer.receive([acks], timeout=5)[1] == {"acked": 1}
            assert layer.receive([acks], timeout=0.5) == (None, None)  # 2 s of silence in all
            layer.send(channel, part)
        layer.send(channel, {"content": b"end"})
        assert client.read(13) == b"3\r\nend\r\n0\r\n\r\n"


def test_a_stream_that_no_worker_is_busy_with_may_be_silent(layer: ChannelLayer) -> None:
    acks = layer.new_channel("http.ack?")

    def begin(message: Message) -> Sequence[Message]:
        part = {"status": 200, "content": b"one", "more_content": True}
        return [part if message["path"] == "/group" else {**part, "ack_channel": acks}]

    with (
        WebServer(layer, stream_timeout=0.3) as server,
        Worker(layer, {"http.request": begin}) as worker,
        RawClient(server.port) as client,
        RawClient(server.port) as other,
    ):
        client.send(GET.replace(b"/", b"/group", 1))
        channel = worker.expect("http.request")["reply_channel"]
        client.read_head()
        # A stream with a worker, begun later, runs into the timeout meanwhile.
        other.send(GET)
        other.read_all()
        layer.send(channel, {"content": b"two"})
        assert client.read(21) == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"


def test_the_time_for_an_answer_begins_when_the_body_is_complete(layer: ChannelLayer) -> None:
    with (
        WebServer(layer, http_timeout=0.4) as server,
        Worker(layer, {"http.request": nothing}) as worker,
        RawClient(server.port) as client,
    ):
        client.send(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 400000\r\n\r\n" + b"x" * 300_000
        )
        message = worker.expect("http.request")
        # Another request, begun later, runs into the timeout while the body is under way.
        assert fetch("GET", server.url).status_code == 503
        client.send(b"x" * 100_000)
        more = True
        while more:
            _, part = layer.receive([message["body_channel"]], timeout=5)
            assert part is not None
            more = part["more_content"]
        layer.send(message["reply_channel"], {"status": 200})
        assert b" 200 " in client.read_head()


@pytest.mark.parametrize("sent", [4, 300_000])
def test_a_body_that_stalls_gets_408(layer: ChannelLayer, sent: int) -> None:
    with (
        WebServer(layer, body_timeout=0.3) as server,
        Worker(layer, {"http.request": nothing}) as worker,
        RawClient(server.port) as client,
    ):
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"x" * sent)
        assert b" 408 " in client.read_head()
        client.read_all()
        server.dropped("stalled body")
        if sent > 4:
            message = worker.expect("http.request")
            assert layer.receive([message["body_channel"]], timeout=5)[1] == {"closed": True}
            worker.expect("http.disconnect")
        else:
            assert not worker.got


def test_a_connect_that_no_worker_answers_gets_503(layer: ChannelLayer) -> None:
    with (
        WebServer(layer, websocket_connect_timeout=0.3) as server,
        Worker(layer, {"websocket.connect": nothing}) as worker,
        RawClient(server.port) as client,
    ):
        client.send(handshake())
        channel = worker.expect("websocket.connect")["reply_channel"]
        assert client.read_head().startswith(b"HTTP/1.1 503 ")
        assert worker.expect("websocket.disconnect")["code"] == 1006
        layer.send(channel, {"accept": True})
        server.dropped("late reply")


def test_a_connection_is_pinged_and_lives_while_it_answers(layer: ChannelLayer) -> None:
    with (
        WebServer(layer, ping_interval=0.2, ping_timeout=0.4) as server,
        Worker(layer),
        RawClient(server.port) as client,
    ):
        client.connect()
        for _ in range(4):
            opcode, payload = client.receive()
            assert opcode == PING
            client.send(frame(PONG, payload))
        client.send(frame(TEXT, b"still here"))
        while (received := client.receive())[0] == PING:
            client.send(frame(PONG, received[1]))
        assert received == (TEXT, b"still here")


def test_a_client_that_does_not_answer_a_ping_is_cut(layer: ChannelLayer) -> None:
    with (
        WebServer(layer, ping_interval=0.2, ping_timeout=0.3) as server,
        Worker(layer) as worker,
        RawClient(server.port) as client,
    ):
        client.connect()
        assert client.receive() == (PING, b"")
        assert worker.expect("websocket.disconnect")["code"] == 1006
        server.dropped("dead peer")
        server.eventually(lambda: not server.server.server_state.connections)


def test_a_ping_interval_of_0_means_never(layer: ChannelLayer, worker: Worker) -> None:
    with (
        WebServer(layer, ping_interval=0, websocket_timeout=0.8) as server,
        RawClient(server.port) as client,
    ):
        client.connect()
        assert client.receive()[0] == CLOSE


def test_a_connection_ends_at_its_longest_life(layer: ChannelLayer, worker: Worker) -> None:
    with WebServer(layer, websocket_timeout=0.4) as server, RawClient(server.port) as client:
        client.connect()
        assert client.receive_close() == (1001, "longest connection time reached; reconnect")
        client.send(frame(CLOSE, b"\x03\xe9"))
        assert client.ended()
        assert worker.expect("websocket.disconnect")["code"] == 1001


def test_an_idle_http_connection_is_closed(layer: ChannelLayer, worker: Worker) -> None:
    with WebServer(layer, keep_alive=1) as server, httpx.Client() as client:
        client.get(server.url)
        server.eventually(lambda: not server.server.server_state.connections)
