"""WebSockets: from handshake to close, with a real server, sockets and a worker."""

import struct
from collections.abc import Sequence

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from busway.bus.layer import ChannelLayer
from busway.bus.operations import GroupAdd, Send
from busway.interfaces.web.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT
from interfaces.web.harness import (
    Message,
    RawClient,
    WebServer,
    Worker,
    accept,
    frame,
    handshake,
    nothing,
)


def test_text_and_bytes_go_to_the_worker_and_back(server: WebServer, worker: Worker) -> None:
    with connect(server.ws_url + "/") as client:
        client.send("héllo")
        assert client.recv() == "héllo"
        client.send(b"\x00\xff")
        assert client.recv() == b"\x00\xff"


def test_a_connect_says_everything_about_the_handshake(server: WebServer, worker: Worker) -> None:
    with RawClient(server.port) as client:
        client.connect("/room/caf%C3%A9/?a=1&b=%20", X_Colour="green")
        message = worker.expect("websocket.connect")
        host, port = client.socket.getsockname()
    assert message["path"] == "/room/café/"
    assert message["query_string"] == b"a=1&b=%20"
    assert message["scheme"] == "ws"
    assert message["http_version"] == "1.1"
    assert message["root_path"] == ""
    assert message["client"] == [host, port]
    assert message["server"] == ["127.0.0.1", server.port]
    assert message["subprotocols"] == []
    assert message["order"] == 0
    assert message["reply_channel"].startswith(server.gateway.prefix)
    assert [b"x-colour", b"green"] in message["headers"]


def test_order_counts_every_message_of_a_connection(server: WebServer, worker: Worker) -> None:
    with connect(server.ws_url + "/path") as client:
        client.send("one")
        client.send("two")
    for order, name in enumerate(("connect", "receive", "receive", "disconnect")):
        message = worker.expect(f"websocket.{name}")
        assert (message["order"], message["path"]) == (order, "/path")


# -- the handshake --------------------------------------------------------------------------


def test_a_handshake_waits_for_the_worker(layer: ChannelLayer, server: WebServer) -> None:
    with RawClient(server.port) as client, Worker(layer, {"websocket.connect": nothing}) as worker:
        client.send(handshake())
        channel = worker.expect("websocket.connect")["reply_channel"]
        client.socket.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.socket.recv(1)
        client.socket.settimeout(10)
        layer.send(channel, {"accept": True, "headers": [[b"x-extra", b"yes"]]})
        head = client.read_head()
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in head
    assert b"\r\nx-extra: yes" in head


@pytest.mark.parametrize("reply", [{"accept": False}, {"close": True}, {"close": 4001}])
def test_a_denied_handshake_is_forbidden(
    layer: ChannelLayer, server: WebServer, reply: Message
) -> None:
    with RawClient(server.port) as client, Worker(layer, {"websocket.connect": lambda _: [reply]}):
        assert client.connect().startswith(b"HTTP/1.1 403 ")
        client.read_all()
    assert not server.gateway.connections


def test_a_denial_may_have_a_status_headers_and_content(
    layer: ChannelLayer, server: WebServer
) -> None:
    reply = {
        "accept": False,
        "status": 401,
        "headers": [[b"www-authenticate", b"Basic"], [b"content-type", b"text/html"]],
        "content": b"<p>Who are you?",
    }
    with RawClient(server.port) as client, Worker(layer, {"websocket.connect": lambda _: [reply]}):
        head = client.connect()
        assert client.read_all() == b"<p>Who are you?"
    assert head.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    assert b"\r\nwww-authenticate: Basic\r\n" in head
    assert b"\r\ncontent-type: text/html\r\n" in head
    assert b"\r\ncontent-length: 15\r\n" in head


def test_the_first_message_accepts(layer: ChannelLayer, server: WebServer) -> None:
    def greet(_: Message) -> Sequence[Message]:
        return [{"text": "welcome"}]

    with Worker(layer, {"websocket.connect": greet}), connect(server.ws_url) as client:
        assert client.recv() == "welcome"


@pytest.mark.parametrize("reply", [{}, {"text": None}, {"accept": None, "close": False}])
def test_a_reply_that_says_nothing_does_not_accept(
    layer: ChannelLayer, server: WebServer, client: RawClient, reply: Message
) -> None:
    script = {"websocket.connect": lambda _: [reply, {"accept": False}]}
    with Worker(layer, script):
        assert client.connect().startswith(b"HTTP/1.1 403 ")


