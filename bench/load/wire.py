"""WebSocket on the wire, as little of it as a load generator needs."""

from typing import NamedTuple

TEXT = 0x1
CLOSE = 0x8
PING = 0x9
PONG = 0xA

_FIN = 0x80
_MASKED = 0x80
_MASK = b"\x37\xfa\x21\x3d"

# The handshake example of RFC 6455: a constant key has a constant answer.
_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
_ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


class Frame(NamedTuple):
    """A complete frame from a server."""

    opcode: int
    payload: bytes


def handshake(port: int, path: str) -> bytes:
    """The request that opens a WebSocket."""
    return (
        f"GET {path} HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{port}\r\n"
        "Upgrade: websocket\r\n"
        "Connection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {_KEY}\r\n"
        "Sec-WebSocket-Version: 13\r\n"
        "\r\n"
    ).encode()


def accepted(response: bytes) -> bool:
    """Whether a complete response opens the WebSocket, with nothing after its head."""
    return (
        response.startswith(b"HTTP/1.1 101 ")
        and _ACCEPT in response
        and response.endswith(b"\r\n\r\n")
    )


def client_frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """A masked frame, as clients send it."""
    head = bytearray(_head(opcode, len(payload)))
    head[1] |= _MASKED
    masked = bytes(byte ^ _MASK[index % 4] for index, byte in enumerate(payload))
    return bytes(head) + _MASK + masked


def server_frame(payload: bytes) -> bytes:
    """An unmasked text frame, byte for byte what a server must answer."""
    return _head(TEXT, len(payload)) + payload


def split(stream: bytes) -> tuple[list[Frame], bytes]:
    """The complete frames in a stream from a server, and what is left after them."""
    frames = []
    at = 0
    while (found := _frame_at(stream, at)) is not None:
        frame, at = found
        frames.append(frame)
    return frames, stream[at:]


def pong(ping: Frame) -> bytes:
    """The answer to a ping."""
    return client_frame(ping.payload, PONG)


def _head(opcode: int, length: int) -> bytes:
    first = bytes([_FIN | opcode])
    if length < 126:
        return first + bytes([length])
    if length < 1 << 16:
        return first + b"\x7e" + length.to_bytes(2)
    return first + b"\x7f" + length.to_bytes(8)


def _frame_at(stream: bytes, at: int) -> tuple[Frame, int] | None:
    """The frame that starts at an offset, and the offset after it."""
    if len(stream) < at + 2:
        return None
    length = stream[at + 1]
    start = at + 2
    if length > 125:
        wide = 2 if length == 126 else 8
        length = int.from_bytes(stream[start : start + wide])
        start += wide
    if len(stream) < start + length:
        return None
    return Frame(stream[at] & 0x0F, stream[start : start + length]), start + length
