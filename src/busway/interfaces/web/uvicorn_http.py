"""The HTTP protocol class for uvicorn: no task per request, no ASGI in between.

Give it to uvicorn as `http=HTTPProtocol` with an `asgi.Application` as the application. That
starts and ends the gateway, and is asked for nothing else; nor is any middleware around it.
"""

import asyncio
from collections import deque
from enum import Enum
from math import inf
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from busway.interfaces.web.draining import Drain
from busway.interfaces.web.http_reader import Request, RequestReader
from busway.interfaces.web.http_writer import ResponseWriter
from busway.interfaces.web.replies import Headers, HTTPReply
from busway.interfaces.web.requests import Address, BadRequest, Head, split_target
from busway.interfaces.web.uvicorn_request import UvicornRequest
from busway.interfaces.web.uvicorn_websocket import WebSocketProtocol, find_gateway

_PLAIN = (b"content-type", b"text/plain; charset=utf-8")

_LINGER = 5.0
"""Seconds of silence after which a client that has its last answer sends nothing more."""


class Awaited(Enum):
    """What a client has only so much time for."""

    NOTHING = 0
    HEAD = 1
    """The first head, or the rest of one."""
    BODY = 2
    """More of a body."""
    NEXT = 3
    """Another request."""
    END = 4
    """More of a body that nobody reads, behind the last answer: see `_let_finish`."""


# Every request needs several, and a look-up in an Enum is a slow one in Python 3.11.
_NOTHING, _HEAD, _BODY, _NEXT, _END = Awaited


