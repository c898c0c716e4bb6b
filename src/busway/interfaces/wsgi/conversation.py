"""What is said on the bus about one request, by the thread that serves it."""

import logging
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from busway.bus.errors import BusError, BuswayError, MessageTooLarge
from busway.bus.names import new_channel
from busway.bus.operations import Send
from busway.interfaces.web.http import FAULT, FULL, LATE, TOO_LARGE
from busway.interfaces.web.options import WINDOW
from busway.interfaces.web.replies import Headers, HTTPReply, ReplyError, parse_http_reply
from busway.interfaces.web.requests import BadRequest, Head
from busway.interfaces.wsgi.environ import Body
from busway.interfaces.wsgi.receivers import Receivers

logger = logging.getLogger("busway.wsgi")

_PLAIN = (b"content-type", b"text/plain; charset=utf-8")
_PARTS = WINDOW // 2
"""Parts of a response that are taken at a time: the worker makes the other half meanwhile."""

_LATER = 0.2
"""Seconds after which a farewell that found no room arrives."""


class Failure(Exception):
    """No worker's answer can be had: the client is given `answer`; `reason` is what is counted."""

    def __init__(self, answer: HTTPReply, reason: str) -> None:
        super().__init__(answer, reason)
        self.answer = answer
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.reason}: {self.answer.content.decode()}"


def refusal(error: BadRequest) -> Failure:
    """Return the failure that tells the client of its mistake."""
    reason = "stalled body" if error.status == 408 else "refused request"
    headers = [_PLAIN, *error.headers]
    return Failure(HTTPReply(error.status, headers, error.text.encode()), reason)


