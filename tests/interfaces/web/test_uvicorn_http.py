"""HTTP/1.1 on the wire: what a client may send, however odd, and how its connection ends."""

import gc

import pytest

from busway.bus.layer import ChannelLayer
from busway.interfaces.web.uvicorn_http import HTTPProtocol
from interfaces.web.harness import Message, RawClient, WebServer, Worker, handshake, nothing

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


# -- what comes behind a request ------------------------------------------------------------

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("behind", [b"garbage\r\n\r\n", b"GET /x HTTP/1.1\r\nHo", handshake()])
def test_what_cannot_be_served_does_not_spoil_the_answer_before_it(
    layer: ChannelLayer, behind: bytes
) -> None:
    with (
        WebServer(layer, websocket_handshake_timeout=0.3) as server,
        Worker(layer, {"http.request": nothing}) as worker,
        RawClient(server.port) as client,
    ):
        client.send(GET + behind)
        channel = worker.expect("http.request")["reply_channel"]
        layer.send(channel, {"status": 200, "content": b"one", "more_content": True})
        client.read_head()
        with RawClient(server.port) as silent:
            assert b" 408 " in silent.read_head()
        layer.send(channel, {"content": b"two"})
        assert client.read_all() == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"


def test_a_body_that_breaks_off_ends_a_response_that_has_begun(
    layer: ChannelLayer, server: WebServer, client: RawClient
) -> None:
    with Worker(layer, {"http.request": nothing}) as worker:
        client.send(CHUNKED + b"50000\r\n" + b"x" * 0x50000 + b"\r\n")
        channel = worker.expect("http.request")["reply_channel"]
        layer.send(channel, {"status": 200, "content": b"one", "more_content": True})
        client.read_head()
        client.send(b"nonsense")
        assert client.read_all() == b"3\r\none\r\n"
        worker.expect("http.disconnect")


def test_nothing_counts_behind_a_request_that_was_refused(
    layer: ChannelLayer, server: WebServer, client: RawClient
) -> None:
    with Worker(layer, {"http.request": nothing}) as worker:
        client.send(GET + b"garbage\r\n\r\n")
        channel = worker.expect("http.request")["reply_channel"]
        client.send(GET)
        layer.send(channel, {"status": 204})
        assert b" 204 " in client.read_head()
        assert client.ended()
        assert len(worker.got) == 1


def holds_back() -> bool:
    """Say whether a connection's client is so slow that what is for it waits."""
    return any(each.is_full for each in gc.get_objects() if isinstance(each, HTTPProtocol))


def test_a_request_that_was_refused_goes_to_no_worker(layer: ChannelLayer) -> None:
    def respond(message: Message) -> list[Message]:
        return [{"status": 200, "content": b"x" * (900_000 if message["path"] == "/large" else 1)}]

    with (
        WebServer(layer, write_buffer=65_536) as server,
        Worker(layer, {"http.request": respond}) as worker,
        RawClient(server.port, receive_buffer=4096) as client,
    ):

        def wait_for_all() -> None:  # one that comes later is served later
            with RawClient(server.port) as other:
                other.send(GET)
                other.read_head()

        for _ in range(20):
            client.send(GET.replace(b" / ", b" /large "))
            worker.expect("http.request", path="/large")
            wait_for_all()
            if holds_back():
                break
        assert holds_back()
        client.send(b"POST /bad HTTP/1.1\r\nHost: x\r\nHost: y\r\nContent-Length: 5\r\n\r\n")
        wait_for_all()
        client.send(b"hello")
        wait_for_all()
        assert "/bad" not in {message["path"] for _, message in worker.got if "path" in message}


# -- upgrades -------------------------------------------------------------------------------

H2C = b"GET /h2c HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"


def test_an_upgrade_that_is_not_offered_is_ignored_and_requests_go_on(
    client: RawClient, worker: Worker
) -> None:
    client.send(H2C + H2C + GET)
    for path in ("/h2c", "/h2c", "/"):
        assert b" 200 " in client.read_head()
        worker.expect("http.request", path=path)


def test_many_upgrades_at_once_are_as_good_as_one(client: RawClient, worker: Worker) -> None:
    client.send(H2C * 2000)
    for _ in range(2000):
        assert b" 200 " in client.read_head()


