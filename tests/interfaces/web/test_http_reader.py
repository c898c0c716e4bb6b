"""Requests from bytes: whole, in pieces, and what is none."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from busway.interfaces.web.http_reader import Request, RequestReader

LIMIT = 1024

GET = b"GET /a?b=c HTTP/1.1\r\nHost: x\r\nX-Case: Kept\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"PUT /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: 1\r\n\r\n"
)
WEBSOCKET = b"GET /w HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n"
ASKING = b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
H2C_POST = POST.replace(b"Host", ASKING + b"Host")
H2C = b"GET /h HTTP/1.1\r\nHost: x\r\n" + ASKING + b"\r\n"


def feed(reader: RequestReader, data: bytes, size: int) -> list[Request]:
    """Feed `data` in pieces of `size` bytes."""
    found: list[Request] = []
    for start in range(0, len(data), size):
        found += reader.feed(data[start : start + size])
    return found


@pytest.fixture
def reader() -> RequestReader:
    return RequestReader(LIMIT)


@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
def test_requests_are_the_same_however_they_are_cut(reader: RequestReader, size: int) -> None:
    get, h2c, post, chunked = feed(reader, GET + H2C + POST + CHUNKED, size)
    assert (get.method, get.target, get.version) == ("GET", b"/a?b=c", "1.1")
    assert get.headers == [(b"host", b"x"), (b"x-case", b"Kept")]
    assert get.take(10) == (b"", False)
    assert h2c.target == b"/h"
    assert post.take(10) == (b"hello", False)
    assert chunked.take(10) == (b"abcde", False)
    assert [name for name, _ in chunked.headers] == [b"host", b"transfer-encoding"]
    assert reader.failure is None
    assert not reader.in_head
    assert not reader.in_body


@given(st.binary(max_size=6), st.binary(max_size=6), st.sampled_from([b"X-Any", b"Connection"]))
def test_no_head_is_found_that_has_bad_characters(name: bytes, value: bytes, known: bytes) -> None:
    reader = RequestReader(LIMIT)
    lines = b"%s: %s\r\n%sa: 1\r\n" % (known, value, name)
    for request in reader.feed(b"GET / HTTP/1.1\r\nHost: x\r\n%s\r\n" % lines):
        for found, text in request.headers:
            assert re.fullmatch(rb"[!#$%&'*+\-.^_`|~0-9a-z]+", found)
            assert not set(text) & ({*range(32), 127} - {9})


@pytest.mark.parametrize("size", [1, 3, 10_000])
def test_a_handshake_ends_the_requests_and_keeps_what_follows(
    reader: RequestReader, size: int
) -> None:
    (get,) = feed(reader, GET + WEBSOCKET, size)
    assert get.target == b"/a?b=c"
    assert reader.handshake is not None
    assert reader.handshake.target == b"/w"
    assert reader.rest == b""


def test_what_comes_with_a_handshake_is_for_the_websocket(reader: RequestReader) -> None:
    assert reader.feed(WEBSOCKET + b"\x81\x80mask") == []
    assert reader.rest == b"\x81\x80mask"
    assert reader.feed(GET) == []


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("sent", [POST, CHUNKED, POST.replace(b" 5\r\n\r\nhello", b" 0\r\n\r\n")])
def test_a_body_stays_one_though_the_client_would_like_another_protocol(
    reader: RequestReader, sent: bytes, size: int
) -> None:
    (plain,) = feed(RequestReader(LIMIT), sent, size)
    asking = sent.replace(b"Host", ASKING + b"Host")
    first, second, get = feed(reader, asking + asking + GET, size)
    assert first.take(100) == second.take(100) == plain.take(100)
    assert get.target == b"/a?b=c"
    assert reader.failure is None


def test_it_says_what_is_missing(reader: RequestReader) -> None:
    found = []
    for piece in (b"", POST[:20], POST[20:-2], POST[-2:]):
        reader.feed(piece)
        found.append((reader.in_head, reader.in_body))
    assert found == [(False, False), (True, False), (False, True), (False, False)]


def test_a_body_is_taken_in_parts_up_to_a_limit(reader: RequestReader) -> None:
    (request,) = reader.feed(POST.replace(b": 5", b": 12"))
    assert request.take(3) == (b"hel", True)
    reader.feed(b" wo")
    assert request.take(100) == (b"lo wo", True)
    assert request.take(100) == (b"", True)
    reader.feed(b"rld!")
    assert (request.size, request.complete) == (4, True)
    assert request.take(3) == (b"rld", True)
    assert request.take(3) == (b"!", False)


def test_a_body_that_nobody_wants_is_not_kept(reader: RequestReader) -> None:
    (request,) = reader.feed(POST[:-2])
    request.discard()
    reader.feed(POST[-2:] + GET)
    assert (request.size, request.complete) == (0, True)
    assert request.take(10) == (b"", False)


@pytest.mark.parametrize(
    ("head", "expects"),
    [
        (b"POST / HTTP/1.1\r\nExpect: 100-Continue", True),
        (b"POST / HTTP/1.0\r\nExpect: 100-continue", False),
        (b"POST / HTTP/1.1\r\nExpect: else", False),
    ],
)
def test_it_knows_who_waits_for_100(reader: RequestReader, head: bytes, expects: bool) -> None:
    (request,) = reader.feed(head + b"\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
    assert request.expects_continue is expects


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", False),
    ],
)
def test_it_knows_whether_the_client_stays(reader: RequestReader, head: bytes, kept: bool) -> None:
    (request,) = reader.feed(head)
    assert request.keep_alive is kept


@pytest.mark.parametrize("size", [1, 50, 10_000])
@pytest.mark.parametrize("before", [b"", POST, CHUNKED])
def test_a_head_has_a_limit_and_the_bytes_before_it_do_not_count(
    reader: RequestReader, size: int, before: bytes
) -> None:
    fits = b"GET / HTTP/1.1\r\nX: " + b"x" * (LIMIT - 200) + b"\r\n\r\n"
    assert len(feed(reader, (before + fits) * 3, size)) == (6 if before else 3)
    feed(reader, before + fits.replace(b"x" * 100, b"x" * 400), size)
    assert reader.failure is not None
    assert reader.failure.status == 431


def test_refusing_a_head_that_is_too_large_keeps_nothing_of_it(reader: RequestReader) -> None:
    reader.feed(b"GET / HTTP/1.1\r\nX: " + b"x" * LIMIT + b"\r\n\r\n")
    assert reader.failure is not None
    assert reader.failure.__traceback__ is None  # it would have the frames, and those the head


@pytest.mark.parametrize(
    "data", [b"nonsense\r\n\r\n", POST.replace(b" 5", b" -5"), b"\x16\x03\x01"]
)
def test_what_is_no_request_is_a_failure_behind_those_before(
    reader: RequestReader, data: bytes
) -> None:
    (get,) = reader.feed(GET + data)
    assert get.complete
    assert reader.failure is not None
    assert reader.failure.status == 400
    assert reader.feed(GET) == []


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET / HTTP/2.0", 505),
        (b"GET / HTTP/0.9", 505),
        (b"GET /", 505),
        (b"CONNECT x:80 HTTP/1.1", 501),
        (b"CONNECT / HTTP/1.1", 501),
    ],
)
def test_a_server_of_another_kind_is_not_here(
    reader: RequestReader, line: bytes, status: int
) -> None:
    assert reader.feed(line + b"\r\nHost: x\r\n\r\n") == []
    assert reader.failure is not None
    assert reader.failure.status == status


def test_a_closed_reader_hears_nothing(reader: RequestReader) -> None:
    reader.close()
    reader.close()
    assert reader.feed(GET) == []


PARTS = [GET, POST, CHUNKED, H2C, H2C_POST, WEBSOCKET, b"\r\n", b"x"]


@given(st.lists(st.sampled_from(PARTS)), st.data())
def test_any_cut_gives_the_same(parts: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(parts)
    whole = RequestReader(LIMIT)
    expected = whole.feed(stream)
    cut = RequestReader(LIMIT)
    position = data.draw(st.integers(0, len(stream)))
    found = cut.feed(stream[:position]) + cut.feed(stream[position:])
    assert [(r.target, r.take(100)) for r in found] == [(r.target, r.take(100)) for r in expected]
    assert (cut.failure, cut.in_head, cut.in_body) == (whole.failure, whole.in_head, whole.in_body)