def test_a_denial_that_does_not_say_so_is_an_error(
    layer: ChannelLayer, server: WebServer, client: RawClient
) -> None:
    reply = {"status": 404, "content": b"nope"}
    with Worker(layer, {"websocket.connect": lambda _: [reply]}):
        assert client.connect().startswith(b"HTTP/1.1 500 ")


def test_a_message_and_a_close_in_one_reply_are_done_in_this_order(
    layer: ChannelLayer, server: WebServer
) -> None:
    def refuse(_: Message) -> Sequence[Message]:
        return [{"text": "full", "close": 4000, "reason": "come back later"}]

    with Worker(layer, {"websocket.connect": refuse}), connect(server.ws_url) as client:
        assert client.recv() == "full"
        with pytest.raises(ConnectionClosed) as closed:
            client.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "come back later")


def test_frames_that_come_before_the_accept_are_held(
    layer: ChannelLayer, server: WebServer
) -> None:
    script = {"websocket.connect": nothing}
    with RawClient(server.port) as client, Worker(layer, script) as worker:
        client.send(handshake() + frame(TEXT, b"early"))
        channel = worker.expect("websocket.connect")["reply_channel"]
        client.send(frame(TEXT, b"later"))
        layer.send(channel, {"accept": True})
        assert worker.expect("websocket.receive")["text"] == "early"
        assert worker.expect("websocket.receive")["text"] == "later"
        client.read_head()
        assert client.receive() == (TEXT, b"early")
        assert client.receive() == (TEXT, b"later")


def test_a_client_that_leaves_before_the_accept_is_a_disconnect(
    layer: ChannelLayer, server: WebServer
) -> None:
    with Worker(layer, {"websocket.connect": nothing}) as worker:
        with RawClient(server.port) as client:
            client.send(handshake())
            worker.expect("websocket.connect")
        assert worker.expect("websocket.disconnect")["code"] == 1006


def test_a_denied_connect_is_no_disconnect(layer: ChannelLayer, server: WebServer) -> None:
    def by_path(message: Message) -> Sequence[Message]:
        return [{"accept": message["path"] == "/in"}]

    with Worker(layer, {"websocket.connect": by_path}) as worker:
        with RawClient(server.port) as client:
            client.connect("/out")
        with connect(server.ws_url + "/in"):
            pass
        assert worker.expect("websocket.disconnect")["path"] == "/in"
        assert [m["path"] for name, m in worker.got if name == "websocket.disconnect"] == ["/in"]


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (b"426", {"Sec_WebSocket_Version": "8"}),
        (b"400", {"Sec_WebSocket_Key": "short"}),
        (b"400", {"Sec_WebSocket_Key": ""}),
        (b"400", {"Content_Length": "5"}),
        (b"400", {"Transfer_Encoding": "chunked"}),
    ],
)
def test_a_wrong_handshake_is_refused(
    client: RawClient, status: bytes, headers: dict[str, str]
) -> None:
    assert client.connect(**headers).split()[1] == status


def test_a_handshake_may_say_that_it_has_no_body(client: RawClient, worker: Worker) -> None:
    assert b" 101 " in client.connect(Content_Length="0")


def test_a_handshake_with_post_is_refused(client: RawClient) -> None:
    client.send(handshake().replace(b"GET", b"POST"))
    assert b" 405 " in client.read_head()


@pytest.mark.parametrize(
    ("origin", "allowed", "status"),
    [
        ("", (), b"101"),
        ("http://testserver", (), b"101"),
        ("https://testserver:443", (), b"101"),
        ("http://evil.example", (), b"403"),
        ("http://testserver.evil.example", (), b"403"),
        ("null", (), b"403"),
        ("https://app.example", ("https://app.example",), b"101"),
        ("http://evil.example", ("*",), b"101"),
    ],
)
def test_only_pages_of_the_same_or_an_allowed_origin_connect(
    layer: ChannelLayer, worker: Worker, origin: str, allowed: tuple[str, ...], status: bytes
) -> None:
    with (
        WebServer(layer, allowed_origins=allowed) as server,
        RawClient(server.port) as client,
    ):
        assert client.connect(Origin=origin).split()[1] == status