def test_http_1_0_knows_no_upgrade(client: RawClient, worker: Worker) -> None:
    client.send(handshake().replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert b" 200 " in client.read_head()
    assert worker.expect("http.request")["http_version"] == "1.0"


# -- the host and the target ----------------------------------------------------------------


@pytest.mark.parametrize("hosts", [b"", b"Host: a\r\nHost: b\r\n", b"Host: a\r\nhost: a\r\n"])
@pytest.mark.parametrize("kind", [b"GET", b"WebSocket"])
def test_a_request_names_its_host_once(
    client: RawClient, worker: Worker, hosts: bytes, kind: bytes
) -> None:
    request = GET if kind == b"GET" else handshake()
    head, _, rest = request.partition(b"Host: ")
    client.send(head + hosts + rest.partition(b"\r\n")[2])
    assert b" 400 " in client.read_head()
    assert not worker.got


def test_http_1_0_need_not_name_a_host(client: RawClient, worker: Worker) -> None:
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    assert b" 200 " in client.read_head()


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"http://a/x?y=1", "/x", b"y=1"),
        (b"http://a:80?y=http://b/", "/", b"y=http://b/"),
        (b"http://a", "/", b""),
        (b"//a/x", "//a/x", b""),
        (b"/x?y#z", "/x", b"y"),
        (b"*", "*", b""),
    ],
)
def test_a_target_is_a_path_or_a_whole_url(
    client: RawClient, worker: Worker, target: bytes, path: str, query: bytes
) -> None:
    client.send(GET.replace(b"/", target, 1))
    message = worker.expect("http.request")
    assert (message["path"], message["query_string"]) == (path, query)
    client.read_head()
    client.send(handshake().replace(b"/", target, 1))
    message = worker.expect("websocket.connect")
    assert (message["path"], message["query_string"]) == (path, query)


# -- a line of requests ---------------------------------------------------------------------

POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"


def test_many_bad_requests_in_line_are_answered_each(
    layer: ChannelLayer, server: WebServer, client: RawClient
) -> None:
    with Worker(layer, {"http.request": nothing}) as worker:
        client.send(GET + b"GET / HTTP/1.1\r\n\r\n" * 2000 + GET)
        channel = worker.expect("http.request")["reply_channel"]
        layer.send(channel, {"status": 204})
        assert b" 204 " in client.read_head()
        for _ in range(2000):
            assert b" 400 " in client.read_head()
            client.read(len("A request names its host once."))
        worker.expect("http.request")


def test_a_request_in_line_is_told_to_continue_when_its_turn_comes(
    layer: ChannelLayer, server: WebServer, client: RawClient
) -> None:
    with Worker(layer, {"http.request": nothing}) as worker:
        client.send(GET + (POST % 2).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        for body in (b"", b"hi"):
            message = worker.expect("http.request", body=body)
            layer.send(message["reply_channel"], {"status": 204})
            assert b" 204 " in client.read_head()
            if not body:
                assert client.read_head() == b"HTTP/1.1 100 Continue"
                client.send(b"hi")


def test_a_client_that_may_not_continue_has_to_begin_anew(
    client: RawClient, worker: Worker
) -> None:
    # Whether a body or the next request follows, only the client knows.
    client.send(b"POST / HTTP/1.1\r\nContent-Length: 50\r\nExpect: 100-continue\r\n\r\n")
    head = client.read_head()
    assert b" 400 " in head
    assert b"\r\nconnection: close" in head
    assert client.read_all() == b"A request names its host once."
    assert not worker.got


def test_a_client_that_asks_ahead_is_not_read_further(
    layer: ChannelLayer, server: WebServer, client: RawClient
) -> None:
    with Worker(layer, {"http.request": nothing}) as worker:
        client.send(GET + POST % 40_000_000)
        channel = worker.expect("http.request")["reply_channel"]
        client.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.send(b"x" * 40_000_000)  # more than all buffers on the way
        layer.send(channel, {"status": 204})
        assert b" 204 " in client.read_head()
        worker.expect("http.request", method="POST")


def test_a_response_can_end_the_connection_before_the_requests_behind_it(
    layer: ChannelLayer, server: WebServer, client: RawClient
) -> None:
    reply = {"status": 204, "headers": [[b"Connection", b"close"]]}
    with Worker(layer, {"http.request": lambda _: [reply]}) as worker:
        client.send(GET * 3)
        assert b"\r\nconnection: close" in client.read_head()
        assert client.ended()
        assert len(worker.got) == 1


def test_a_whole_request_behind_which_the_client_says_close_is_the_last(
    client: RawClient, worker: Worker
) -> None:
    client.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + GET)
    assert b"\r\nconnection: close" in client.read_head()
    assert client.ended()
    assert len(worker.got) == 1