class HTTPProtocol(asyncio.Protocol):
    """A TCP connection until it becomes a WebSocket: requests in a line, answered in turn."""

    transport: asyncio.Transport

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Take what uvicorn gives."""
        self.gateway = find_gateway(config)
        self._options = self.gateway.options
        self.slot = 0
        self._config = config
        self._state = server_state
        self._app_state = app_state
        self._reader = RequestReader(self._options.max_head_size)
        self._line: deque[UvicornRequest] = deque()
        """Requests whose answers are not complete. The first one is served."""
        self._awaited = _NOTHING
        self._deadline = inf
        """When it has to be there."""
        self.reminder = inf
        """When the first in line wants to be told the time."""
        self._drain: Drain | None = None
        self._client: Address = None
        self._server: Address = None
        self._scheme = "http"
        self.is_full = False
        """Whether the client has fallen behind: nothing is to be written."""
        self._is_reading = True
        self._is_deaf = False
        """Whether nothing that comes counts any more."""
        self._is_serving = False

    # -- what uvicorn and the event loop call -------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`: the first request has to come in time."""
        self.transport = cast("asyncio.Transport", transport)
        self._client = get_remote_addr(self.transport)
        self._server = get_local_addr(self.transport)
        self._scheme = "https" if is_ssl(self.transport) else "http"
        self._state.connections.add(self)  # type: ignore[arg-type]  # those that it knows
        self._await(_HEAD, self._options.websocket_handshake_timeout)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._is_deaf:
            if self._awaited is _END:
                self._await(_END, _LINGER)
            return
        reader, line = self._reader, self._line
        found = reader.feed(data)
        if line:
            line[0].advance()
        for request in found:
            self._append(request)
        if not self._is_deaf:
            if reader.failure is not None:
                self._refuse(reader.failure)
            elif reader.handshake is not None:
                self._become_websocket(reader.handshake, reader.rest)
        self.mind()

    def eof_received(self) -> None:
        """See `asyncio.Protocol`: the transport closes itself."""

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._state.connections.discard(self)
        self._hear_no_more()
        self.gateway.wheel.discard(self)
        self._stop_draining()
        while self._line:
            self._line.popleft().lost()

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`: the client has fallen behind."""
        self.is_full = True
        self._begin_draining()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self.is_full = False
        if not self.transport.is_closing():
            self._stop_draining()
        if self._line:
            self._line[0].write_on()

    def shutdown(self) -> None:
        """End after the requests that have come: uvicorn calls it when the server stops."""
        if self._line:
            self._line[-1].writer.keep_alive = False
        else:
            self._close()

    def abort(self) -> None:
        """End the transport at once."""
        self.transport.abort()

    # -- requests in line ---------------------------------------------------------------

    @property
    def own_headers(self) -> Headers:
        """The headers that every response has."""
        return self._state.default_headers

    def _append(self, incoming: Request) -> None:
        if self._is_deaf:
            return  # one before it was the last
        try:
            path, query = split_target(incoming.target)
        except BadRequest as refusal:
            self._refuse(refusal)
            return
        head = Head(
            scheme=self._scheme,
            http_version=incoming.version,
            path=path,
            query_string=query,
            headers=incoming.headers,
            client=self._client,
            server=self._server,
            method=incoming.method,
        )
        self._line.append(UvicornRequest(self, head, incoming))
        self._serve()

    def _serve(self) -> None:
        """Serve the first in line, and after it those whose turn comes at once."""
        line = self._line
        self._is_serving = True
        while line and not line[0].begun:
            line[0].begin()
        self._is_serving = False

    def answered(self) -> None:
        """Go on: the response to the first in line is complete, or ends here."""
        line = self._line
        self._state.total_requests += 1
        if not line.popleft().writer.keep_alive:
            line.clear()
            self._let_finish()
        elif not self._is_serving:
            if line:
                self._serve()
            self.mind()

    def mind(self) -> None:
        """See to it that reading, and what is awaited, are as they should be."""
        line, reader = self._line, self._reader
        is_reading = not line or (len(line) == 1 and not line[0].is_holding)
        if is_reading is not self._is_reading:
            self._read(is_reading)
        if self._is_deaf:
            return
        if not is_reading:
            self._await(_NOTHING, inf)
        elif reader.in_head:
            if self._awaited is not _HEAD:
                self._await(_HEAD, self._options.websocket_handshake_timeout)
        elif not reader.request.complete:
            self._await(_BODY, self._options.body_timeout or inf)
        elif line:
            self._awaited, self._deadline = _NOTHING, inf
        elif self._awaited is _NOTHING or self._awaited is _BODY:
            self._await(_NEXT, self._options.keep_alive)

    def _read(self, wanted: bool) -> None:
        self._is_reading = wanted
        if self.transport.is_closing():
            return
        if wanted:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    # -- time ---------------------------------------------------------------------------

    def _await(self, what: Awaited, seconds: float) -> None:
        self._awaited = what
        if seconds is inf:
            self._deadline = inf
        else:
            self._deadline = deadline = self.gateway.time() + seconds
            self.gateway.wheel.hasten(self, deadline)

    def expire(self, now: float) -> None:
        """See `timers.Timed`: what is awaited may not have come in time."""
        if now >= self.reminder:
            self.reminder = inf
            self._line[0].expire(now)
        if now < self._deadline:
            following = min(self._deadline, self.reminder)
            if following is not inf:
                self.gateway.wheel.set(self, following)
            return
        awaited, self._awaited = self._awaited, _NOTHING
        if awaited is _HEAD:
            self.gateway.count("slow request head")
            self._refuse(BadRequest(408, "The request did not arrive in time."))
        elif awaited is _BODY and self._line:
            self._line[0].stalled()
        else:
            self._close()
        if self.reminder is not inf:
            self.gateway.wheel.hasten(self, self.reminder)

    # -- the end ------------------------------------------------------------------------

    def _refuse(self, why: BadRequest) -> None:
        """Turn away what cannot be served; what came before it is answered first."""
        reader, line = self._reader, self._line
        self._hear_no_more()
        # The rest of a body whose request was answered already gets no second answer.
        is_due = not reader.in_body or reader.request.is_wanted
        if line and not line[-1].incoming.complete:
            broken = line.pop()
            is_due = not broken.writer.status
            broken.lost()
        if line:
            line[-1].writer.keep_alive = False
            return
        if is_due:
            self._answer(why)
        self._close()

    def _answer(self, why: BadRequest) -> None:
        content = why.text.encode()
        self.gateway.log.refused(self._client, why.status, len(content))
        reply = HTTPReply(why.status, [_PLAIN, *why.headers], content)
        writer = ResponseWriter("GET", "1.1", False)
        self.transport.write(writer.encode(reply, self.own_headers))

    def _become_websocket(self, request: Request, rest: bytes) -> None:
        """Hand the transport over to the WebSocket protocol, with what came behind the request."""
        if self._line or self.is_full:
            text = "A WebSocket cannot begin before the last response is taken."
            self._refuse(BadRequest(400, text))
            return
        self._hear_no_more()
        self.gateway.wheel.discard(self)
        self._state.connections.discard(self)
        protocol = WebSocketProtocol(self._config, self._state, self._app_state)
        protocol.connection_made(self.transport)
        self.transport.set_protocol(protocol)
        protocol.begin(request.method, request.target, request.headers)
        if rest:
            protocol.data_received(rest)

    def _hear_no_more(self) -> None:
        self._is_deaf = True
        self._reader.close()
        self._await(_NOTHING, inf)

    def _let_finish(self) -> None:
        """End the transport, but let a client send the body that it is sending.

        A reset would be the answer to the rest of it, and can overtake what was written; many
        clients read only then (RFC 9112, 9.6).
        """
        is_sending = self._reader.in_body and self._reader.failure is None
        if not (is_sending and self.transport.can_write_eof()) or self.transport.is_closing():
            self._close()
            return
        self._hear_no_more()
        self.transport.write_eof()
        self._await(_END, _LINGER)
        self._begin_draining()
        self.mind()

    def _close(self) -> None:
        """End the transport after what was written, if the client takes it."""
        self._hear_no_more()
        self.transport.close()
        self._begin_draining()

    def _begin_draining(self) -> None:
        if self._drain is None:
            self._drain = Drain(self.gateway, self.transport)

    def _stop_draining(self) -> None:
        if self._drain is not None:
            self._drain.stop()
            self._drain = None
