"""Answers to requests."""

from typing import Any

import pytest

from app.harness import Peer
from busway import Message, respond
from busway.app.exceptions import NoReplyChannel
from busway.bus.errors import UsageError


@pytest.fixture
def request_(peer: Peer) -> Message:
    return Message({"reply_channel": peer.reply_channel}, "http.request", peer.layer)


def test_text_is_plain_text_in_utf_8(peer: Peer, request_: Message) -> None:
    respond(request_, "Grüß dich")
    assert peer.receive() == {
        "status": 200,
        "headers": [
            [b"content-type", b"text/plain; charset=utf-8"],
            [b"content-length", b"11"],
        ],
        "content": "Grüß dich".encode(),
        "more_content": False,
    }


@pytest.mark.parametrize("headers", [{"x-a": "é", "x-b": "2"}, [("x-a", b"\xe9"), (b"x-b", "2")]])
def test_bytes_headers_and_status(peer: Peer, request_: Message, headers: Any) -> None:
    respond(request_, b"\0", status=418, headers=headers, content_type="image/png")
    assert peer.receive() == {
        "status": 418,
        "headers": [
            [b"content-type", b"image/png"],
            [b"content-length", b"1"],
            [b"x-a", b"\xe9"],
            [b"x-b", b"2"],
        ],
        "content": b"\0",
        "more_content": False,
    }


def test_nothing_but_a_status(peer: Peer, request_: Message) -> None:
    respond(request_, status=204)
    answer = peer.receive()
    assert answer is not None
    assert answer["headers"] == []


@pytest.mark.parametrize("status", [100, 199, 600, "200", True])
def test_a_status_that_is_none_is_refused(request_: Message, status: Any) -> None:
    with pytest.raises(UsageError, match="expected 200 to 599"):
        respond(request_, status=status)


def test_a_header_that_latin_1_cannot_encode_is_refused(request_: Message) -> None:
    with pytest.raises(UsageError, match="Latin-1"):
        respond(request_, headers={"x": "€"})


def test_without_a_client_nothing_can_be_answered() -> None:
    with pytest.raises(NoReplyChannel):
        respond(Message({}, "http.request"))