def test_a_group_message_accepts_nobody(
    layer: ChannelLayer, server: WebServer, client: RawClient
) -> None:
    def join(message: Message) -> Sequence[GroupAdd]:
        return [GroupAdd("room", message["reply_channel"])]

    with Worker(layer, {"websocket.connect": join}) as worker:
        client.send(handshake())
        channel = worker.expect("websocket.connect")["reply_channel"]
        server.eventually(lambda: layer.group_channels("room") == [channel])
        for message in ({"text": "secret"}, {"close": True}, {"accept": True}, {"nonsense": 1}):
            layer.group_send("room", message)
        server.dropped("group message before accept", 4)
        layer.send(channel, {"accept": True})
        assert b" 101 " in client.read_head()
        layer.group_send("room", {"text": "public"})
        assert client.receive() == (TEXT, b"public")


# -- subprotocols ---------------------------------------------------------------------------


def test_the_consumer_chooses_a_subprotocol(layer: ChannelLayer, server: WebServer) -> None:
    def choose(message: Message) -> Sequence[Message]:
        return [{"accept": True, "subprotocol": message["subprotocols"][1]}]

    offered = [Subprotocol("one"), Subprotocol("two")]
    with (
        Worker(layer, {"websocket.connect": choose}),
        connect(server.ws_url, subprotocols=offered) as client,
    ):
        assert client.subprotocol == "two"


def test_the_server_chooses_among_its_own_subprotocols(layer: ChannelLayer, worker: Worker) -> None:
    offered = [Subprotocol(name) for name in ("other", "second", "first")]
    with WebServer(layer, ws_protocols=("first", "second")) as server:
        with connect(server.ws_url, subprotocols=offered) as client:
            assert client.subprotocol == "first"
        assert worker.expect("websocket.connect")["subprotocols"] == ["first", "second"]


def test_a_subprotocol_that_was_not_offered_is_an_error(
    layer: ChannelLayer, server: WebServer, caplog: pytest.LogCaptureFixture
) -> None:
    reply = {"accept": True, "subprotocol": "mine"}
    with RawClient(server.port) as client, Worker(layer, {"websocket.connect": lambda _: [reply]}):
        assert b" 500 " in client.connect()
    assert "subprotocol 'mine'; expected one that the client offers: it offers none" in caplog.text


# -- frames ---------------------------------------------------------------------------------


def test_a_fragmented_message_arrives_whole(client: RawClient, worker: Worker) -> None:
    client.connect()
    client.send(frame(TEXT, b"one ", final=False))
    client.send(frame(PING, b"in between"))
    client.send(frame(CONTINUATION, b"message"))
    assert client.receive() == (PONG, b"in between")
    assert client.receive() == (TEXT, b"one message")


def test_a_ping_is_answered_with_its_payload(client: RawClient, worker: Worker) -> None:
    client.connect()
    client.send(frame(PING, b"are you there"))
    assert client.receive() == (PONG, b"are you there")


def test_a_ping_behind_the_close_is_not_answered(
    layer: ChannelLayer, server: WebServer, client: RawClient
) -> None:
    with Worker(layer, {"websocket.receive": lambda _: [{"close": True}]}):
        client.connect()
        client.send(frame(TEXT, b"bye"))
        assert client.receive_close() == (1000, "")
        # A client that reads nothing could otherwise fill the memory with answers.
        client.send(frame(PING, b"late") + frame(CLOSE, b"\x03\xe8"))
        assert client.ended()


def test_messages_up_to_the_limit_pass(layer: ChannelLayer, worker: Worker) -> None:
    with WebServer(layer, max_message_size=100_000) as server, RawClient(server.port) as client:
        client.connect()
        client.send(frame(BINARY, b"x" * 100_000))
        assert client.receive() == (BINARY, b"x" * 100_000)


@pytest.mark.parametrize(
    ("code", "data"),
    [
        (1002, frame(TEXT, b"not masked", mask=None)),
        (1002, frame(CONTINUATION, b"of nothing")),
        (1007, frame(TEXT, b"\xc3\x28")),
        (1009, frame(BINARY, b"x" * 1_000_001)),
    ],
)
def test_a_client_that_breaks_the_protocol_is_told_and_closed(
    client: RawClient, worker: Worker, code: int, data: bytes
) -> None:
    client.connect()
    client.send(frame(TEXT, b"before") + data)
    received, reason = client.receive_close()
    assert received == code
    assert reason
    assert client.ended()
    assert worker.expect("websocket.receive")["text"] == "before"
    message = worker.expect("websocket.disconnect")
    assert (message["code"], message["reason"]) == (code, reason)


