"""Flow control: a full bus, slow clients, large bodies; nothing is lost and memory is bounded."""

import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import pytest

from busway.bus.layer import ChannelLayer
from busway.bus.memory import MemoryChannelLayer
from busway.bus.operations import GroupAdd, Send
from busway.interfaces.web.frames import CLOSE, TEXT
from busway.interfaces.web.options import CHUNK, WINDOW
from busway.interfaces.web.uvicorn_http import HTTPProtocol
from interfaces.web.harness import (
    PATIENCE,
    Message,
    RawClient,
    WebServer,
    Worker,
    accept,
    echo,
    fetch,
    frame,
    handshake,
    nothing,
)

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"

# -- a full bus -----------------------------------------------------------------------------


def test_a_request_that_finds_no_room_gets_503_and_when_to_retry() -> None:
    layer = MemoryChannelLayer(policies={"http.request": {"capacity": 1}})
    with WebServer(layer) as server, RawClient(server.port) as first:
        first.send(GET)
        server.eventually(lambda: layer.statistics("http.request").messages_pending == 1)
        response = fetch("GET", server.url)
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        with Worker(layer):
            assert b" 200 " in first.read_head()
            assert fetch("GET", server.url).status_code == 200
        assert server.gateway.drops["refused request"] == 1
    layer.close()


def test_a_connect_that_finds_no_room_gets_503_in_the_handshake() -> None:
    layer = MemoryChannelLayer(policies={"websocket.connect": {"capacity": 1}})
    with (
        WebServer(layer) as server,
        RawClient(server.port) as first,
        RawClient(server.port) as second,
    ):
        first.send(handshake())
        server.eventually(lambda: layer.statistics("websocket.connect").messages_pending == 1)
        head = second.connect()
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: 1\r\n" in head
        with Worker(layer) as worker:
            assert b" 101 " in first.read_head()
            assert [name for name, _ in worker.got] == ["websocket.connect"]
        assert server.gateway.drops["refused connect"] == 1
    layer.close()


def test_frames_that_find_no_room_wait_and_arrive_in_order() -> None:
    layer = MemoryChannelLayer(capacity=3, lane_capacity=3)
    gate = threading.Event()

    def slowly(message: Message) -> Sequence[Message]:
        gate.wait(PATIENCE)
        return echo(message)

    with (
        WebServer(layer) as server,
        Worker(layer, {"websocket.receive": slowly}) as worker,
        RawClient(server.port) as client,
    ):
        client.connect()
        client.send(b"".join(frame(TEXT, b"%d" % number) for number in range(200)))
        server.eventually(lambda: layer.statistics("websocket.receive").channel_full_count > 0)
        client.send(frame(CLOSE, b"\x03\xe8"))
        gate.set()
        for order in range(1, 201):
            message = worker.expect("websocket.receive")
            assert (message["order"], message["text"]) == (order, str(order - 1))
        assert worker.expect("websocket.disconnect")["order"] == 201
    layer.close()


def test_reading_stops_while_the_bus_has_no_room() -> None:
    layer = MemoryChannelLayer(capacity=2, lane_capacity=2)
    data = frame(TEXT, b"x" * 60_000)
    options = {"max_message_size": 100_000, "shutdown_timeout": 0.1}
    with WebServer(layer, **options) as server, RawClient(server.port) as client:
        with Worker(layer):
            client.connect()
        client.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.send(data * 1000)  # 60 MB, more than all buffers on the way
        (connection,) = server.gateway.connections.values()
        waiting = getattr(connection, "waiting", None)
        assert waiting is not None
        assert len(waiting) < 20
    layer.close()


def test_one_full_lane_stops_nobody_else() -> None:
    layer = MemoryChannelLayer(lane_capacity=2)
    release = threading.Event()

    def stuck(message: Message) -> Sequence[Message]:
        if message["path"] == "/stuck":
            release.wait(PATIENCE)
        return echo(message)

    with (
        WebServer(layer) as server,
        Worker(layer, {"websocket.receive": stuck}, batch=1) as first,
        Worker(layer, {"websocket.receive": stuck}, batch=1) as second,
        RawClient(server.port) as stuck_client,
        RawClient(server.port) as other,
    ):
        stuck_client.connect("/stuck")
        other.connect("/free")
        stuck_client.send(b"".join(frame(TEXT, b"%d" % n) for n in range(50)))
        server.eventually(lambda: layer.statistics("websocket.receive").channel_full_count > 0)
        for number in range(50):
            other.send(frame(TEXT, b"%d" % number))
            assert other.receive() == (TEXT, b"%d" % number)
        release.set()
        assert [stuck_client.receive()[1] for _ in range(50)] == [b"%d" % n for n in range(50)]
        orders = [
            message["order"]
            for name, message in first.got + second.got
            if name == "websocket.receive" and message["path"] == "/stuck"
        ]
        assert sorted(orders) == list(range(1, 51))
    layer.close()


