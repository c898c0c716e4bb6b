"""Messages and envelopes as bytes."""

import threading
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from busway.bus.codec import (
    Envelope,
    Ids,
    Kind,
    decode_envelope,
    encode,
    encode_message,
)
from busway.bus.conformance.contents import MESSAGES, exact
from busway.bus.errors import InvalidMessage, MessageTooLarge

SECONDS = st.floats(0, 2**40, allow_nan=False)
ENVELOPES = st.builds(
    Envelope,
    expires=SECONDS,
    kind=st.sampled_from(Kind),
    id=st.integers(0, 2**63 - 1),
    channel=st.text(),
    sent=SECONDS,
    message=MESSAGES,
    lane=st.text(),
    group=st.text(),
    attempt=st.integers(1, 100),
)


def carried(message: dict[str, Any]) -> bytes:
    return encode(Envelope(2.0, Kind.MESSAGE, 1, "channel", 1.0, message))


@given(MESSAGES)
def test_a_message_comes_back_as_it_was(message: dict[str, Any]) -> None:
    assert exact(decode_envelope(carried(message)).message) == exact(message)


@given(MESSAGES, st.binary(min_size=1))
def test_trailing_data_is_an_error(message: dict[str, Any], more: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_envelope(carried(message) + more)


@given(st.binary())
def test_random_bytes_are_an_envelope_or_an_error(data: bytes) -> None:
    try:
        found = decode_envelope(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    assert isinstance(found.message, dict)


@given(MESSAGES)
def test_the_limit_is_exact(message: dict[str, Any]) -> None:
    size = len(encode_message(message, "channel", 2**30))
    assert len(encode_message(message, "channel", size)) == size
    with pytest.raises(MessageTooLarge) as caught:
        encode_message(message, "channel", size - 1)
    assert (caught.value.channel, caught.value.size, caught.value.limit) == (
        "channel",
        size,
        size - 1,
    )


@pytest.mark.parametrize(
    ("message", "where"),
    [
        ({"a": "\ud800"}, "message['a']"),
        ({"a": ["x", {"b": "\udfff"}]}, "message['a'][1]['b']"),
        ({"\ud800": 1}, "a key of message"),
        ({"a": [{"\ud800": 1}]}, "a key of message['a'][0]"),
    ],
    ids=ascii,
)
def test_text_that_no_encoding_has_is_refused_with_its_place(
    message: dict[str, Any], where: str
) -> None:
    with pytest.raises(InvalidMessage) as caught:
        encode_message(message, "channel", 2**30)
    assert caught.value.where == where
    str(caught.value).encode()


class Text(str):
    """Text with a type of its own."""

    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


def test_subclasses_of_str_are_encoded_as_the_text_they_are() -> None:
    message = {"a": Text("b"), "in": [Text("c"), {"d": (Text("e"), b"f")}]}
    found = msgspec.msgpack.decode(encode_message(message, "channel", 2**30))
    assert exact(found) == exact({"a": "b", "in": ["c", {"d": ["e", b"f"]}]})


@given(ENVELOPES)
def test_an_envelope_comes_back_as_it_was(envelope: Envelope) -> None:
    assert exact(msgspec.structs.asdict(decode_envelope(encode(envelope)))) == exact(
        msgspec.structs.asdict(envelope)
    )


@given(ENVELOPES)
def test_an_envelope_cut_short_is_an_error(envelope: Envelope) -> None:
    data = encode(envelope)
    for cut in range(len(data)):
        with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
            decode_envelope(data[:cut])


def test_ids_are_unique_among_threads_and_makers() -> None:
    makers = [Ids() for _ in range(4)] * 2
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda ids=ids: found.extend(ids.new() for _ in range(1000)))
        for ids in makers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == len(found) == 8000
    assert all(0 < each < 2**63 for each in found)
