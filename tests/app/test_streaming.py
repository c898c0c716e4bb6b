"""Bodies in chunks, both ways. The peer plays the interface server."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from typing import Any

import pytest

from app.harness import PATIENCE, Peer, working
from busway import (
    Message,
    RequestAborted,
    RequestTimeout,
    abody_chunks,
    astream_response,
    body_chunks,
    respond,
    route,
    stream_response,
)
from busway.app.streaming import CHUNK_SIZE, WINDOW
from busway.bus.layer import ChannelLayer
from busway.bus.memory import MemoryChannelLayer

Read = Callable[..., list[bytes]]
Stream = Callable[..., None]


def read_sync(message: Message, **options: Any) -> list[bytes]:
    return list(body_chunks(message, **options))


def read_async(message: Message, **options: Any) -> list[bytes]:
    async def read() -> list[bytes]:
        return [chunk async for chunk in abody_chunks(message, **options)]

    return asyncio.run(read())


def stream_async(message: Message, chunks: Iterable[bytes], **options: Any) -> None:
    asyncio.run(astream_response(message, chunks, **options))


def stream_from_async(message: Message, chunks: Iterable[bytes], **options: Any) -> None:
    async def produce() -> AsyncIterator[bytes]:
        try:
            for chunk in chunks:
                await asyncio.sleep(0)
                yield chunk
        finally:
            if isinstance(chunks, Generator):
                chunks.close()

    asyncio.run(astream_response(message, produce(), **options))


reading = pytest.mark.parametrize("read", [read_sync, read_async])
streaming = pytest.mark.parametrize("stream", [stream_response, stream_async, stream_from_async])


@pytest.fixture
def hasty() -> Iterator[ChannelLayer]:
    """Return a layer whose messages expire in a moment."""
    layer = MemoryChannelLayer(expiry=0.001, policies={"test.*": {"expiry": 60.0}})
    yield layer
    layer.close()


def let_expire(layer: ChannelLayer) -> None:
    """Return when a message has expired that was sent just now."""
    layer.send("elsewhere", {})
    while layer.statistics("elsewhere").messages_pending:
        pass


class TestRequests:
    @pytest.fixture
    def request_(self, peer: Peer) -> Message:
        content = {
            "reply_channel": peer.reply_channel,
            "body": b"one",
            "body_channel": "http.request.body?1",
        }
        return Message(content, "http.request", peer.layer)

    @reading
    def test_a_body_in_one_message(self, layer: ChannelLayer, read: Read) -> None:
        assert read(Message({"body": b"all"}, "http.request", layer)) == [b"all"]
        assert read(Message({"body": b""}, "http.request", layer)) == []
        assert read(Message({}, "http.request", layer)) == []

    @reading
    def test_a_body_in_chunks(self, layer: ChannelLayer, request_: Message, read: Read) -> None:
        for content, more in [(b"two", True), (b"", True), (b"three", False)]:
            layer.send("http.request.body?1", {"content": content, "more_content": more})
        assert read(request_) == [b"one", b"two", b"three"]

    @reading
    def test_chunks_are_waited_for(
        self, layer: ChannelLayer, request_: Message, read: Read
    ) -> None:
        read_all: list[list[bytes]] = []
        thread = threading.Thread(target=lambda: read_all.append(read(request_)))
        thread.start()
        layer.send("http.request.body?1", {"content": b"two", "more_content": False})
        thread.join(PATIENCE)
        assert read_all == [[b"one", b"two"]]

    @reading
    def test_a_client_that_stalls(self, request_: Message, read: Read) -> None:
        with pytest.raises(RequestTimeout, match=r"0\.01 s"):
            read(request_, timeout=0.01)

    @reading
    def test_a_client_that_is_gone(
        self, layer: ChannelLayer, request_: Message, read: Read
    ) -> None:
        layer.send("http.request.body?1", {"closed": True})
        with pytest.raises(RequestAborted):
            read(request_)

    @reading
    @pytest.mark.parametrize("numbers", [[2], [1, 3], [1, 1]])
    def test_a_part_that_was_lost_is_noticed(
        self, layer: ChannelLayer, request_: Message, read: Read, numbers: list[int]
    ) -> None:
        for number in numbers:
            chunk = {"number": number, "content": b"x", "more_content": True}
            layer.send("http.request.body?1", chunk)
        with pytest.raises(RequestAborted, match="a part of its body was lost"):
            read(request_, timeout=0.01)

    @reading
    def test_parts_wait_longer_than_messages_do_elsewhere(
        self, hasty: ChannelLayer, read: Read
    ) -> None:
        layer = hasty
        for number in range(1, 4):
            chunk = {"number": number, "content": b"%d" % number, "more_content": number < 3}
            layer.send("http.request.body?1", chunk)
        let_expire(layer)
        request_ = Message({"body_channel": "http.request.body?1"}, "http.request", layer)
        assert read(request_) == [b"1", b"2", b"3"]

    def test_a_consumer_that_lets_it_pass_answers_408_or_nothing(
        self, layer: ChannelLayer, peer: Peer
    ) -> None:
        def upload(message: Message) -> None:
            respond(message, f"{sum(map(len, body_chunks(message, timeout=0.01)))}")

        with working(layer, [route("http.request", upload)]) as worker:
            peer.send("http.request", body=b"x", body_channel="http.request.body?1")
            assert (peer.receive() or {})["status"] == 408
            layer.send("http.request.body?2", {"closed": True})
            peer.send("http.request", body=b"x", body_channel="http.request.body?2")
            layer.send("http.request.body?4", {"number": 2, "content": b"", "more_content": True})
            peer.send("http.request", body=b"x", body_channel="http.request.body?4")
            assert peer.receive() == {"abort": True}
            layer.send("http.request.body?3", {"content": b"yz", "more_content": False})
            peer.send("http.request", body=b"x", body_channel="http.request.body?3")
            assert (peer.receive() or {})["content"] == b"3"
        counts = worker.statistics()
        assert (counts.failed, counts.aborted) == (1, 2)


class TestResponses:
    @pytest.fixture
    def request_(self, peer: Peer) -> Message:
        return Message({"reply_channel": peer.reply_channel}, "http.request", peer.layer)

    @pytest.fixture
    def run(self) -> Iterator[Callable[..., threading.Thread]]:
        """Return what runs a function in a thread, which ends with the test."""
        threads = []

        def run(function: Callable[..., object], *args: Any) -> threading.Thread:
            threads.append(threading.Thread(target=function, args=args))
            threads[-1].start()
            return threads[-1]

        yield run
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()

    @streaming
    def test_a_short_one(self, peer: Peer, request_: Message, stream: Stream) -> None:
        stream(request_, [b"a", b"", b"b"], status=201, headers={"x-a": "1"})
        first, second, last = peer.receive(), peer.receive(), peer.receive()
        assert first is not None
        assert second is not None
        ack_channel = first.pop("ack_channel")
        assert ack_channel.startswith("http.ack?")
        assert first == {
            "status": 201,
            "headers": [[b"x-a", b"1"]],
            "content": b"a",
            "more_content": True,
        }
        assert second == {"content": b"b", "more_content": True, "ack_channel": ack_channel}
        assert last == {"content": b"", "more_content": False}

    @streaming
    def test_no_chunks_at_all(self, peer: Peer, request_: Message, stream: Stream) -> None:
        stream(request_, [])
        assert peer.receive() == {
            "status": 200,
            "headers": [],
            "content": b"",
            "more_content": False,
        }

    @streaming
    def test_an_empty_first_chunk_sends_the_headers(
        self, peer: Peer, request_: Message, stream: Stream
    ) -> None:
        seen: list[dict[str, Any] | None] = []

        def chunks() -> Iterator[bytes]:
            yield b""
            seen.append(peer.receive())

        stream(request_, chunks())
        assert seen[0] is not None
        assert (seen[0]["status"], seen[0]["content"]) == (200, b"")

    @streaming
    def test_large_chunks_are_split(self, peer: Peer, request_: Message, stream: Stream) -> None:
        stream(request_, [b"x" * (2 * CHUNK_SIZE + 1)])
        contents = [peer.receive() or {} for _ in range(4)]
        assert [len(content["content"]) for content in contents] == [CHUNK_SIZE, CHUNK_SIZE, 1, 0]

    @streaming
    def test_no_more_chunks_are_under_way_than_the_window(
        self, layer: ChannelLayer, peer: Peer, request_: Message, stream: Stream, run: Any
    ) -> None:
        produced: list[int] = []
        total = 100

        def chunks() -> Iterator[bytes]:
            for n in range(total):
                produced.append(n)
                yield b"%d" % n

        run(stream, request_, chunks())
        acked, found = 0, []
        for n in range(total):
            content = peer.receive()
            assert content is not None
            found.append(content["content"])
            assert len(produced) <= acked + WINDOW
            if n % 3 == 2 or n == total - 1:
                acked = n + 1
                layer.send(content["ack_channel"], {"acked": 3 if n % 3 == 2 else 1})
        assert found == [b"%d" % n for n in range(total)]
        assert peer.receive() == {"content": b"", "more_content": False}

    @streaming
    def test_a_producer_may_pause_for_longer_than_messages_wait_elsewhere(
        self, hasty: ChannelLayer, stream: Stream
    ) -> None:
        layer = hasty
        peer = Peer(layer)

        def chunks() -> Iterator[bytes]:
            for n in range(2 * WINDOW):
                yield b"%d" % n
                content = peer.receive() or {}
                layer.send(content["ack_channel"], {"acked": 1})
                let_expire(layer)

        request_ = Message({"reply_channel": peer.reply_channel}, "http.request", layer)
        stream(request_, chunks(), timeout=PATIENCE)
        assert peer.receive() == {"content": b"", "more_content": False}

    @streaming
    def test_a_full_reply_channel_is_waited_for(self, stream: Stream, run: Any) -> None:
        layer = MemoryChannelLayer(policies={"test.reply*": {"capacity": 1}})
        peer = Peer(layer)
        request_ = Message({"reply_channel": peer.reply_channel}, "http.request", layer)
        thread = run(stream, request_, [b"%d" % n for n in range(6)])
        contents = [peer.receive() or {} for _ in range(7)]
        assert [content["content"] for content in contents] == [
            b"0",
            b"1",
            b"2",
            b"3",
            b"4",
            b"5",
            b"",
        ]
        thread.join(PATIENCE)
        layer.close()

    @streaming
    @pytest.mark.parametrize("how", ["gone", "stalled"])
    def test_a_client_that_is_gone_ends_the_generator(
        self, layer: ChannelLayer, peer: Peer, request_: Message, stream: Stream, how: str
    ) -> None:
        ended = threading.Event()

        def chunks() -> Iterator[bytes]:
            try:
                while True:
                    content = peer.receive(0)
                    if content is not None and how == "gone":
                        layer.send(content["ack_channel"], {"disconnected": True})
                    yield b"x"
            finally:
                ended.set()

        with pytest.raises(RequestAborted):
            stream(request_, chunks(), timeout=0.05 if how == "stalled" else PATIENCE)
        assert ended.is_set()

    @streaming
    def test_a_client_that_takes_nothing_is_told_that_no_more_will_come(
        self, layer: ChannelLayer, peer: Peer, request_: Message, stream: Stream
    ) -> None:
        with pytest.raises(RequestAborted, match=r"took nothing for 0\.01 s"):
            stream(request_, [b"x"] * (WINDOW + 1), timeout=0.01)
        for _ in range(WINDOW):
            assert (peer.receive(0) or {})["more_content"]
        assert peer.receive(0) == {"abort": True}
        assert peer.receive(0) is None

    @pytest.mark.parametrize("lets_pass", [False, True])
    def test_a_consumer_that_gives_up_ends_the_response(
        self, layer: ChannelLayer, peer: Peer, lets_pass: bool
    ) -> None:
        def download(message: Message) -> None:
            try:
                stream_response(message, [b"x"] * (WINDOW + 1), timeout=0.01)
            except RequestAborted:
                if lets_pass:
                    raise

        with working(layer, [route("http.request", download)]):
            peer.send("http.request")
            for _ in range(WINDOW):
                assert (peer.receive() or {})["more_content"]
            assert peer.receive() == {"abort": True}
        assert peer.receive(0) is None

    @streaming
    def test_an_error_behind_the_first_chunk_ends_the_response(
        self, peer: Peer, request_: Message, stream: Stream
    ) -> None:
        with pytest.raises(ZeroDivisionError):
            stream(request_, (b"%d" % (1 // number) for number in [1, 0]))
        assert (peer.receive(0) or {})["content"] == b"1"
        assert peer.receive(0) == {"abort": True}

    def test_an_error_before_the_first_chunk_is_answered_with_500(
        self, layer: ChannelLayer, peer: Peer
    ) -> None:
        def download(message: Message) -> None:
            stream_response(message, (b"%d" % (1 // number) for number in [0]))

        with working(layer, [route("http.request", download)]):
            peer.send("http.request")
            assert (peer.receive() or {})["status"] == 500