@pytest.mark.parametrize("behind", [GET, b"garbage\r\n\r\n", handshake()])
@pytest.mark.parametrize(
    ("start", "status", "text"),
    [
        (b"GET *x HTTP/1.1", b" 400 ", b"The request's target is no path."),
        (b"CONNECT x:80 HTTP/1.1", b" 501 ", b"This server is no proxy."),
        (b"CONNECT / HTTP/1.1", b" 501 ", b"This server is no proxy."),
    ],
)
def test_nothing_counts_behind_what_is_no_request_for_this_server(
    server: WebServer,
    client: RawClient,
    worker: Worker,
    behind: bytes,
    start: bytes,
    status: bytes,
    text: bytes,
) -> None:
    client.send(start + b"\r\nHost: x\r\n\r\n" + behind)
    assert status in client.read_head()
    assert client.read_all() == text
    with RawClient(server.port) as other:
        other.send(GET)
        other.read_head()
    assert [channel for channel, _ in worker.got] == ["http.request"]


def test_http_1_0_gets_a_stream_without_chunks(layer: ChannelLayer, server: WebServer) -> None:
    parts: list[Message] = [
        {"status": 200, "content": b"one", "more_content": True},
        {"content": b"two"},
    ]
    with Worker(layer, {"http.request": lambda _: parts}), RawClient(server.port) as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert b"transfer-encoding" not in client.read_head()
        assert client.read_all() == b"onetwo"


# -- a body that nobody reads ---------------------------------------------------------------


def test_a_connection_goes_on_behind_a_body_that_was_not_read(
    layer: ChannelLayer, server: WebServer, client: RawClient
) -> None:
    with Worker(layer, {"http.request": lambda _: [{"status": 413}]}):
        client.send(POST % 3_000_000 + b"x" * 1_000_000)
        assert b" 413 " in client.read_head()
        client.send(b"x" * 2_000_000 + GET)
        assert b" 413 " in client.read_head()


@pytest.mark.parametrize("version", [b"1.0", b"1.1\r\nConnection: close"])
def test_a_client_may_send_all_of_a_body_before_it_reads_the_last_answer(
    layer: ChannelLayer, server: WebServer, client: RawClient, version: bytes
) -> None:
    with Worker(layer, {"http.request": lambda _: [{"status": 413}]}) as worker:
        client.send((POST % 40_000_000).replace(b"1.1", version) + b"x" * 1_000_000)
        worker.expect("http.request")
        client.send(b"x" * 39_000_000)  # more than all buffers on the way
        assert b" 413 " in client.read_head()
        assert client.ended()
    client.close()
    server.eventually(lambda: not server.server.server_state.connections)


def test_a_client_has_only_so_much_time_for_a_body_that_nobody_reads(layer: ChannelLayer) -> None:
    with (
        WebServer(layer, body_timeout=0.3) as server,
        Worker(layer, {"http.request": lambda _: [{"status": 413}]}),
        RawClient(server.port) as client,
    ):
        client.send(POST % 3_000_000 + b"x" * 1_000_000)
        assert b" 413 " in client.read_head()
        assert client.ended()


def test_a_body_that_breaks_off_behind_its_answer_is_not_answered_again(
    layer: ChannelLayer, server: WebServer, client: RawClient
) -> None:
    with Worker(layer, {"http.request": lambda _: [{"status": 413}]}):
        client.send(CHUNKED + b"50000\r\n" + b"x" * 0x50000 + b"\r\n")
        assert b" 413 " in client.read_head()
        client.send(b"nonsense\r\n")
        assert client.ended()


# -- time -----------------------------------------------------------------------------------


def test_a_request_that_takes_long_is_not_an_idle_connection(layer: ChannelLayer) -> None:
    with (
        WebServer(layer, keep_alive=0.3, websocket_handshake_timeout=0.3) as server,
        Worker(layer, {"http.request": nothing}) as worker,
        RawClient(server.port) as client,
    ):
        client.send(GET)
        channel = worker.expect("http.request")["reply_channel"]
        for _ in range(2):
            with RawClient(server.port) as clock:
                assert b" 408 " in clock.read_head()
        layer.send(channel, {"status": 204})
        assert b" 204 " in client.read_head()
        assert client.ended()


def test_every_request_gets_the_time_of_an_idle_connection_anew(layer: ChannelLayer) -> None:
    with (
        WebServer(layer, keep_alive=1.0, websocket_handshake_timeout=0.3) as server,
        Worker(layer),
        RawClient(server.port) as client,
    ):
        for _ in range(5):
            client.send(GET)
            assert b" 200 " in client.read_head()
            with RawClient(server.port) as clock:
                assert b" 408 " in clock.read_head()
        assert client.ended()