def test_a_message_too_big_for_the_bus_closes_with_1009(layer: ChannelLayer) -> None:
    layer.message_size = 2000
    with (
        WebServer(layer) as server,
        RawClient(server.port) as client,
        RawClient(server.port) as other,
        Worker(layer),
    ):
        client.connect()
        other.connect()
        client.send(frame(TEXT, b"x" * 3000))
        other.send(frame(TEXT, b"unharmed"))
        assert client.receive_close()[0] == 1009
        assert other.receive() == (TEXT, b"unharmed")


# -- the end --------------------------------------------------------------------------------

CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999]


@pytest.mark.parametrize("code", CODES)
def test_a_clients_close_code_and_reason_reach_the_worker(
    client: RawClient, worker: Worker, code: int
) -> None:
    client.connect()
    payload = struct.pack("!H", code) + "à bientôt".encode()
    client.send(frame(CLOSE, payload))
    assert client.receive() == (CLOSE, payload)
    assert client.ended()
    message = worker.expect("websocket.disconnect")
    assert (message["code"], message["reason"]) == (code, "à bientôt")


@pytest.mark.parametrize("code", CODES)
def test_a_workers_close_code_and_reason_reach_the_client(
    layer: ChannelLayer, client: RawClient, worker: Worker, code: int
) -> None:
    client.connect()
    channel = worker.expect("websocket.connect")["reply_channel"]
    layer.send(channel, {"close": code, "reason": "à bientôt"})
    assert client.receive_close() == (code, "à bientôt")
    client.send(frame(CLOSE, struct.pack("!H", code)))
    assert client.ended()
    message = worker.expect("websocket.disconnect")
    assert (message["code"], message["reason"]) == (code, "à bientôt")


def test_close_without_a_code_is_1000(
    layer: ChannelLayer, client: RawClient, worker: Worker
) -> None:
    client.connect()
    layer.send(worker.expect("websocket.connect")["reply_channel"], {"close": True})
    assert client.receive_close() == (1000, "")


def test_an_empty_close_frame_is_answered_and_1005(client: RawClient, worker: Worker) -> None:
    client.connect()
    client.send(frame(CLOSE))
    assert client.receive() == (CLOSE, b"")
    assert worker.expect("websocket.disconnect")["code"] == 1005


def test_a_lost_connection_is_1006(client: RawClient, worker: Worker) -> None:
    client.connect()
    client.close()
    assert worker.expect("websocket.disconnect")["code"] == 1006


def test_what_a_client_sends_after_a_close_is_not_delivered(
    layer: ChannelLayer, client: RawClient, worker: Worker
) -> None:
    client.connect()
    layer.send(worker.expect("websocket.connect")["reply_channel"], {"close": True})
    client.receive_close()
    client.send(frame(TEXT, b"too late") + frame(CLOSE))
    assert client.ended()
    worker.expect("websocket.disconnect")
    assert all(name != "websocket.receive" for name, _ in worker.got)


def test_a_client_that_does_not_answer_a_close_is_cut(layer: ChannelLayer, worker: Worker) -> None:
    with (
        WebServer(layer, websocket_close_timeout=0.2) as server,
        RawClient(server.port) as client,
    ):
        client.connect()
        layer.send(worker.expect("websocket.connect")["reply_channel"], {"close": True})
        client.receive_close()
        assert client.ended()


def test_a_reply_after_the_end_is_counted(
    layer: ChannelLayer, server: WebServer, worker: Worker
) -> None:
    with connect(server.ws_url):
        channel = worker.expect("websocket.connect")["reply_channel"]
    worker.expect("websocket.disconnect")
    layer.send(channel, {"text": "anybody there?"})
    server.dropped("late reply")


# -- replies that cannot be carried out -----------------------------------------------------

BAD_REPLIES = [
    ({"text": "a", "bytes": b"b"}, "both 'text' and 'bytes'"),
    ({"txet": "a"}, "unknown key 'txet'; expected only accept, "),
    ({"text": b"bytes"}, "'text' is b'bytes'; expected str or None"),
    ({"close": 1005}, "close code 1005"),
    ({"close": 999}, "close code 999"),
    ({"accept": "yes"}, "'accept' is 'yes'; expected bool or None"),
    ({"accept": True, "headers": [[b"x", b"a\r\nb: c"]]}, "without control bytes"),
]