def test_disconnects_that_find_no_room_are_not_lost() -> None:
    layer = MemoryChannelLayer(policies={"*.disconnect": {"capacity": 2}})
    with WebServer(layer) as server:
        with Worker(layer, {"http.request": nothing}) as worker:
            clients = [RawClient(server.port) for _ in range(20)]
            for client in clients[:10]:
                client.connect()
            for client in clients[10:]:
                client.send(GET)
                worker.expect("http.request")
        for client in clients:
            client.close()
        server.eventually(lambda: not server.gateway.connections)
        gone: set[str] = set()
        while len(gone) < 20:
            channels = ["websocket.disconnect", "http.disconnect"]
            _, message = layer.receive(channels, timeout=PATIENCE)
            assert message is not None
            gone.add(message["reply_channel"])
    layer.close()


# -- slow clients ---------------------------------------------------------------------------


def test_a_client_that_does_not_read_is_closed_and_counted(layer: ChannelLayer) -> None:
    options = {"write_buffer": 100_000, "websocket_close_timeout": 0.3}
    with (
        WebServer(layer, **options) as server,
        Worker(layer) as worker,
        RawClient(server.port, receive_buffer=4096) as slow,
    ):
        slow.connect()
        channel = worker.expect("websocket.connect")["reply_channel"]
        receiver = layer.receiver()
        for _ in range(200):
            receiver.exchange([Send(channel, {"text": "x" * 100_000})])
        receiver.close()
        server.dropped("slow client")
        message = worker.expect("websocket.disconnect")
        assert (message["code"], message["reason"]) == (1013, "too slow; reconnect")
        server.eventually(lambda: not server.server.server_state.connections)


def test_a_slow_client_that_catches_up_reads_why_it_was_closed(layer: ChannelLayer) -> None:
    with (
        WebServer(layer, write_buffer=100_000) as server,
        Worker(layer) as worker,
        RawClient(server.port, receive_buffer=4096) as slow,
    ):
        slow.connect()
        channel = worker.expect("websocket.connect")["reply_channel"]
        for _ in range(100):
            layer.send(channel, {"text": "x" * 100_000})
        server.dropped("slow client")
        assert slow.receive_close() == (1013, "too slow; reconnect")


def test_a_slow_member_does_not_hold_up_its_group(layer: ChannelLayer) -> None:
    def join(message: Message) -> Sequence[Message | GroupAdd]:
        return [*accept(message), GroupAdd("room", message["reply_channel"])]

    with (
        WebServer(layer, write_buffer=100_000) as server,
        Worker(layer, {"websocket.connect": join}) as worker,
        RawClient(server.port, receive_buffer=4096) as slow,
        RawClient(server.port) as quick,
    ):
        for client in (slow, quick):
            client.connect()
            worker.expect("websocket.connect")
        for number in range(100):
            layer.group_send("room", {"text": f"{number:04}" + "x" * 100_000})
            assert quick.receive()[1][:4] == b"%04d" % number
        assert server.gateway.drops["slow client"] == 1


def test_a_response_that_a_slow_client_does_not_read_is_cut(layer: ChannelLayer) -> None:
    with (
        WebServer(layer) as server,
        Worker(layer, {"http.request": nothing}) as worker,
        RawClient(server.port, receive_buffer=4096) as slow,
    ):
        slow.send(GET)
        channel = worker.expect("http.request")["reply_channel"]
        part = {"content": b"x" * CHUNK, "more_content": True}
        layer.send(channel, {"status": 200, **part})
        for _ in range(60):  # with no regard to a window
            layer.send(channel, part)
        server.dropped("slow client")
        worker.expect("http.disconnect", reply_channel=channel)


