"""An HTTP request under uvicorn: its body to the bus, its response to the transport."""

from collections import deque
from math import inf
from typing import TYPE_CHECKING

from busway.interfaces.web.http import FAULT, HTTPConnection
from busway.interfaces.web.http_reader import Request
from busway.interfaces.web.http_writer import ResponseWriter
from busway.interfaces.web.options import CHUNK, WINDOW
from busway.interfaces.web.replies import HTTPReply, ReplyError
from busway.interfaces.web.requests import BadRequest, Head, admit_parsed
from busway.interfaces.web.states import DONE

if TYPE_CHECKING:
    from busway.interfaces.web.uvicorn_http import HTTPProtocol


class UvicornRequest(HTTPConnection):
    """A request in the line of those that a client has sent on one connection."""

    __slots__ = (
        "_is_over",
        "_parts",
        "_protocol",
        "_queued",
        "begun",
        "incoming",
        "is_holding",
        "writer",
    )

    def __init__(self, protocol: "HTTPProtocol", head: Head, incoming: Request) -> None:
        super().__init__(protocol.gateway, head)
        self._protocol = protocol
        self.incoming = incoming
        self.writer = ResponseWriter(incoming.method, incoming.version, incoming.keep_alive)
        self._parts: deque[HTTPReply] | None = None
        """Parts of the response that wait for the client to take those before; None: none."""
        self._queued = 0
        """Bytes in `_parts`."""
        self.begun = False
        """Whether those before it in line are answered."""
        self.is_holding = False
        """Whether no more of the body is wanted until the bus has taken what it was given."""
        self._is_over = False

    def begin(self) -> None:
        """Serve the request: those before it in line are answered."""
        self.begun = True
        incoming, writer = self.incoming, self.writer
        kept = writer.keep_alive
        waits = incoming.expects_continue and not (incoming.size or incoming.complete)
        if waits:
            writer.keep_alive = False  # who is turned away now may leave out the body, or may not
        try:
            admit_parsed(self.head, self.gateway.options)
        except BadRequest as refusal:
            self.gateway.count("refused request")
            self.state = DONE
            self.write_part(HTTPReply(refusal.status, refusal.headers, refusal.text.encode()))
            return
        if not self.admitted():
            return
        if waits:
            writer.keep_alive = kept
            self._protocol.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.advance()

    # -- the request's body -------------------------------------------------------------

    def advance(self) -> None:
        """Send what has come of the body to the bus: a chunk, and then what it has room for."""
        incoming = self.incoming
        has_chunk = incoming.complete or incoming.size >= CHUNK
        if self.state is DONE or self.is_holding or not has_chunk:
            return
        if not self.asked:
            body, more = incoming.take(CHUNK)
            self.request(body, more=more)
        elif self.body_channel is not None:
            body, more = incoming.take(CHUNK)
            self.post_body(body, more=more)
        else:
            return
        if more:
            self.is_holding = True
            self.gateway.greedy.append(self)

    def go_on(self) -> None:
        """Take more of the body, unless some of it waits for room on the bus."""
        if self.is_holding and self.has_room:
            self.is_holding = False
            self.advance()
            self._protocol.mind()

    def body_accepted(self) -> None:
        """See `HTTPConnection`."""
        self.go_on()

    # -- time, and the client's leaving -------------------------------------------------

    def remind(self, deadline: float) -> None:
        """See `HTTPConnection`: the protocol has the timer, for one request after the other."""
        self._protocol.reminder = deadline
        if deadline is not inf:
            self.gateway.wheel.hasten(self._protocol, deadline)

    def watch(self) -> None:
        """See `HTTPConnection`: the transport says it unasked."""

    def lost(self) -> None:
        """Note that no more comes from the client, and nothing reaches it."""
        if self.begun and not self._is_over:
            self._end_response()
            self.gone()

    # -- the response -------------------------------------------------------------------

    def write_part(self, reply: HTTPReply) -> None:
        """See `HTTPConnection`."""
        if self._parts is None and not self._protocol.is_full:
            self._write_now(reply)
            return
        if self._parts is None:
            self._parts = deque()
        self._parts.append(reply)
        self._queued += len(reply.content)
        if self._queued > self.gateway.options.write_buffer + WINDOW * CHUNK and reply.more:
            self.cut_slow()

    def write_on(self) -> None:
        """Write what has waited for the client."""
        while self._parts and not self._protocol.is_full:
            reply = self._parts.popleft()
            self._queued -= len(reply.content)
            self._write_now(reply)
        if not self._parts:
            self._parts = None

    def _write_now(self, reply: HTTPReply) -> None:
        protocol = self._protocol
        try:
            data = self.writer.encode(reply, protocol.own_headers)
        except ReplyError as error:
            self.fault(error)
            self.abort()
            return
        protocol.transport.write(data)
        if reply.more:
            self.acknowledge(1)
        else:
            self._end_response()
            protocol.answered()

    def abort(self) -> None:
        """See `HTTPConnection`. While nothing has been written, there is a better way to say it."""
        if self._is_over:
            return
        self._parts = None
        if not self.writer.status:
            self._write_now(FAULT)
            return
        self.writer.keep_alive = False
        self._end_response()
        self._protocol.answered()

    def _end_response(self) -> None:
        self._is_over = True
        self._parts = None
        self.is_holding = False
        if not self.incoming.complete:
            self.incoming.discard()
        self.gateway.log.request(self, self.writer.status, self.writer.size)
