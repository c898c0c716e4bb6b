"""HTTP requests: with a real server, sockets and a worker."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from busway.bus.layer import ChannelLayer
from busway.bus.operations import GroupAdd
from interfaces.web.harness import (
    Message,
    RawClient,
    WebServer,
    Worker,
    fetch,
    handshake,
    nothing,
    session,
)


def reply(**fields: object) -> Message:
    return {"status": 200, "headers": [], "content": b"", **fields}


def test_a_request_says_everything_about_itself(server: WebServer, worker: Worker) -> None:
    url = server.url + "/caf%C3%A9?a=1&b=%20"
    response = fetch("PUT", url, content=b"body", headers={"X-Token": "secret"})
    assert response.text == "body"
    message = worker.expect("http.request")
    assert message["method"] == "PUT"
    assert message["path"] == "/café"
    assert message["query_string"] == b"a=1&b=%20"
    assert message["scheme"] == "http"
    assert message["http_version"] == "1.1"
    assert message["root_path"] == ""
    assert message["body"] == b"body"
    assert message["client"][0] == "127.0.0.1"
    assert message["server"] == ["127.0.0.1", server.port]
    assert [b"x-token", b"secret"] in message["headers"]
    assert "body_channel" not in message


def test_a_response_has_the_status_headers_and_content_of_the_reply(
    layer: ChannelLayer, server: WebServer
) -> None:
    whole = reply(status=201, headers=[[b"x-a", b"1"], [b"x-a", b"2"]], content=b"made")
    with Worker(layer, {"http.request": lambda _: [whole]}):
        response = fetch("GET", server.url)
    assert response.status_code == 201
    assert response.headers.get_list("x-a") == ["1", "2"]
    assert response.headers["content-length"] == "4"
    assert response.content == b"made"


def test_requests_follow_each_other_on_a_connection(server: WebServer, worker: Worker) -> None:
    with session() as client:
        for number in range(5):
            assert client.post(server.url, content=b"%d" % number).content == b"%d" % number


def test_pipelined_requests_are_answered_in_order(
    server: WebServer, client: RawClient, worker: Worker
) -> None:
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n%d"
    client.send(request % 1 + request % 2)
    for number in (b"1", b"2"):
        assert b" 200 " in client.read_head()
        assert client.read(1) == number


def test_head_gets_no_content(server: WebServer, worker: Worker) -> None:
    worker.script["http.request"] = lambda _: [reply(content=b"hello")]
    response = fetch("HEAD", server.url)
    assert response.headers["content-length"] == "5"
    assert response.content == b""


@pytest.mark.parametrize("status", [204, 304])
def test_a_bodiless_status_has_no_length(server: WebServer, worker: Worker, status: int) -> None:
    worker.script["http.request"] = lambda _: [reply(status=status)]
    with session() as client:
        for _ in range(2):
            response = client.get(server.url)
            assert response.status_code == status
            assert "content-length" not in response.headers


def test_a_client_that_expects_100_is_told_to_continue(client: RawClient, worker: Worker) -> None:
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert client.read_head() == b"HTTP/1.1 100 Continue"
    client.send(b"hi")
    assert b" 200 " in client.read_head()


# -- streaming ------------------------------------------------------------------------------


def test_a_streamed_response_arrives_as_it_is_sent(layer: ChannelLayer, server: WebServer) -> None:
    with Worker(layer, {"http.request": nothing}) as worker, RawClient(server.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        channel = worker.expect("http.request")["reply_channel"]
        layer.send(channel, reply(content=b"one", more_content=True))
        assert b"\r\ntransfer-encoding: chunked" in client.read_head()
        assert client.read(8) == b"3\r\none\r\n"
        layer.send(channel, {"content": b"two!", "more_content": True})
        assert client.read(9) == b"4\r\ntwo!\r\n"
        layer.send(channel, {"content": b""})
        assert client.read(5) == b"0\r\n\r\n"
    server.eventually(lambda: not server.gateway.connections)


def test_a_response_that_its_worker_gives_up_ends_without_its_end(
    layer: ChannelLayer, server: WebServer
) -> None:
    with Worker(layer, {"http.request": nothing}) as worker, RawClient(server.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        channel = worker.expect("http.request")["reply_channel"]
        layer.send(channel, reply(content=b"one", more_content=True))
        client.read_head()
        assert client.read(8) == b"3\r\none\r\n"
        layer.send(channel, {"abort": True})
        assert client.read_all() == b""
        worker.expect("http.disconnect", reply_channel=channel)
    server.eventually(lambda: not server.gateway.connections)
    assert server.gateway.drops == {"aborted response": 1}


def test_a_request_that_its_worker_gives_up_is_answered_500(
    server: WebServer, worker: Worker
) -> None:
    worker.script["http.request"] = lambda _: [{"abort": True}]
    assert fetch("GET", server.url).status_code == 500


def test_a_body_larger_than_a_chunk_comes_in_parts(layer: ChannelLayer, server: WebServer) -> None:
    body = bytes(range(256)) * 4096  # 1 MiB
    with Worker(layer, {"http.request": nothing}) as worker, ThreadPoolExecutor() as pool:
        posted = pool.submit(fetch, "POST", server.url, content=body)
        message = worker.expect("http.request")
        received = [message["body"]]
        more = True
        while more:
            _, part = layer.receive([message["body_channel"]], timeout=10)
            assert part is not None
            assert part["number"] == len(received)
            received.append(part["content"])
            more = part["more_content"]
        layer.send(message["reply_channel"], reply(content=b"thanks"))
        assert posted.result().text == "thanks"
    assert b"".join(received) == body
    assert max(map(len, received)) == 256 * 1024


def test_a_request_can_be_answered_before_its_body_is_read(
    layer: ChannelLayer, server: WebServer
) -> None:
    with (
        Worker(layer, {"http.request": lambda _: [reply(status=413)]}) as worker,
        RawClient(server.port) as client,
    ):
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
        client.send(b"x" * 300_000)
        worker.expect("http.request")
        assert b" 413 " in client.read_head()
    server.eventually(lambda: server.gateway.bus.idle)


def test_what_is_left_of_a_body_leaves_the_bus_with_its_answer(
    layer: ChannelLayer, server: WebServer
) -> None:
    with (
        Worker(layer, {"http.request": nothing}) as worker,
        RawClient(server.port) as client,
    ):
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n")
        client.send(b"x" * 1_900_000)
        message = worker.expect("http.request")
        channel = message["body_channel"]
        server.eventually(lambda: layer.statistics(channel).messages_pending > 1)
        layer.send(message["reply_channel"], reply(status=413))
        assert b" 413 " in client.read_head()
        server.eventually(lambda: layer.statistics(channel).messages_pending == 0)


# -- the client leaves, the answer comes late -----------------------------------------------


def test_an_answer_may_come_much_later_and_through_a_group(
    layer: ChannelLayer, server: WebServer
) -> None:
    def wait(message: Message) -> Sequence[GroupAdd]:
        return [GroupAdd("news", message["reply_channel"])]

    with Worker(layer, {"http.request": wait}) as worker, ThreadPoolExecutor() as pool:
        polls = [pool.submit(fetch, "GET", server.url) for _ in range(3)]
        for _ in polls:
            worker.expect("http.request")
        server.eventually(lambda: len(layer.group_channels("news")) == 3)
        layer.group_send("news", reply(content=b"it happened"))
        assert [poll.result().text for poll in polls] == ["it happened"] * 3
    server.eventually(lambda: not layer.group_channels("news"))


def test_a_request_that_joins_a_group_with_its_answer_leaves_it(
    layer: ChannelLayer, server: WebServer
) -> None:
    def answer_and_join(message: Message) -> Sequence[Message | GroupAdd]:
        join = GroupAdd("news", message["reply_channel"])
        return [reply(), join] if message["path"] == "/late" else [join, reply()]

    with Worker(layer, {"http.request": answer_and_join}):
        for path in ("/early", "/late"):
            assert fetch("GET", server.url + path).status_code == 200
            server.eventually(lambda: not layer.group_channels("news"))


def test_a_request_that_was_in_no_group_need_not_leave_any(
    server: WebServer, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[str] = []
    monkeypatch.setattr(server.gateway.bus, "leave", left.append)
    for _ in range(3):
        assert fetch("POST", server.url).status_code == 200
    server.eventually(lambda: not server.gateway.connections)
    assert not left


def test_a_client_that_leaves_while_it_waits_is_a_disconnect(
    layer: ChannelLayer, server: WebServer
) -> None:
    with Worker(layer, {"http.request": nothing}) as worker:
        with RawClient(server.port) as client:
            client.send(b"GET /poll HTTP/1.1\r\nHost: x\r\n\r\n")
            channel = worker.expect("http.request")["reply_channel"]
        worker.expect("http.disconnect", reply_channel=channel, path="/poll")
        layer.send(channel, reply())
        server.dropped("late reply")


def test_a_client_that_leaves_within_its_body_is_told_on_both_channels(
    layer: ChannelLayer, server: WebServer
) -> None:
    with Worker(layer, {"http.request": nothing}) as worker:
        with RawClient(server.port) as client:
            client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n")
            client.send(b"x" * 300_000)
            message = worker.expect("http.request")
        assert layer.receive([message["body_channel"]], timeout=10)[1] == {"closed": True}
        worker.expect("http.disconnect", reply_channel=message["reply_channel"])


def test_a_client_that_leaves_within_the_response_is_told_to_the_worker(
    layer: ChannelLayer, server: WebServer
) -> None:
    acks = layer.new_channel("http.ack?")
    with Worker(layer, {"http.request": nothing}) as worker:
        with RawClient(server.port) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            channel = worker.expect("http.request")["reply_channel"]
            layer.send(channel, reply(content=b"1", more_content=True, ack_channel=acks))
            client.read_head()
        assert layer.receive([acks], timeout=10)[1] == {"acked": 1}
        assert layer.receive([acks], timeout=10)[1] == {"disconnected": True}
        worker.expect("http.disconnect", reply_channel=channel)


def test_a_client_that_leaves_before_its_body_is_complete_never_reaches_the_bus(
    server: WebServer, worker: Worker
) -> None:
    with RawClient(server.port) as client:
        client.send(b"POST /lost HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
    assert fetch("GET", server.url + "/next").status_code == 200
    assert [message["path"] for _, message in worker.got] == ["/next"]


# -- bad input ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nBad Name: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nName: a\x00b\r\n\r\n",
    ],
)
def test_malformed_http_is_refused_and_nobody_else_notices(
    server: WebServer, client: RawClient, worker: Worker, data: bytes
) -> None:
    with RawClient(server.port) as other:
        client.send(data)
        assert client.read_all().startswith(b"HTTP/1.1 400 ")
        other.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 " in other.read_head()


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("line", [b"X-Long: " + b"x" * 1000, b"X: y"])
def test_an_oversized_head_is_refused(client: RawClient, complete: bool, line: bytes) -> None:
    lines = (line + b"\r\n") * (70_000 // len(line))
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n" * complete)
    assert b" 431 " in client.read_head()


def test_an_oversized_target_is_refused(client: RawClient) -> None:
    client.send(b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b" 431 " in client.read_head()


def test_a_head_may_come_slowly_but_not_too_slowly(layer: ChannelLayer) -> None:
    with (
        WebServer(layer, websocket_handshake_timeout=0.3) as server,
        RawClient(server.port) as silent,
        RawClient(server.port) as client,
    ):
        client.send(b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConn")
        assert b" 408 " in client.read_head()
        assert b" 408 " in silent.read_head()


def test_header_names_with_an_underscore_are_dropped(
    server: WebServer, client: RawClient, worker: Worker
) -> None:
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\nX_User: root\r\nX-User: guest\r\n\r\n")
    headers = worker.expect("http.request")["headers"]
    assert headers == [[b"host", b"x"], [b"x-user", b"guest"]]


BAD_REPLIES = [
    ({"content": b"x"}, "no 'status' in the first part"),
    ({"status": 200, "body": b"x"}, "unknown key 'body'; expected only status, headers"),
    ({"status": 99}, "status 99; expected a status code from 200 to 599"),
    ({"status": "200"}, "'status' is '200'; expected int"),
    ({"status": 200, "content": "text"}, "'content' is 'text'; expected bytes"),
    ({"status": 200, "headers": [[b"a b", b"c"]]}, "header name b'a b'"),
    ({"status": 200, "headers": [[b"a", b"c\r\nd: e"]]}, "without control bytes"),
    ({"status": 200, "headers": [["a", "b"]]}, "[name, value], both bytes"),
    ({"text": "for a WebSocket"}, "unknown key 'text'"),
]


@pytest.mark.parametrize(("bad", "text"), BAD_REPLIES)
def test_a_bad_reply_is_a_server_error_and_logged(
    layer: ChannelLayer,
    server: WebServer,
    caplog: pytest.LogCaptureFixture,
    bad: Message,
    text: str,
) -> None:
    with Worker(layer, {"http.request": lambda _: [bad]}) as worker:
        assert fetch("GET", server.url + "/page").status_code == 500
        channel = worker.expect("http.request")["reply_channel"]
    (record,) = (r for r in caplog.records if r.name == "busway.web")
    assert f"reply to {channel} (path '/page'): " in record.getMessage()
    assert text in record.getMessage()


def test_a_path_cannot_forge_a_line_of_the_log(
    layer: ChannelLayer, server: WebServer, caplog: pytest.LogCaptureFixture
) -> None:
    bad = {"nonsense": 1}
    with (
        Worker(layer, {"http.request": lambda _: [bad], "websocket.connect": lambda _: [bad]}),
        RawClient(server.port) as client,
    ):
        assert fetch("GET", server.url + "/a%0aERROR%20forged").status_code == 500
        assert b" 500 " in client.connect("/a%0aERROR%20forged")
    lines = [r.getMessage() for r in caplog.records if r.name == "busway.web"]
    assert len(lines) == 2
    for line in lines:
        assert r"(path '/a\nERROR forged'): " in line


@pytest.mark.parametrize("length", [b"1", b"100"])
def test_a_wrong_content_length_is_a_server_error(
    server: WebServer, worker: Worker, length: bytes
) -> None:
    bad = reply(headers=[[b"content-length", length]], content=b"hello")
    worker.script["http.request"] = lambda _: [bad]
    with session() as client:
        assert client.get(server.url).status_code == 500
        assert client.get(server.url).status_code == 500
    server.dropped("bad reply", 2)


@pytest.mark.parametrize("length", [b"6", b"100"])
def test_a_wrong_content_length_does_not_pass_for_a_whole_stream(
    server: WebServer, worker: Worker, length: bytes
) -> None:
    first = reply(headers=[[b"content-length", length]], content=b"hello", more_content=True)
    worker.script["http.request"] = lambda _: [first, {"content": b"world"}]
    with pytest.raises(httpx.RemoteProtocolError):
        fetch("GET", server.url)
    server.dropped("bad reply")


def test_a_bad_part_ends_a_streamed_response_visibly(
    layer: ChannelLayer, server: WebServer, caplog: pytest.LogCaptureFixture
) -> None:
    with Worker(layer, {"http.request": nothing}) as worker, RawClient(server.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        channel = worker.expect("http.request")["reply_channel"]
        layer.send(channel, reply(content=b"begin", more_content=True))
        client.read_head()
        layer.send(channel, {"status": 200})
        assert client.read_all() == b"5\r\nbegin\r\n"
        worker.expect("http.disconnect")
    assert "'status' or 'headers' in a later part" in caplog.text


# -- options --------------------------------------------------------------------------------


def test_the_server_header_is_hidden_or_set(layer: ChannelLayer, worker: Worker) -> None:
    with WebServer(layer) as server:
        assert "server" not in fetch("GET", server.url).headers
    with WebServer(layer, server_name="Mine") as server:
        assert fetch("GET", server.url).headers["server"] == "Mine"


def test_proxy_headers_are_believed_only_when_asked_for(
    layer: ChannelLayer, worker: Worker
) -> None:
    headers = {
        "X-Forwarded-For": "6.6.6.6, 203.0.113.9",
        "X-Forwarded-Port": "1234",
        "X-Forwarded-Proto": "https",
    }
    with WebServer(layer) as server:
        fetch("GET", server.url, headers=headers)
    message = worker.expect("http.request")
    assert (message["client"][0], message["scheme"]) == ("127.0.0.1", "http")
    with WebServer(layer, proxy_headers=True) as server:
        fetch("GET", server.url, headers=headers)
    message = worker.expect("http.request")
    assert (message["client"], message["scheme"]) == (["203.0.113.9", 1234], "https")


def test_the_root_path_goes_into_messages(layer: ChannelLayer, worker: Worker) -> None:
    with WebServer(layer, root_path="/app") as server:
        fetch("GET", server.url + "/app/page")
    message = worker.expect("http.request")
    assert (message["root_path"], message["path"]) == ("/app", "/app/page")


def test_the_access_log_has_a_line_for_each_request(
    layer: ChannelLayer, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "busway.access")
    with WebServer(layer, access_log=True) as server, RawClient(server.port) as client:
        fetch("POST", server.url + "/a b?c=1", content=b"12345")
        client.connect("/socket")
        host, port = client.socket.getsockname()
        client.close()
        worker.expect("websocket.disconnect")
    lines = [r.getMessage() for r in caplog.records if r.name == "busway.access"]
    assert len(lines) == 3
    assert '"POST /a%20b?c=1 HTTP/1.1" 200 5 ' in lines[0]
    assert lines[1] == f'{host}:{port} "WebSocket /socket" connected'
    assert lines[2].startswith(f'{host}:{port} "WebSocket /socket" disconnected 1006 ')


def test_the_access_log_has_a_line_for_each_refusal(
    layer: ChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "busway.access")
    clients: list[str] = []
    with WebServer(layer, access_log=True) as server:
        for data in (
            b"nonsense\r\n\r\n",
            b"GET /twice HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            handshake("/evil", Origin="http://evil.example"),
            handshake("/old", Sec_WebSocket_Version="8"),
        ):
            with RawClient(server.port) as client:
                host, port = client.socket.getsockname()
                clients.append(f"{host}:{port}")
                client.send(data)
                client.read_head()
    lines = [r.getMessage() for r in caplog.records if r.name == "busway.access"]
    assert lines[0] == f'{clients[0]} "-" 400 25'
    assert lines[1].startswith(f'{clients[1]} "GET /twice HTTP/1.1" 400 ')
    assert lines[2] == f'{clients[2]} "WebSocket /evil" denied 403'
    assert lines[3] == f'{clients[3]} "WebSocket -" denied 426'
    assert len(lines) == 4


def test_the_access_log_is_off_by_default(
    layer: ChannelLayer, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with WebServer(layer) as server:
        fetch("GET", server.url)
    assert not [r for r in caplog.records if r.name in ("busway.access", "uvicorn.access")]


def test_more_connections_than_allowed_get_503(layer: ChannelLayer) -> None:
    with (
        WebServer(layer, max_connections=1) as server,
        Worker(layer, {"http.request": nothing}) as worker,
        RawClient(server.port) as first,
    ):
        assert b" 101 " in first.connect()
        assert fetch("GET", server.url).status_code == 503
        with RawClient(server.port) as second:
            assert b" 503 " in second.connect()
        first.close()
        worker.expect("websocket.disconnect")
        with RawClient(server.port) as third:
            assert b" 101 " in third.connect()


def test_a_request_whose_body_is_still_read_counts_as_one(
    layer: ChannelLayer, worker: Worker
) -> None:
    with WebServer(layer, max_connections=1) as server:
        with RawClient(server.port) as slow:
            slow.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n")
            server.eventually(lambda: len(server.gateway.connections) == 1)
            assert fetch("GET", server.url).status_code == 503
            slow.send(b"body")
            assert b" 200 " in slow.read_head()
        with RawClient(server.port) as leaves:
            leaves.send(b"POST /left HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n")
            server.eventually(lambda: len(server.gateway.connections) == 1)
        server.eventually(lambda: not server.gateway.connections)
        assert fetch("GET", server.url).status_code == 200
    assert all(message["path"] != "/left" for _, message in worker.got)


def test_many_requests_at_once_each_get_their_own_answer(server: WebServer, worker: Worker) -> None:
    barrier = threading.Barrier(16)

    def ask(number: int) -> bytes:
        barrier.wait(10)
        return fetch("POST", server.url, content=b"%d" % number).content

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask, range(16))) == [b"%d" % n for n in range(16)]