@pytest.mark.parametrize("size", [1000, 1_000_000])
@pytest.mark.parametrize("last", [GET, GET.replace(b"1.1", b"1.0"), b"nonsense\r\n\r\n", b""])
def test_a_client_that_takes_nothing_of_its_responses_is_cut(
    layer: ChannelLayer, size: int, last: bytes
) -> None:
    reply = {"status": 200, "content": b"x" * size}
    with (
        WebServer(layer, write_timeout=0.5, keep_alive=0) as server,
        Worker(layer, {"http.request": lambda _: [reply]}),
        RawClient(server.port, receive_buffer=4096) as slow,
    ):
        slow.socket.setblocking(False)
        with suppress(BlockingIOError):  # until the server takes no more either
            slow.socket.send(GET * (10_000_000 // size) + last)
        server.eventually(lambda: not server.server.server_state.connections)


def test_a_client_that_takes_a_response_slowly_is_not_cut(layer: ChannelLayer) -> None:
    size = 1_000_000
    reply = {"status": 200, "content": b"x" * size}
    with (
        WebServer(layer, write_timeout=0.6, websocket_handshake_timeout=0.3) as server,
        Worker(layer, {"http.request": lambda _: [reply]}),
        RawClient(server.port, receive_buffer=4096) as slow,
    ):
        slow.send(GET * 10)
        slow.read_head()
        for _ in range(6):
            with RawClient(server.port) as clock:
                assert b" 408 " in clock.read_head()
            slow.read(20_000)
        assert not server.gateway.drops["slow client"]


def test_no_websocket_begins_behind_a_response_that_is_not_taken(layer: ChannelLayer) -> None:
    size = 1_000_000
    with (
        WebServer(layer) as server,
        Worker(layer, {"http.request": lambda _: [{"status": 200, "content": b"x" * size}]}),
        RawClient(server.port, receive_buffer=4096) as slow,
    ):
        state = server.server.server_state
        server.eventually(lambda: len(state.connections) == 1)
        (protocol,) = state.connections
        assert isinstance(protocol, HTTPProtocol)
        count = 0
        while not protocol.is_full:
            count += 1
            slow.send(GET)
            server.eventually(partial(lambda count: state.total_requests == count, count))
        slow.send(handshake())
        for _ in range(count):
            slow.read_head()
            slow.read(size)
        assert b" 400 " in slow.read_head()


# -- large bodies ---------------------------------------------------------------------------

SIZE = 32 * 1024 * 1024


def rss() -> int:
    """Return the memory that this process has in use, in bytes."""
    with open("/proc/self/statm") as file:  # noqa: PTH123  (no path is handled)
        return int(file.read().split()[1]) * 4096


def test_a_large_upload_passes_with_bounded_memory(layer: ChannelLayer) -> None:
    with (
        WebServer(layer) as server,
        Worker(layer, {"http.request": nothing}) as worker,
        RawClient(server.port) as client,
    ):
        before = rss()

        def upload() -> None:
            client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % SIZE)
            for _ in range(SIZE // 65536):
                client.send(b"x" * 65536)

        uploading = threading.Thread(target=upload)
        uploading.start()
        message = worker.expect("http.request")
        channel = message["body_channel"]
        # Nobody reads: what is under way stays within the window.
        server.eventually(lambda: layer.statistics(channel).channel_full_count > 0)
        assert layer.statistics(channel).messages_pending == WINDOW
        size, more = len(message["body"]), True
        while more:
            _, part = layer.receive([channel], timeout=PATIENCE)
            assert part is not None
            assert len(part["content"]) <= CHUNK
            size += len(part["content"])
            more = part["more_content"]
        assert size == SIZE
        assert rss() - before < 20 * 1024 * 1024
        layer.send(message["reply_channel"], {"status": 204})
        assert b" 204 " in client.read_head()
        uploading.join(PATIENCE)


def test_a_large_download_passes_with_bounded_memory(layer: ChannelLayer) -> None:
    part = b"x" * CHUNK
    parts = SIZE // CHUNK
    acks = layer.new_channel("http.ack?")
    with (
        WebServer(layer) as server,
        Worker(layer, {"http.request": nothing}) as worker,
        RawClient(server.port) as client,
    ):
        client.send(GET)
        channel = worker.expect("http.request")["reply_channel"]
        before = rss()

        def download() -> None:
            under_way = 0
            for number in range(parts):
                while under_way >= WINDOW:
                    _, ack = layer.receive([acks], timeout=PATIENCE)
                    assert ack is not None
                    under_way -= ack["acked"]
                reply = {"content": part, "more_content": True, "ack_channel": acks}
                layer.send(channel, {"status": 200, **reply} if number == 0 else reply)
                under_way += 1
            layer.send(channel, {"content": b""})

        downloading = threading.Thread(target=download)
        downloading.start()
        client.read_head()
        size = 0
        while length := int(client.read_line(), 16):
            assert client.read(length + 2)[:-2] == part
            size += length
        downloading.join(PATIENCE)
        assert size == SIZE
        assert rss() - before < 20 * 1024 * 1024


def test_parts_are_not_acknowledged_while_the_client_does_not_read(layer: ChannelLayer) -> None:
    acks = layer.new_channel("http.ack?")
    with (
        WebServer(layer) as server,
        Worker(layer, {"http.request": nothing}) as worker,
        RawClient(server.port, receive_buffer=4096) as client,
    ):
        client.send(GET)
        channel = worker.expect("http.request")["reply_channel"]
        reply = {"content": b"x" * CHUNK, "more_content": True, "ack_channel": acks}
        layer.send(channel, {"status": 200, **reply})
        sent, acked = 1, 0
        while sent - acked < WINDOW:
            layer.send(channel, reply)
            sent += 1
            _, ack = layer.receive([acks], timeout=0.2)
            acked += ack["acked"] if ack else 0
        # What the kernel's buffers take is written; the rest waits for the client.
        assert sent < 100
        assert layer.receive([acks], timeout=0.2) == (None, None)
        client.read_head()
        for _ in range(sent):
            assert int(client.read_line(), 16) == CHUNK
            client.read(CHUNK + 2)
        while acked < sent:
            _, ack = layer.receive([acks], timeout=PATIENCE)
            assert ack is not None
            acked += ack["acked"]