@pytest.mark.parametrize(("reply", "text"), BAD_REPLIES)
def test_a_bad_reply_closes_with_1011_and_is_logged(
    layer: ChannelLayer,
    client: RawClient,
    worker: Worker,
    caplog: pytest.LogCaptureFixture,
    reply: Message,
    text: str,
) -> None:
    client.connect("/the/path")
    channel = worker.expect("websocket.connect")["reply_channel"]
    layer.send(channel, reply)
    assert client.receive_close() == (1011, "internal error")
    assert worker.expect("websocket.disconnect")["code"] == 1011
    (record,) = caplog.records
    assert f"reply to {channel} (path '/the/path'): " in record.getMessage()
    assert text in record.getMessage()


@pytest.mark.parametrize(("reply", "text"), BAD_REPLIES)
def test_a_bad_reply_to_a_handshake_is_a_server_error(
    layer: ChannelLayer,
    server: WebServer,
    caplog: pytest.LogCaptureFixture,
    reply: Message,
    text: str,
) -> None:
    with RawClient(server.port) as client, Worker(layer, {"websocket.connect": lambda _: [reply]}):
        assert client.connect().startswith(b"HTTP/1.1 500 ")
    assert text in caplog.text


# -- groups ---------------------------------------------------------------------------------


def join(message: Message) -> Sequence[Message | GroupAdd]:
    return [{"accept": True}, GroupAdd("room", message["reply_channel"])]


def test_a_group_message_reaches_every_member_and_nobody_else(
    layer: ChannelLayer, server: WebServer
) -> None:
    script = {"websocket.connect": lambda m: (join if m["path"] == "/in" else accept)(m)}
    with Worker(layer, script) as worker:
        members = [RawClient(server.port) for _ in range(10)]
        with RawClient(server.port) as other:
            for member in members:
                member.connect("/in")
                worker.expect("websocket.connect")
            other.connect("/out")
            layer.group_send("room", {"text": "to all"})
            layer.group_send("room", {"bytes": b"\x01"})
            for member in members:
                assert member.receive() == (TEXT, b"to all")
                assert member.receive() == (BINARY, b"\x01")
                member.close()
            other.send(frame(PING, b"last"))
            assert other.receive() == (PONG, b"last")


def test_a_group_message_can_close_its_members(layer: ChannelLayer, server: WebServer) -> None:
    with Worker(layer, {"websocket.connect": join}), connect(server.ws_url) as client:
        layer.group_send("room", {"text": "time is up", "close": 4000})
        assert client.recv() == "time is up"
        with pytest.raises(ConnectionClosed):
            client.recv()


def test_a_bad_group_message_closes_its_members(
    layer: ChannelLayer, server: WebServer, caplog: pytest.LogCaptureFixture
) -> None:
    with Worker(layer, {"websocket.connect": join}) as worker, RawClient(server.port) as client:
        client.connect()
        worker.expect("websocket.connect")
        layer.group_send("room", {"nonsense": 1})
        assert client.receive_close()[0] == 1011
    assert "unknown key 'nonsense'" in caplog.text


def test_a_connection_that_ends_leaves_its_groups(layer: ChannelLayer, server: WebServer) -> None:
    with Worker(layer, {"websocket.connect": join}) as worker:
        with connect(server.ws_url):
            worker.expect("websocket.connect")
            server.eventually(lambda: len(layer.group_channels("room")) == 1)
        worker.expect("websocket.disconnect")
        server.eventually(lambda: not layer.group_channels("room"))


def test_one_that_joins_a_group_after_its_end_is_taken_out_again(
    layer: ChannelLayer, server: WebServer, worker: Worker
) -> None:
    with connect(server.ws_url):
        channel = worker.expect("websocket.connect")["reply_channel"]
    worker.expect("websocket.disconnect")
    layer.group_add("room", channel)
    server.eventually(lambda: not layer.group_channels("room"))


def test_frames_of_a_burst_keep_their_order(client: RawClient, worker: Worker) -> None:
    client.connect()
    channel = worker.expect("websocket.connect")["reply_channel"]
    receiver = worker.layer.receiver()
    receiver.exchange([Send(channel, {"text": str(n)}) for n in range(300)])
    receiver.close()
    assert [client.receive() for _ in range(300)] == [(TEXT, b"%d" % n) for n in range(300)]