class Conversation:
    """One request and its response. One thread uses it at a time.

    The answer comes on a single-reader channel of this request's own: nothing of an earlier
    request that was given up can come in between, and no thread needs a name on the bus.
    """

    def __init__(self, receivers: Receivers, head: Head, body: Body, timeout: float) -> None:
        """Prepare to hand a request to the bus.

        `timeout` is how long a worker may do nothing for it, in seconds; 0: for ever.
        """
        self.channel = new_channel("wsgi.reply?")
        self.complete = False
        """Whether the last part of the response has come."""
        self._head = head
        self._body = body
        self._timeout = timeout
        self._receivers = receivers
        self._receiver = receivers.take()
        self._channels = (self.channel,)
        self._body_channel = ""
        """Where the rest of the body goes, if there is any."""
        self._ack_channel: str | None = None
        self._unacknowledged = 0
        self._length: int | None = None
        """Bytes of the response's body, if the worker has said."""
        self._size = 0
        self._unsent: list[Send] = []
        self._parts: deque[Mapping[str, Any]] = deque()
        self._registered = False
        """Whether the next part of the response, or room for what is unsent, will wake us."""
        self._more_body = self._told = self._begun = self._ended = False

    # -- until the end ------------------------------------------------------------------

    def begin(self) -> None:
        """Send the request, with the whole of its body or the first part. Raises `Failure`."""
        content, self._more_body = self._read_body()
        message = {
            "reply_channel": self.channel,
            "method": self._head.method,
            "body": content,
            **self._head.fields(),
        }
        if self._more_body:
            self._body_channel = message["body_channel"] = new_channel("http.request.body?")
        self._unsent.append(Send("http.request", message))
        self._exchange()
        if self._unsent:
            raise Failure(FULL, "refused request")
        self._told = True

    def next_part(self) -> HTTPReply:
        """Return the next part of the response, and send the rest of the body meanwhile.

        What it returned before counts as written to the client. Raises `Failure`.
        """
        self._unacknowledged += self._ack_channel is not None
        deadline = self._deadline()
        while not self._parts:
            if self._more_body and not self._unsent:
                self._read_chunk()
                deadline = self._deadline()
            self._acknowledge()
            waiting = len(self._unsent)
            if self._unsent or not self._registered:
                self._exchange()
            if len(self._unsent) < waiting:
                deadline = self._deadline()
            if not self._parts and (self._unsent or not self._more_body):
                self._wait(deadline)
        return self._take_part()

    def _take_part(self) -> HTTPReply:
        try:
            reply = parse_http_reply(self._parts.popleft(), first=not self._begun)
            self._measure(reply)
        except ReplyError as error:
            logger.error("reply to %s (path %s): %s", self.channel, self._head.path, error)  # noqa: TRY400
            raise Failure(FAULT, "bad reply") from error
        self._begun = True
        self.complete = not reply.more
        if reply.more and reply.ack_channel is not None:
            self._ack_channel = reply.ack_channel
        return reply

    def _measure(self, reply: HTTPReply) -> None:
        """Hold the worker to the length that it promised; raises `ReplyError`.

        WSGI servers do not: on a connection that is kept, the client would wait for the rest, or
        take it for the beginning of the next response.
        """
        if reply.status is not None and not is_bodiless(reply.status, self._head.method):
            self._length = _promised_length(reply.headers)
        self._size += len(reply.content)
        length = self._length
        if length is not None and (self._size > length or (self._size < length and not reply.more)):
            raise ReplyError(f"{self._size} bytes of content", f"content-length, {length}")

    def _read_chunk(self) -> None:
        content, self._more_body = self._read_body()
        chunk = {"content": content, "more_content": self._more_body}
        self._unsent.append(Send(self._body_channel, chunk))

    def _read_body(self) -> tuple[bytes, bool]:
        try:
            return self._body.read()
        except BadRequest as error:
            raise refusal(error) from error

    def _acknowledge(self) -> None:
        if self._ack_channel is not None and self._unacknowledged:
            self._unsent.append(Send(self._ack_channel, {"acked": self._unacknowledged}))
            self._unacknowledged = 0

    def _exchange(self) -> None:
        """Send what is to be sent, keep what finds no room, and take what has come."""
        try:
            outcome = self._receiver.exchange(
                self._unsent, (), self._channels, _PARTS, wake_below=1, hold=False
            )
        except BuswayError as error:
            raise failure_of(error, self._head.path) from error
        self._unsent = [r.operation for r in outcome.refused if isinstance(r.operation, Send)]
        self._parts.extend(delivery.message for delivery in outcome.deliveries)
        self._registered = not self._parts

    def _deadline(self) -> float | None:
        return time.monotonic() + self._timeout if self._timeout else None

    def _wait(self, deadline: float | None) -> None:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise Failure(LATE, "unanswered request")
        self._receiver.wait(left)
        self._registered = False

    # -- the end ------------------------------------------------------------------------

    def end(self) -> int:
        """End, and tell the bus if nobody waits for a response any more. Twice is harmless.

        Returns how many parts of the response are dropped.
        """
        if self._ended:
            return 0
        self._ended = True
        reading = bool(self._body_channel and (self._more_body or self._unsent))
        dropped = len(self._parts)
        try:
            if self._told and (reading or not self.complete):
                dropped += self._say_goodbye(reading=reading)
        except BusError as error:
            logger.warning("nobody was told that the request %s ended: %s", self.channel, error)
        finally:
            # Whatever else this receiver is registered for ends with it.
            self._receivers.give_back(self._receiver, reuse=self.complete and not self._unsent)
        return dropped

    def _say_goodbye(self, *, reading: bool) -> int:
        """Tell whoever may wait for something. `reading`: that may be for the body.

        It does not block: what finds no room now is sent for later. What is left of the request
        and its response is taken off the bus, where it would lie until it expires.
        """
        sends = []
        if not self.complete:
            message = {"reply_channel": self.channel, "path": self._head.path}
            sends.append(Send("http.disconnect", message))
            if self._ack_channel is not None:
                sends.append(Send(self._ack_channel, {"disconnected": True}))
        channels = (self.channel, self._body_channel) if reading else self._channels
        outcome = self._receiver.exchange(sends, (), channels, 100, hold=False)
        later = [
            replace(refusal.operation, delay=_LATER)
            for refusal in outcome.refused
            if isinstance(refusal.operation, Send)
        ]
        if reading:
            later.append(Send(self._body_channel, {"closed": True}))
        if later:
            for refused in self._receiver.exchange(later).refused:
                logger.warning("about the end of the request %s: %s", self.channel, refused.error)
        return sum(delivery.channel == self.channel for delivery in outcome.deliveries)


def is_bodiless(status: int, method: str = "GET") -> bool:
    """Say whether a response has no body, whatever a worker sends."""
    return method == "HEAD" or status in (204, 304)


def _promised_length(headers: Headers) -> int | None:
    given = {value.strip() for name, value in headers if name.lower() == b"content-length"}
    if not given:
        return None
    if len(given) > 1 or not (length := given.pop()).isdigit():
        raise ReplyError("content-length that is no number, or more than one", "a number of bytes")
    return int(length)


def failure_of(error: BuswayError, path: str) -> Failure:
    """Return what a client is told when the bus raised `error`, and log that."""
    logger.error("http.request (path %s): %s", path, error)
    if isinstance(error, BusError):
        return Failure(FULL, "refused request")
    if isinstance(error, MessageTooLarge):
        return Failure(TOO_LARGE, "impossible message")
    text = b"The request cannot be passed on."
    return Failure(HTTPReply(400, [_PLAIN], text), "impossible message")
