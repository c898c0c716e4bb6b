"""WebSocket frames: what a client sends, parsed as it arrives; what it is sent, encoded.

RFC 6455, section 5, on the masking and close-frame parts of `websockets`. No I/O.
"""

import struct
from typing import Any

from websockets.exceptions import ProtocolError
from websockets.frames import Close

try:
    from websockets.speedups import apply_mask
except ImportError:  # pragma: no cover  (no compiled extension on this platform)
    from websockets.utils import apply_mask

_FIN = 0x80
_MASKED = 0x80
_LONGEST_CONTROL = 125
_LONGEST_SHORT = 125
"""Bytes of a payload whose length is in the second byte of its frame."""
_WHOLE_TEXT = 0x81


# Kinds of frame. Plain numbers: members of an Enum take longer to compare.
CONTINUATION, TEXT, BINARY = 0, 1, 2
CLOSE, PING, PONG = 8, 9, 10
FAILED = -1
"""Not a frame: the client broke the protocol, nothing follows."""

Event = tuple[int, Any]
"""A whole message or control frame: its opcode and payload. That is of `TEXT` a str, of `BINARY`,
`PING` and `PONG` bytes, of `CLOSE` and `FAILED` a `Close`."""

_SHORT_TEXT = [bytes((_FIN | TEXT, size)) for size in range(126)]
"""Heads of short texts, by their size."""


def encode(opcode: int, payload: bytes) -> bytes:
    """Return an unfragmented frame from server to client."""
    size = len(payload)
    if size < 126:
        return bytes((_FIN | opcode, size)) + payload
    if size < 65536:
        return struct.pack("!BBH", _FIN | opcode, 126, size) + payload
    return struct.pack("!BBQ", _FIN | opcode, 127, size) + payload


def encode_data(payload: str | bytes) -> bytes:
    """Return the frame of one data message: text or binary."""
    if isinstance(payload, bytes):
        return encode(BINARY, payload)
    text = payload.encode()
    size = len(text)
    return _SHORT_TEXT[size] + text if size < 126 else encode(TEXT, text)


def encode_close(code: int, reason: str) -> bytes:
    """Return a close frame; `reason` is cut to the 123 bytes that fit, between characters.

    Codes that must not travel (1005, 1006, 1015) become an empty close frame.
    """
    if code in (1005, 1006, 1015):
        return encode(CLOSE, b"")
    text = reason.encode()[: _LONGEST_CONTROL - 2].decode(errors="ignore")
    return encode(CLOSE, struct.pack("!H", code) + text.encode())


class _Broken(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.close = Close(code, reason)


class FrameReader:
    """Turns the bytes of one client into messages, however they are cut.

    After a `CLOSE` or `FAILED` event everything else is discarded.
    """

    __slots__ = ("_buffer", "_fragments", "_limit", "_opcode", "_room", "finished")

    def __init__(self, limit: int) -> None:
        """Read messages of up to `limit` bytes; a longer one fails with 1009."""
        self._limit = limit
        self._room = limit
        """What of it the fragments so far have left."""
        self._buffer: bytearray | None = None
        self._fragments: bytearray | None = None
        self._opcode = 0
        self.finished = False

    def short_text(self, data: bytes) -> str | None:
        """Return the text, if `data` is that, short and whole, and nothing else: most reads are.

        None: it is for `feed`.
        """
        size = len(data) - 6
        if (
            0 <= size <= _LONGEST_SHORT
            and data[0] == _WHOLE_TEXT
            and data[1] == _MASKED + size
            and size <= self._room
            and self._buffer is None
            and self._fragments is None
            and not self.finished
        ):
            try:
                text: str = apply_mask(data[6:], data[2:6]).decode()
            except UnicodeDecodeError:
                return None
            return text
        return None

    def feed(self, data: bytes) -> list[Event]:
        """Return what `data`, and bytes left from earlier calls, completes. Never raises."""
        events: list[Event] = []
        if self.finished:
            return events
        held = self._buffer
        source: bytes | bytearray = data
        if held is not None:
            held += data
            source = held
        try:
            used = self._parse(source, events)
        except _Broken as broken:
            events.append((FAILED, broken.close))
            self.finished = True
        except UnicodeDecodeError as error:
            events.append((FAILED, Close(1007, f"text is not UTF-8 at byte {error.start}")))
            self.finished = True
        if self.finished:
            self._buffer = self._fragments = None
        elif used == len(source):
            self._buffer = None
        elif held is None:
            self._buffer = bytearray(source[used:])
        else:
            del held[:used]
        return events

    def _parse(self, data: bytes | bytearray, events: list[Event]) -> int:
        """Append the whole frames of `data` to `events`; returns how many bytes they took."""
        position = 0
        available = len(data)
        while available - position >= 2:
            head = data[position]
            length = data[position + 1] - _MASKED
            start = position + 6
            if length >= 126:
                width = 2 if length == 126 else 8
                start += width
                if available < start - 4:
                    break
                length = int.from_bytes(data[position + 2 : start - 4], "big")
            elif length < 0:
                raise _Broken(1002, "a client must mask its frames")
            if head & 0x78 or length > self._room:
                self._check(head, length)
            end = start + length
            if available < end:
                break
            payload = apply_mask(data[start:end], data[start - 4 : start])
            position = end
            if head == _WHOLE_TEXT and self._fragments is None:
                events.append((TEXT, payload.decode()))
            else:
                self._take(head, payload, events)
                if self.finished:
                    break
        return position

    def _check(self, head: int, length: int) -> None:
        """Refuse a frame by its first bytes, before its payload has come."""
        if head & 0x70:
            raise _Broken(1002, "reserved bits must be 0")
        opcode = head & 0x0F
        if opcode & 0x08:
            if opcode not in (CLOSE, PING, PONG):
                raise _Broken(1002, f"unknown opcode {opcode}")
            if not head & _FIN:
                raise _Broken(1002, "a control frame must not be fragmented")
            if length > _LONGEST_CONTROL:
                raise _Broken(1002, "a control frame has at most 125 bytes")
        elif length > self._room:
            raise _Broken(1009, f"messages have at most {self._limit} bytes")

    def _take(self, head: int, payload: bytes, events: list[Event]) -> None:
        opcode = head & 0x0F
        if opcode in (PING, PONG):
            events.append((opcode, payload))
        elif opcode == CLOSE:
            events.append((CLOSE, _parse_close(payload)))
            self.finished = True
        elif opcode > BINARY:
            raise _Broken(1002, f"unknown opcode {opcode}")
        else:
            self._collect(opcode, bool(head & _FIN), payload, events)

    def _collect(self, opcode: int, final: bool, payload: bytes, events: list[Event]) -> None:
        fragments = self._fragments
        if opcode == CONTINUATION:
            if fragments is None:
                raise _Broken(1002, "a continuation without a beginning")
        elif fragments is not None:
            raise _Broken(1002, "a new message inside a fragmented one")
        elif final:  # texts of one frame do not come here
            events.append((BINARY, payload))
            return
        else:
            self._opcode = opcode
            fragments = self._fragments = bytearray()
        fragments += payload
        if not final:
            self._room -= len(payload)
            return
        self._fragments = None
        self._room = self._limit
        whole = fragments.decode() if self._opcode == TEXT else bytes(fragments)
        events.append((self._opcode, whole))


def _parse_close(payload: bytes) -> Close:
    try:
        return Close.parse(payload)
    except ProtocolError as error:
        raise _Broken(1002, str(error)) from None
    except UnicodeDecodeError:
        raise _Broken(1007, "the close reason is not UTF-8") from None
