"""Responses as bytes: how their bodies are framed, and what does not keep its promise."""

import pytest

from busway.interfaces.web.http_writer import ResponseWriter
from busway.interfaces.web.replies import Headers, HTTPReply, ReplyError

DATE = [(b"date", b"today")]


def writer(method: str = "GET", version: str = "1.1", *, keep_alive: bool = True) -> ResponseWriter:
    return ResponseWriter(method, version, keep_alive)


def begin(headers: Headers = [], content: bytes = b"", *, more: bool = False) -> HTTPReply:  # noqa: B006
    return HTTPReply(200, headers, content, more)


def test_a_whole_response_is_one_piece_with_its_length() -> None:
    response = writer()
    data = response.encode(begin([(b"x-a", b"1")], b"hello"), DATE)
    assert data == (b"HTTP/1.1 200 OK\r\ndate: today\r\nx-a: 1\r\ncontent-length: 5\r\n\r\nhello")
    assert (response.status, response.size, response.keep_alive) == (200, 5, True)


def test_a_response_in_parts_is_chunked() -> None:
    response = writer()
    head = response.encode(begin([], b"one", more=True), DATE)
    assert head.endswith(b"\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
    assert response.encode(HTTPReply(more=True), DATE) == b""
    assert response.encode(HTTPReply(content=b"x" * 17, more=True), DATE) == (
        b"11\r\n" + b"x" * 17 + b"\r\n"
    )
    assert response.encode(HTTPReply(content=b"end"), DATE) == b"3\r\nend\r\n0\r\n\r\n"
    assert response.size == 23


def test_parts_of_a_known_length_are_not_chunked() -> None:
    response = writer()
    head = response.encode(begin([(b"content-length", b"6")], b"one", more=True), DATE)
    assert b"chunked" not in head
    assert head.endswith(b"\r\n\r\none")
    assert response.encode(HTTPReply(content=b"two"), DATE) == b"two"


def test_http_1_0_sees_the_end_of_a_stream_by_the_end_of_the_connection() -> None:
    response = writer(version="1.0", keep_alive=False)
    head = response.encode(begin([], b"one", more=True), [])
    assert head == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\none"
    assert response.encode(HTTPReply(content=b"two"), []) == b"two"


@pytest.mark.parametrize("more", [True, False])
def test_head_gets_the_headers_alone(more: bool) -> None:
    response = writer("HEAD")
    head = response.encode(begin([(b"content-length", b"50")], b"abc", more=more), [])
    assert head == b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n"
    assert response.encode(HTTPReply(content=b"rest"), []) == b""


def test_head_says_nothing_of_a_body_whose_length_nobody_knows() -> None:
    assert writer("HEAD").encode(begin(), DATE) == b"HTTP/1.1 200 OK\r\ndate: today\r\n\r\n"
    known = writer("HEAD").encode(begin([], b"hello"), DATE)
    assert known == b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-length: 5\r\n\r\n"


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body_has_neither_content_nor_a_length_of_ours(status: int) -> None:
    data = writer().encode(HTTPReply(status, [], b"content"), [])
    assert data.startswith(b"HTTP/1.1 %d " % status)
    assert data.count(b"\r\n") == 2


@pytest.mark.parametrize(("status", "lengths"), [(204, 0), (304, 1)])
def test_only_a_status_that_could_have_a_body_keeps_the_length_of_one(
    status: int, lengths: int
) -> None:
    data = writer().encode(HTTPReply(status, [(b"content-length", b"0")]), [])
    assert data.count(b"content-length") == lengths


def test_a_status_that_nobody_knows_has_no_phrase() -> None:
    assert writer().encode(HTTPReply(299), []).startswith(b"HTTP/1.1 299 \r\n")


def test_how_the_body_is_framed_is_not_for_the_worker_to_say() -> None:
    data = writer().encode(begin([(b"transfer-encoding", b"chunked")], b"hello"), [])
    assert data == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


@pytest.mark.parametrize("value", [b"close", b"Keep-Alive, Close"])
def test_a_response_can_end_the_connection(value: bytes) -> None:
    response = writer()
    data = response.encode(begin([(b"connection", value)]), [])
    assert data.count(b"connection") == 1
    assert not response.keep_alive


def test_a_connection_that_ends_says_so() -> None:
    assert b"\r\nconnection: close\r\n" in writer(keep_alive=False).encode(begin(), [])


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (b"4", "1 bytes of content too many; expected as much as 'content-length' says"),
        (b"7", "2 bytes of content too few"),
        (b"+5", "one number"),
        (b"", "one number"),
    ],
)
def test_a_wrong_length_is_refused_before_anything_is_written(length: bytes, text: str) -> None:
    response = writer()
    with pytest.raises(ReplyError) as error:
        response.encode(begin([(b"content-length", length)], b"hello"), [])
    assert text in str(error.value)
    assert (response.status, response.size) == (0, 0)


def test_a_length_stands_once() -> None:
    with pytest.raises(ReplyError, match="once"):
        writer().encode(begin([(b"content-length", b"5")] * 2, b"hello"), [])


@pytest.mark.parametrize("last", [b"t", b"too much"])
def test_the_last_part_must_complete_the_length(last: bytes) -> None:
    response = writer()
    response.encode(begin([(b"content-length", b"5")], b"one", more=True), [])
    with pytest.raises(ReplyError):
        response.encode(HTTPReply(content=last), [])
