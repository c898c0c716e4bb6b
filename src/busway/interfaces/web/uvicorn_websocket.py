"""The WebSocket protocol class for uvicorn: no task and no queue per connection.

Give it to uvicorn as `ws=WebSocketProtocol` with an `asgi.Application` as the application.
"""

import asyncio
from typing import TYPE_CHECKING, Any, cast

from uvicorn.config import Config
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from busway.interfaces.web.access import name_client
from busway.interfaces.web.endings import Ending
from busway.interfaces.web.frames import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    FrameReader,
    encode,
    encode_close,
    encode_data,
)
from busway.interfaces.web.handshake import (
    check_handshake,
    encode_accept,
    encode_denial,
    parse_head,
)
from busway.interfaces.web.replies import Headers
from busway.interfaces.web.requests import BadRequest, Head, admit_websocket, split_target
from busway.interfaces.web.states import CLOSING, OPEN, WSEvent
from busway.interfaces.web.websocket import WebSocketConnection

if TYPE_CHECKING:
    from busway.interfaces.web.gateway import Gateway

_PING = encode(PING, b"")

_GREEDY = 32 * 1024
"""Bytes in one read after which a client has to wait for the next tick."""


def find_gateway(config: Config) -> "Gateway":
    """Return the gateway of uvicorn's application, under any middleware around it."""
    app: Any = config.loaded_app
    while not hasattr(app, "gateway"):
        app = app.app
    return cast("Gateway", app.gateway)


class WebSocketProtocol(asyncio.Protocol, WebSocketConnection):
    """A connection under uvicorn."""

    __slots__ = ("_accept_key", "_frames", "_peers", "_reader", "_transport")

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any]
    ) -> None:
        """Take what uvicorn gives."""
        WebSocketConnection.__init__(self, find_gateway(config))
        self._peers: set[Any] = server_state.connections
        self._accept_key = ""
        self._reader: FrameReader | None = None
        self._frames: list[bytes] | None = None
        """Frames to write at the end of this tick, all with one system call."""

    # -- what uvicorn and the event loop call -------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`; uvicorn calls it when a request asks for an upgrade."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=self.gateway.options.write_buffer)
        self._peers.add(self)

    def data_received(self, data: bytes) -> None:
        """Take frames; before that, from uvicorn's own HTTP, a whole handshake request."""
        reader = self._reader
        if reader is None:
            self.begin(*parse_head(data))
            return
        self.pinged = 0.0
        text = reader.short_text(data)
        if text is not None:
            self.received(text)
            return
        if len(data) >= _GREEDY:
            self.hesitate()
        for opcode, payload in reader.feed(data):
            if TEXT <= opcode <= BINARY:
                self.received(payload)
            elif opcode == PING:
                if self.state is OPEN:
                    self._write_now(encode(PONG, payload))
            elif opcode != PONG:
                ending = Ending(int(payload.code), payload.reason, 400, [], b"Bad request.")
                event = WSEvent.CLOSE_FRAME if opcode == CLOSE else WSEvent.BROKE_PROTOCOL
                self.step(event, ending)

    def eof_received(self) -> None:
        """See `asyncio.Protocol`: the transport closes itself."""

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._peers.discard(self)
        self.lost()

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`: the client has fallen behind by the whole write buffer."""
        self.cut_slow()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""

    def shutdown(self) -> None:
        """End: uvicorn calls it when the server stops."""
        self.shut_down()

    # -- handshake ----------------------------------------------------------------------

    def begin(self, method: str, target: bytes, headers: Headers) -> None:
        """Take the handshake request; names of headers are in lower case."""
        self._reader = FrameReader(self.gateway.options.max_message_size)
        try:
            path, query = split_target(target)
            handshake = check_handshake(method, headers)
            self.head = head = self._head(path, query, headers, handshake.subprotocols)
            admit_websocket(head, self.gateway.options)
        except BadRequest as refusal:
            self.client = name_client(get_remote_addr(self._transport))
            self.turn_away(refusal)
        else:
            self._accept_key = handshake.accept
            self.connect(head)

    def _head(self, path: str, query: bytes, headers: Headers, subprotocols: list[str]) -> Head:
        transport = self._transport
        return Head(
            scheme="wss" if is_ssl(transport) else "ws",
            http_version="1.1",
            path=path,
            query_string=query,
            headers=headers,
            client=get_remote_addr(transport),
            server=get_local_addr(transport),
            subprotocols=subprotocols,
        )

    def write_accept(self, subprotocol: str | None, headers: Headers) -> None:
        """See `Wire`."""
        headers = self._with_server(headers)
        self._transport.write(encode_accept(self._accept_key, subprotocol, headers))
        self._accept_key = ""

    def write_denial(self, status: int, headers: Headers, content: bytes) -> None:
        """See `Wire`."""
        self._transport.write(encode_denial(status, self._with_server(headers), content))
        self._transport.close()

    def _with_server(self, headers: Headers) -> Headers:
        name = self.gateway.options.server_name
        return headers if name is None else [(b"server", name.encode()), *headers]

    # -- frames -------------------------------------------------------------------------

    def write_data(self, payload: str | bytes, frame: bytes | None) -> None:
        """See `Wire`."""
        if frame is None:
            frame = encode_data(payload)
        if self._frames is None:
            self._frames = [frame]
            self.gateway.unwritten.append(self)
        else:
            self._frames.append(frame)

    def flush(self) -> None:
        """See `Wire`."""
        frames, self._frames = self._frames, None
        if frames is not None:
            self._transport.write(b"".join(frames))  # one alone is not copied

    def _write_now(self, data: bytes) -> None:
        """Write at once, but behind what waits for the end of the tick."""
        self.flush()
        self._transport.write(data)

    def write_close(self, code: int, reason: str) -> None:
        """See `Wire`."""
        self._write_now(encode_close(code, reason))
        transport = self._transport
        if self._reader is not None and self._reader.finished and self.state is CLOSING:
            # Nothing it sends can be understood any more; it sees the end behind the close
            # frame, while what it still sends is read, so that no reset overtakes the frame.
            if transport.can_write_eof():
                transport.write_eof()
            else:
                transport.close()

    def write_ping(self) -> None:
        """See `Wire`."""
        self._write_now(_PING)

    def pause_reading(self) -> None:
        """See `Wire`."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """See `Wire`."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def end(self) -> None:
        """See `Wire`."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """See `Wire`."""
        self._frames = None
        self._transport.abort()
