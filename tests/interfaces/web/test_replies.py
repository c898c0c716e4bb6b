"""Replies of workers: whatever they send, it is carried out or refused with a reason."""

from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from busway.interfaces.web.replies import (
    HTTPReply,
    ReplyError,
    WebSocketReply,
    parse_http_reply,
    parse_websocket_reply,
)

values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-10, 6000),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.lists(st.lists(st.binary(max_size=5), max_size=3), max_size=2),
)
keys = st.sampled_from(
    [
        "accept",
        "subprotocol",
        "headers",
        "text",
        "bytes",
        "close",
        "reason",
        "status",
        "content",
        "more_content",
        "abort",
        "other",
    ]
)
messages = st.dictionaries(keys, values, max_size=4)


def outcome(parse: Callable[[], object]) -> object:
    """Return the reply, or the text of the error."""
    try:
        return parse()
    except ReplyError as error:
        return str(error)


@given(messages)
def test_a_websocket_reply_is_parsed_or_refused_with_a_reason(message: dict[str, object]) -> None:
    reply = outcome(partial(parse_websocket_reply, message))
    if isinstance(reply, str):
        assert "; expected " in reply
        return
    assert isinstance(reply, WebSocketReply)
    assert reply.close is None or 1000 <= reply.close < 5000
    assert not (message.get("text") is not None and message.get("bytes") is not None)


@given(messages, st.booleans())
def test_an_http_reply_is_parsed_or_refused_with_a_reason(
    message: dict[str, object], first: bool
) -> None:
    reply = outcome(partial(parse_http_reply, message, first=first))
    if isinstance(reply, str):
        assert "; expected " in reply
        return
    assert isinstance(reply, HTTPReply)
    assert reply.abort == (message.get("abort") is True)
    assert (reply.status is not None) == (first and not reply.abort)
    assert all(not set(value) & set(b"\r\n\0") for _, value in reply.headers)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"status": 404, "content": b"nope"}, "'status' without a denial"),
        ({"content": b"nope"}, "'content' without a denial"),
        ({"accept": True, "status": 404}, "'status' without a denial"),
        ({"subprotocol": "a"}, "'subprotocol' alone"),
        ({"headers": [[b"a", b"b"]]}, "'headers' alone"),
        ({"reason": "no"}, "'reason' alone"),
    ],
)
def test_a_websocket_reply_says_what_to_do(message: dict[str, object], text: str) -> None:
    with pytest.raises(ReplyError) as error:
        parse_websocket_reply(message)
    assert text in str(error.value)


def test_the_names_of_headers_are_in_lower_case() -> None:
    reply = parse_http_reply({"status": 200, "headers": [[b"X-A", b"B\t\xff"]]}, first=True)
    assert reply.headers == [(b"x-a", b"B\t\xff")]
