"""The frame reader and encoders, against `websockets` as the other side."""

import struct
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame
from websockets.frames import Opcode as TheirOpcode
from websockets.streams import StreamReader

from busway.interfaces.web.frames import (
    BINARY,
    CLOSE,
    FAILED,
    PING,
    PONG,
    TEXT,
    Event,
    FrameReader,
    encode,
    encode_close,
    encode_data,
)
from interfaces.web.harness import frame

LIMIT = 1000

masks = st.binary(min_size=4, max_size=4)
payloads = st.one_of(
    st.tuples(st.just(TEXT), st.text(max_size=200).map(str.encode)),
    st.tuples(st.just(BINARY), st.binary(max_size=LIMIT)),
)
controls = st.tuples(st.sampled_from((PING, PONG)), st.binary(max_size=125))


@st.composite
def conversations(draw: st.DrawFn) -> tuple[bytes, list[Event]]:
    """Return what a client that keeps the rules sends, and the messages in it."""
    sent = b""
    events: list[Event] = []
    for opcode, payload in draw(st.lists(payloads, max_size=5)):
        cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=3)))
        pieces = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
        for number, piece in enumerate(pieces):
            if draw(st.booleans()):
                control, note = draw(controls)
                sent += frame(control, note, mask=draw(masks))
                events.append((control, note))
            first, last = number == 0, number == len(pieces) - 1
            sent += frame(opcode if first else 0, piece, final=last, mask=draw(masks))
        events.append((opcode, payload.decode() if opcode == TEXT else payload))
    return sent, events


def read(data: bytes, limit: int = LIMIT) -> list[Event]:
    return FrameReader(limit).feed(data)


def read_in_pieces(data: bytes, cuts: list[int]) -> list[Event]:
    reader = FrameReader(LIMIT)
    bounds = [0, *sorted(cuts), len(data)]
    return [e for a, b in pairwise(bounds) for e in reader.feed(data[a:b])]


def failure(data: bytes, limit: int = LIMIT) -> int:
    """Return the close code with which reading `data` fails."""
    (opcode, close), *rest = read(data, limit)
    assert opcode == FAILED
    assert not rest
    code: int = close.code
    return code


@given(st.text(max_size=31), masks)
def test_a_short_text_that_comes_alone_is_read_at_once(text: str, mask: bytes) -> None:
    assert FrameReader(LIMIT).short_text(frame(TEXT, text.encode(), mask=mask)) == text


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x81",
        b"\x81\x7c",
        frame(TEXT, b"x" * 126),
        struct.pack("!BBH", 0x81, 0x80 | 126, 120) + bytes(124),
        frame(TEXT, b"one", mask=None),
        frame(TEXT, b"one")[:-1],
        frame(TEXT, b"one") + frame(TEXT, b"two"),
        frame(TEXT, b"one", final=False),
        frame(BINARY, b"one"),
        frame(PING, b"one"),
        frame(CLOSE),
        frame(TEXT, b"\xff"),
        b"\xc1" + frame(TEXT, b"one")[1:],
    ],
)
def test_whatever_else_comes_is_no_short_text(data: bytes) -> None:
    assert FrameReader(LIMIT).short_text(data) is None


@pytest.mark.parametrize(
    "before",
    [
        frame(TEXT, b"one", final=False),
        frame(TEXT, b"one")[:-1],
        frame(CLOSE),
        frame(TEXT, b"\xff"),
    ],
)
def test_what_comes_amid_something_else_is_no_short_text(before: bytes) -> None:
    reader = FrameReader(LIMIT)
    reader.feed(before)
    assert reader.short_text(frame(TEXT, b"two")) is None


def test_a_text_over_the_limit_is_no_short_text() -> None:
    assert FrameReader(3).short_text(frame(TEXT, b"one")) == "one"
    assert FrameReader(2).short_text(frame(TEXT, b"one")) is None


@given(conversations(), st.data())
def test_messages_arrive_whole_however_the_bytes_are_cut(
    conversation: tuple[bytes, list[Event]], data: st.DataObject
) -> None:
    sent, events = conversation
    cuts = data.draw(st.lists(st.integers(0, len(sent)), max_size=10))
    assert read(sent) == events
    assert read_in_pieces(sent, cuts) == events


@given(conversations())
def test_messages_arrive_whole_when_fed_byte_by_byte(
    conversation: tuple[bytes, list[Event]],
) -> None:
    sent, events = conversation
    assert read_in_pieces(sent, list(range(len(sent)))) == events


