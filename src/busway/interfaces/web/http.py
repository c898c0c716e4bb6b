"""One HTTP request: its parts go to the bus, the parts of its response come from there.

Knows no server: adapters implement the abstract methods.
"""

import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from math import inf
from typing import TYPE_CHECKING, Any

from busway.bus.errors import BuswayError, MessageTooLarge
from busway.bus.operations import Send
from busway.interfaces.web.replies import HTTPReply, ReplyError, parse_http_reply
from busway.interfaces.web.requests import Head
from busway.interfaces.web.states import DONE, HTTP, REQUEST, WAITING, HTTPEvent

if TYPE_CHECKING:
    from busway.interfaces.web.gateway import Gateway

logger = logging.getLogger("busway.web")

_PLAIN = [(b"content-type", b"text/plain; charset=utf-8")]
_RETRY = [*_PLAIN, (b"retry-after", b"1")]

FULL = HTTPReply(503, _RETRY, b"The service is busy. Try again.")
LATE = HTTPReply(503, _RETRY, b"Nobody answered in time.")
STALLED = HTTPReply(408, [*_PLAIN, (b"connection", b"close")], b"The request body did not arrive.")
STOPPING = HTTPReply(503, _RETRY, b"The service restarts. Try again.")
FAULT = HTTPReply(500, _PLAIN, b"Internal server error.")
TOO_LARGE = HTTPReply(413, _PLAIN, b"The request is too large.")

_PART, _LAST = HTTPEvent.PART, HTTPEvent.LAST

_GRACE = 0.5
"""Seconds after which a request that has no answer yet is watched for its client's leaving."""


class Outlet:
    """An ordered way of one request to the bus, of which the others are independent."""

    __slots__ = ("_when_drained", "waiting")

    def __init__(self, when_drained: Callable[[], None]) -> None:
        self.waiting: deque[Send] | None = None
        self._when_drained = when_drained

    def refused(self, send: Send) -> bool:
        """See `stalled.Source.refused`: try again."""
        return True

    def impossible(self, send: Send, error: BuswayError) -> None:
        """See `stalled.Source.impossible`."""
        logger.error("to %s: %s", send.channel, error)

    def drained(self) -> None:
        """See `stalled.Source.drained`."""
        self._when_drained()


