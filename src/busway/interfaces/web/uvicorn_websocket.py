"""The WebSocket protocol class for uvicorn: no task and no queue per connection.

Give it to uvicorn as `ws=WebSocketProtocol` with an `asgi.Application` as the application.
"""

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

from uvicorn.config import Config
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

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
from busway.interfaces.web.replies import Headers
from busway.interfaces.web.requests import BadRequest, Head, admit_websocket
from busway.interfaces.web.states import WS, WSEvent
from busway.interfaces.web.websocket import Ending, WebSocketConnection

if TYPE_CHECKING:
    from busway.interfaces.web.gateway import Gateway

_PING = encode(PING, b"")


def find_gateway(config: Config) -> "Gateway":
    """Return the gateway of uvicorn's application, under any middleware around it."""
    app: Any = config.loaded_app
    while not hasattr(app, "gateway"):
        app = app.app
    return cast("Gateway", app.gateway)


class WebSocketProtocol(asyncio.Protocol, WebSocketConnection):
    """A connection under uvicorn."""

    __slots__ = ("_handshake", "_peers", "_reader", "_transport")

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any]
    ) -> None:
        """Take what uvicorn gives."""
        WebSocketConnection.__init__(self, find_gateway(config))
        self._peers: set[Any] = server_state.connections
        self._handshake: Response | None = None
        self._reader: FrameReader | None = None

    # -- what uvicorn and the event loop call -------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`; uvicorn calls it when a request asks for an upgrade."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=self.gateway.options.write_buffer)
        self._peers.add(self)

    def data_received(self, data: bytes) -> None:
        """Take the handshake request, whole, and after that frames."""
        reader = self._reader
        if reader is None:
            self._reader = FrameReader(self.gateway.options.max_message_size)
            self._take_handshake(data)
            return
        self.pinged = 0.0
        for opcode, payload in reader.feed(data):
            if TEXT <= opcode <= BINARY:
                self.received(payload)
            elif opcode == PING:
                if self.state is not WS.CONNECTING:
                    self._transport.write(encode(PONG, payload))
            elif opcode != PONG:
                ending = Ending(payload.code, payload.reason, 400, [], b"Bad request.")
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

    def _take_handshake(self, data: bytes) -> None:
        protocol = ServerProtocol()
        protocol.receive_data(data)
        request = next((e for e in protocol.events_received() if isinstance(e, Request)), None)
        if request is None:
            self.state = WS.CLOSED
            refused = b"".join(protocol.data_to_send())
            self._transport.write(refused or _response(400, [], b"Bad request."))
            self._transport.close()
            return
        response = protocol.accept(request)
        if response.status_code != 101:
            self.state = WS.CLOSED
            self._transport.write(response.serialize())
            self._transport.close()
            return
        self._handshake = response
        head = self._head(request)
        try:
            admit_websocket(head, self.gateway.options)
        except BadRequest as refusal:
            self.gateway.count("refused handshake")
            self.state = WS.CLOSED
            self.write_denial(refusal.status, [], refusal.text.encode())
            return
        self.connect(head)

    def _head(self, request: Request) -> Head:
        raw_path, _, query = request.path.partition("?")
        transport = self._transport
        return Head(
            scheme="wss" if is_ssl(transport) else "ws",
            http_version="1.1",
            path=unquote(raw_path),
            query_string=query.encode("latin-1"),
            headers=[
                (name.lower().encode("latin-1"), value.encode("ascii", "surrogateescape"))
                for name, value in request.headers.raw_items()
            ],
            client=get_remote_addr(transport),
            server=get_local_addr(transport),
            subprotocols=[
                token.strip()
                for value in request.headers.get_all("Sec-WebSocket-Protocol")
                for token in value.split(",")
            ],
        )

    def write_accept(self, subprotocol: str | None, headers: Headers) -> None:
        """See `WebSocketConnection`."""
        response, self._handshake = self._handshake, None
        if response is None:  # pragma: no cover  (only a connection in CONNECTING is accepted)
            return
        parts = [
            b"HTTP/1.1 101 Switching Protocols\r\n",
            b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
            response.headers["Sec-WebSocket-Accept"].encode(),
            b"\r\n",
        ]
        if subprotocol is not None:
            parts.append(f"Sec-WebSocket-Protocol: {subprotocol}\r\n".encode())
        parts.append(_header_lines(_named(headers, self.gateway.options.server_name)))
        parts.append(b"\r\n")
        self._transport.write(b"".join(parts))

    def write_denial(self, status: int, headers: Headers, content: bytes) -> None:
        """See `WebSocketConnection`."""
        self._handshake = None
        headers = _named(headers, self.gateway.options.server_name)
        self._transport.write(_response(status, headers, content))
        self._transport.close()

    # -- frames -------------------------------------------------------------------------

    def write_data(self, payload: str | bytes, frame: bytes | None) -> None:
        """See `WebSocketConnection`."""
        self._transport.write(encode_data(payload) if frame is None else frame)

    def write_close(self, code: int, reason: str) -> None:
        """See `WebSocketConnection`."""
        transport = self._transport
        transport.write(encode_close(code, reason))
        if self._reader is not None and self._reader.finished and self.state is WS.CLOSING:
            # Nothing it sends can be understood any more; it sees the end behind the close
            # frame, while what it still sends is read, so that no reset overtakes the frame.
            if transport.can_write_eof():
                transport.write_eof()
            else:
                transport.close()

    def write_ping(self) -> None:
        """See `WebSocketConnection`."""
        self._transport.write(_PING)

    def pause_reading(self) -> None:
        """See `WebSocketConnection`."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """See `WebSocketConnection`."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def end(self) -> None:
        """See `WebSocketConnection`."""
        self._transport.close()

    def abort(self) -> None:
        """See `WebSocketConnection`."""
        self._transport.abort()


def _named(headers: Headers, server_name: str | None) -> Headers:
    return headers if server_name is None else [(b"server", server_name.encode()), *headers]


def _header_lines(headers: Headers) -> bytes:
    return b"".join([b"%s: %s\r\n" % pair for pair in headers])


def _response(status: int, headers: Headers, content: bytes) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    given = {name.lower() for name, _ in headers}
    if b"content-type" not in given and content:
        headers = [*headers, (b"content-type", b"text/plain; charset=utf-8")]
    headers = [pair for pair in headers if pair[0].lower() not in _OWN]
    headers += [(b"content-length", b"%d" % len(content)), (b"connection", b"close")]
    return f"HTTP/1.1 {status} {phrase}\r\n".encode() + _header_lines(headers) + b"\r\n" + content


_OWN = (b"content-length", b"connection", b"transfer-encoding")
"""Headers of a denial that this server writes itself."""
