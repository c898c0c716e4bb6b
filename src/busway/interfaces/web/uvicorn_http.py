"""uvicorn's HTTP protocol, with limits on the size and the time of a request's head."""

import asyncio
from typing import Any, cast

from httptools import HttpParserError, HttpParserUpgrade
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from busway.interfaces.web.draining import Drain
from busway.interfaces.web.requests import origin_form
from busway.interfaces.web.uvicorn_websocket import find_gateway


class _HeadTooLarge(Exception):
    pass


class HTTPProtocol(HttpToolsProtocol):
    """A TCP connection until it becomes a WebSocket."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Take what uvicorn gives."""
        super().__init__(config, server_state, app_state, _loop)
        self.gateway = find_gateway(config)
        self.slot = 0
        self._in_head = False
        """Whether the next byte belongs to a head, or to trailers."""
        self._head_size = 0
        self._in_trailers = False
        self._too_large = False
        self._chunk = b""
        self._drain: Drain | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`: the first request has to come in time."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.gateway.wheel.discard(self)
        self._stop_draining()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`: the client has fallen behind."""
        super().pause_writing()
        self._begin_draining()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_draining()

    def on_response_complete(self) -> None:
        """Go on to the next request, or wait until the client has taken the last response."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._begin_draining()

    def timeout_keep_alive_handler(self) -> None:
        """End an idle connection."""
        if not self.transport.is_closing():
            super().timeout_keep_alive_handler()
            self._begin_draining()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._unset_keepalive_if_required()
        self._chunk = data
        try:
            self.parser.feed_data(data)
        except HttpParserError:
            self.send_400_response("The request is malformed.")
        except HttpParserUpgrade as upgrade:
            self._go_on(memoryview(data)[upgrade.args[0] :])
        self._chunk = b""
        if not self._in_head:
            self._head_size = 0
            return
        self._head_size += len(data)
        if self._head_size > self.gateway.options.max_head_size:
            self._refuse(431, b"The request's head is too large.")
        elif not (self.slot or self._in_trailers):
            self._await_head()

    def on_message_begin(self) -> None:
        """See httptools."""
        super().on_message_begin()
        self._in_head = True
        self._in_trailers = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools. Trailers come here as well, but are no headers (RFC 9110, 6.5.1)."""
        if self._in_trailers:
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """See httptools."""
        self._in_head = False
        self.gateway.wheel.discard(self)
        limit = self.gateway.options.max_head_size
        if self._head_size + len(self._chunk) > limit and self._measure() > limit:
            self._too_large = True
            raise _HeadTooLarge
        self._head_size = -len(self._chunk)  # a head behind it has not all of what came
        if self.url[:1] != b"/":
            self.url = origin_form(self.url)
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        """See httptools: data of a chunk follows or, behind the last one, trailers."""
        self._in_head = self._in_trailers = True
        self._head_size = -len(self._chunk)

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self._in_head = False
        super().on_body(body)

    def on_chunk_complete(self) -> None:
        """See httptools: also the end of the trailers."""
        self._in_head = False
        self._head_size = -len(self._chunk)

    def _measure(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def send_400_response(self, msg: str) -> None:
        """Answer a request that could not be parsed, and close."""
        self._in_head = False
        if self._too_large:
            self._refuse(431, b"The request's head is too large.")
        else:
            self._refuse(400, msg.encode())

    def abort(self) -> None:
        """End the transport at once."""
        self.transport.abort()

    def expire(self, now: float) -> None:
        """See `timers.Timed`: the head of a request did not come in time."""
        self.gateway.count("slow request head")
        self._refuse(408, b"The request did not arrive in time.")

    def _should_upgrade(self) -> bool:
        # HTTP/1.0 does not know Upgrade (RFC 9110, 7.8).
        return self.scope["http_version"] != "1.0" and super()._should_upgrade()

    def _go_on(self, rest: memoryview) -> None:
        """Take what follows a request that asks for another protocol."""
        while not self._should_upgrade():
            # No protocol that we know: the client may ask, and go on with HTTP (RFC 9110, 7.8).
            try:
                self.parser.feed_data(rest)
            except HttpParserError:
                self.send_400_response("The request is malformed.")
            except HttpParserUpgrade as upgrade:
                rest = rest[upgrade.args[0] :]
                continue
            return
        self._become_websocket(bytes(rest))

    def _become_websocket(self, rest: bytes) -> None:
        """Hand the transport over to the WebSocket protocol, with what came behind the request."""
        if self._unanswered() is not None or self.flow.write_paused:
            self._refuse(400, b"A WebSocket cannot begin before the last response is taken.")
            return
        self.handle_websocket_upgrade()
        if rest:
            cast("asyncio.Protocol", self.transport.get_protocol()).data_received(rest)
        # The parser and this object hold each other, and nothing needs either any more.
        del self.parser

    def _begin_draining(self) -> None:
        if self._drain is None:
            self._drain = Drain(self.gateway, self.transport)

    def _stop_draining(self) -> None:
        if self._drain is not None:
            self._drain.stop()
            self._drain = None

    def _await_head(self) -> None:
        gateway = self.gateway
        timeout = gateway.options.websocket_handshake_timeout
        gateway.wheel.set(self, self.loop.time() + timeout)

    def _refuse(self, status: int, text: bytes) -> None:
        """Answer what cannot be served, unless another answer is under way; end the connection."""
        self._in_head = False
        self.gateway.wheel.discard(self)
        self.parser = cast("Any", _Deaf())
        cycle = self._unanswered()
        if cycle is not None and not cycle.more_body:
            # What came before it is answered; then uvicorn closes.
            cycle.keep_alive = False
            return
        if cycle is None or not (cycle.response_started or self.pipeline):
            self._answer(status, text)
        if cycle is not None:
            cycle.disconnected = True
        self.transport.close()
        self._begin_draining()

    def _unanswered(self) -> RequestResponseCycle | None:
        """Return the last request, if its answer is not complete."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return None if cycle is None or cycle.response_complete else cycle

    def _answer(self, status: int, text: bytes) -> None:
        self.gateway.log.refused(self.client, status, len(text))
        self.transport.write(
            STATUS_LINE[status]
            + b"content-type: text/plain; charset=utf-8\r\nconnection: close\r\n"
            + b"content-length: %d\r\n\r\n" % len(text)
            + text
        )


class _Deaf:
    """In place of a parser: nothing that comes counts any more."""

    def feed_data(self, data: bytes) -> None:
        """Do nothing."""