class HTTPConnection(ABC):
    """The part of a request that is the same under every server."""

    __slots__ = (
        "_acked",
        "_acks",
        "_body",
        "_body_name",
        "_chunks",
        "_heard",
        "_watched",
        "ack_channel",
        "asked",
        "body_channel",
        "channel",
        "gateway",
        "head",
        "slot",
        "started",
        "state",
        "waiting",
    )

    def __init__(self, gateway: "Gateway", head: Head) -> None:
        self.gateway = gateway
        self.head = head
        self.state = WAITING
        self.channel = ""
        self.waiting: deque[Send] | None = None
        self.slot = 0
        self.started = gateway.time()
        self.asked = 0.0
        """When the last of the request went to the bus: from then on an answer is awaited.
        0: none of it has."""
        self.body_channel: str | None = None
        """Where the rest of the body goes, until it is complete."""
        self.ack_channel: str | None = None
        self._body: Outlet | None = None
        self._body_name = ""
        self._chunks = 0
        self._acks: Outlet | None = None
        self._acked = 0
        self._heard = 0.0
        """When a worker that streams the response was last heard of."""
        self._watched = False

    # -- what a server's adapter does ---------------------------------------------------

    @abstractmethod
    def write_part(self, reply: HTTPReply) -> None:
        """Send a part of the response, behind those before."""

    @abstractmethod
    def watch(self) -> None:
        """Begin to look out for the client's leaving, and report it with `gone`."""

    @abstractmethod
    def abort(self) -> None:
        """End the transport, or have it ended, without a proper end of the response."""

    @abstractmethod
    def body_accepted(self) -> None:
        """Go on: a part of the body that had found no room has been sent."""

    # -- from the client ----------------------------------------------------------------

    def admitted(self) -> bool:
        """Put the request on the books; False, and an answer, when there is no room."""
        if self.gateway.register(self):
            return True
        self.gateway.count("too many connections")
        self.step(HTTPEvent.REFUSED, FULL)
        return False

    def request(self, body: bytes, *, more: bool) -> None:
        """Send the request to the bus, with the whole of its body or the first part."""
        gateway = self.gateway
        message = self.head.fields()
        message["reply_channel"] = self.channel
        message["method"] = self.head.method
        message["body"] = body
        if more:
            self.body_channel = self._body_name = gateway.layer.new_channel("http.request.body?")
            message["body_channel"] = self.body_channel
            self._body = Outlet(self.body_accepted)
        self.asked = gateway.time()
        self.remind(self.asked + _GRACE)
        gateway.bus.post(Send("http.request", message, checked=True), self)

    def post_body(self, content: bytes, *, more: bool) -> None:
        """Send a further part of the body. `has_room` says later whether there was room for it."""
        if self.body_channel is None or self._body is None:
            return
        self._chunks += 1
        chunk = {"number": self._chunks, "content": content, "more_content": more}
        self.gateway.bus.post(Send(self.body_channel, chunk, checked=True), self._body)
        if not more:
            self.body_channel = None
            self.asked = self.gateway.time()

    @property
    def has_room(self) -> bool:
        """Whether no part of the body waits for room; if one does, `body_accepted` is called."""
        return self._body is None or self._body.waiting is None

    def gone(self) -> None:
        """Note that the client went away before the response was complete."""
        self.step(HTTPEvent.GONE, None)

    def stalled(self) -> None:
        """Note that the client stopped sending its body."""
        self.gateway.count("stalled body")
        self.step(HTTPEvent.STALLED, STALLED)

    def acknowledge(self, parts: int) -> None:
        """Tell the worker that `parts` parts have been written to the client."""
        if self.ack_channel is None or self.state is DONE:
            return
        self._acked += parts
        if self._acks is None:
            self._acks = Outlet(self._send_acks)
        if self._acks.waiting is None:
            self._send_acks()

    def _send_acks(self) -> None:
        if self._acked and self.ack_channel is not None and self._acks is not None:
            ack = {"acked": self._acked}
            self._acked = 0
            self.gateway.bus.post(Send(self.ack_channel, ack), self._acks)

    # -- from the bus -------------------------------------------------------------------

    def deliver(self, message: Mapping[str, Any]) -> None:
        """Carry out a worker's reply: a part of the response."""
        try:
            reply = parse_http_reply(message, first=self.state is WAITING)
        except ReplyError as error:
            self.fault(error)
            return
        if reply.abort:
            self.gateway.count("aborted response")
            self.step(HTTPEvent.FAULT, FAULT)
            return
        if reply.more and reply.ack_channel is not None:
            self._await_part(reply.ack_channel)
        self.step(_PART if reply.more else _LAST, reply)

    def _await_part(self, ack_channel: str) -> None:
        """Note that a worker is busy with the response, and would be missed if it died."""
        gateway = self.gateway
        self._heard = gateway.time()
        if self.ack_channel is None and self._watched and gateway.options.stream_timeout:
            self.remind(self._heard + gateway.options.stream_timeout)
        self.ack_channel = ack_channel

    def fault(self, error: Exception) -> None:
        """End it because of a reply that cannot be carried out."""
        logger.error("reply to %s (path %r): %s", self.channel, self.head.path, error)
        self.gateway.count("bad reply")
        self.step(HTTPEvent.FAULT, FAULT)

    def refused(self, send: Send) -> bool:
        """See `stalled.Source.refused`: a request is turned away, its disconnect waits."""
        if send.channel == "http.request":
            self.gateway.count("refused request")
            self.step(HTTPEvent.REFUSED, FULL)
            return False
        return True

    def impossible(self, send: Send, error: BuswayError) -> None:
        """See `stalled.Source.impossible`."""
        logger.error("%s from %s (path %r): %s", send.channel, self.channel, self.head.path, error)
        self.gateway.count("impossible message")
        self.step(HTTPEvent.REFUSED, TOO_LARGE if isinstance(error, MessageTooLarge) else FAULT)

    def drained(self) -> None:  # noqa: B027  (nothing to resume)
        """See `stalled.Source.drained`."""

    # -- from the server ----------------------------------------------------------------

    def remind(self, deadline: float) -> None:
        """Have `expire` called at `deadline`, and not at any other time.

        In seconds, by the gateway's time; inf: never.
        """
        if deadline is inf:
            self.gateway.wheel.discard(self)
        else:
            self.gateway.wheel.set(self, deadline)

    def expire(self, now: float) -> None:
        """See `timers.Timed`: watch a request that takes long, give up one that takes too long."""
        if not self._watched:
            self._watched = True
            self.watch()
        options = self.gateway.options
        if self.state is WAITING:
            timeout, since, reason = options.http_timeout, self.asked, "unanswered request"
        elif self.ack_channel is not None:
            timeout, since, reason = options.stream_timeout, self._heard, "silent stream"
        else:
            return
        if not timeout:
            return
        if self.body_channel is not None:
            since = now  # the worker waits for the client, for which there is a limit of its own
        if now < since + timeout:
            self.remind(since + timeout)
            return
        self.gateway.count(reason)
        self.step(HTTPEvent.LATE, LATE)

    def cut_slow(self) -> None:
        """End it because too much waits to be written."""
        self.gateway.count("slow client")
        self.step(HTTPEvent.CUT, STOPPING)

    def shut_down(self) -> None:
        """End it because the server stops."""
        self.step(HTTPEvent.CUT, STOPPING)

    # -- the state machine --------------------------------------------------------------

    def step(self, event: HTTPEvent, reply: HTTPReply | None) -> None:
        """Do what `states.REQUEST` says of `event`."""
        self.state, actions = _STEPS[self.state, event]
        for act in actions:
            act(self, reply)

    def _write(self, reply: HTTPReply) -> None:
        self.write_part(reply)

    def _answer(self, reply: HTTPReply) -> None:
        self.write_part(reply)

    def _abort(self, _: HTTPReply) -> None:
        self.abort()

    def _finish(self, _: HTTPReply) -> None:
        self._end()
        if self._body_name:
            # What an answer that did not want the whole body has left there.
            self.gateway.discard(self._body_name)

    def _end(self) -> None:
        gateway = self.gateway
        self.remind(inf)
        gateway.unregister(self)
        if self._body is not None:
            gateway.bus.abandon(self._body)
            self.body_channel = None

    def _disconnect(self, _: HTTPReply) -> None:
        bus, body_channel = self.gateway.bus, self.body_channel
        self._end()
        if not self.asked:
            return  # nobody has heard of the request
        if body_channel is not None and self._body is not None:
            bus.post(Send(body_channel, {"closed": True}), self._body)
        if self.ack_channel is not None:
            if self._acks is None:
                self._acks = Outlet(self._send_acks)
            bus.post(Send(self.ack_channel, {"disconnected": True}), self._acks)
        message = {"reply_channel": self.channel, "path": self.head.path}
        bus.post(Send("http.disconnect", message), self)

    def _drop(self, _: HTTPReply) -> None:
        self.gateway.count("late reply")


_Act = Callable[[HTTPConnection, Any], None]

_STEPS: Mapping[tuple[HTTP, HTTPEvent], tuple[HTTP, tuple[_Act, ...]]] = {
    key: (state, tuple(getattr(HTTPConnection, action) for action in actions))
    for key, (state, actions) in REQUEST.items()
}
"""`REQUEST`, with the methods that its actions name."""