@given(conversations(), st.binary(max_size=50))
def test_what_follows_a_close_frame_is_discarded(
    conversation: tuple[bytes, list[Event]], trailing: bytes
) -> None:
    sent, events = conversation
    reader = FrameReader(LIMIT)
    *before, (opcode, close) = reader.feed(sent + frame(CLOSE, b"\x03\xe8bye") + trailing)
    assert before == events
    assert (opcode, close.code, close.reason) == (CLOSE, 1000, "bye")
    assert reader.finished
    assert reader.feed(trailing) == []


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_no_input_raises_and_nothing_comes_after_the_end(pieces: list[bytes]) -> None:
    reader = FrameReader(LIMIT)
    for piece in pieces:
        was_finished = reader.finished
        events = reader.feed(piece)
        assert not (was_finished and events)
        assert not any(opcode in (CLOSE, FAILED) for opcode, _ in events[:-1])


@given(payloads)
def test_encoded_messages_are_read_by_another_implementation(payload: tuple[int, bytes]) -> None:
    opcode, data = payload
    encoded = encode_data(data.decode() if opcode == TEXT else data)
    reader = StreamReader()
    reader.feed_data(encoded)
    parser = Frame.parse(reader.read_exact, mask=False)
    with pytest.raises(StopIteration) as stop:
        next(parser)
    found = stop.value.value
    assert found == Frame(TheirOpcode(opcode), data)
    assert not reader.buffer


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536])
def test_the_length_is_encoded_in_the_shortest_form(size: int) -> None:
    head = len(encode(BINARY, b"x" * size)) - size
    assert head == (2 if size < 126 else 4 if size < 65536 else 10)


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_every_form_of_length_is_read(size: int) -> None:
    assert read(frame(BINARY, b"x" * size), limit=100_000) == [(BINARY, b"x" * size)]


@pytest.mark.parametrize(
    ("code", "data"),
    [
        pytest.param(1002, frame(TEXT, b"x", mask=None), id="not masked"),
        pytest.param(1002, frame(TEXT | 0x40, b"x"), id="reserved bit"),
        pytest.param(1002, frame(3, b"x"), id="unknown data opcode"),
        pytest.param(1002, frame(11, b"x"), id="unknown control opcode"),
        pytest.param(1002, frame(PING, b"x", final=False), id="fragmented ping"),
        pytest.param(1002, frame(PING, b"x" * 126), id="long ping"),
        pytest.param(1002, frame(0, b"x"), id="continuation of nothing"),
        pytest.param(1002, frame(TEXT, final=False) + frame(TEXT, b"x"), id="message in message"),
        pytest.param(1002, frame(CLOSE, b"\x03"), id="half a close code"),
        pytest.param(1002, frame(CLOSE, struct.pack("!H", 1005)), id="close code of no frame"),
        pytest.param(1007, frame(CLOSE, b"\x03\xe8\xff"), id="close reason not UTF-8"),
        pytest.param(1007, frame(TEXT, b"\xff"), id="text not UTF-8"),
        pytest.param(1009, frame(BINARY, b"x" * (LIMIT + 1)), id="message over the limit"),
    ],
)
def test_a_broken_rule_fails_with_its_code(code: int, data: bytes) -> None:
    assert failure(data) == code
    assert [e[1].code for e in read_in_pieces(data, list(range(len(data))))] == [code]


def test_messages_before_a_broken_rule_are_not_lost() -> None:
    events = read(frame(TEXT, b"one") + frame(TEXT, b"\xff"))
    assert events[0] == (TEXT, "one")
    assert events[1][0] == FAILED


def test_a_message_is_refused_by_its_length_before_its_payload_comes() -> None:
    assert failure(frame(BINARY, b"x" * (LIMIT + 1))[:8]) == 1009


def test_fragments_count_together_against_the_limit() -> None:
    part = b"x" * (LIMIT // 2)
    fits = frame(BINARY, part, final=False) + frame(0, part)
    assert read(fits) == [(BINARY, part * 2)]
    assert failure(frame(BINARY, part, final=False) + frame(0, part + b"x")) == 1009


def test_a_character_may_be_cut_by_fragments() -> None:
    first, second = "é".encode()[:1], "é".encode()[1:]
    assert read(frame(TEXT, first, final=False) + frame(0, second)) == [(TEXT, "é")]


def test_a_long_reason_is_cut_between_characters() -> None:
    encoded = encode_close(1000, "é" * 100)
    assert len(encoded) <= 127
    assert encoded[4:].decode() == "é" * 61


@pytest.mark.parametrize("code", [1005, 1006, 1015])
def test_codes_that_must_not_travel_are_left_out(code: int) -> None:
    assert encode_close(code, "x") == b"\x88\x00"


def test_many_small_fragments_take_the_memory_of_what_is_in_them() -> None:
    reader = FrameReader(1_000_000)
    fragments = frame(0, b"ab", final=False) * 1000
    reader.feed(frame(BINARY, b"ab", final=False))
    tracemalloc.start()
    for _ in range(100):
        assert reader.feed(fragments) == []
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 400_000  # of 200,000 bytes
    assert reader.feed(frame(0, b"c")) == [(BINARY, b"ab" * 100_001 + b"c")]
