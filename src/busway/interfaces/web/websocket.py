"""One WebSocket: protocol events in, messages for the bus out; replies in, frames out.

Knows no server: adapters implement the abstract methods.
"""

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from sys import intern
from typing import TYPE_CHECKING, Any

from busway.bus.errors import BuswayError, MessageTooLarge
from busway.bus.operations import Send
from busway.interfaces.web import endings
from busway.interfaces.web.endings import Ending
from busway.interfaces.web.replies import (
    ReplyError,
    WebSocketReply,
    parse_websocket_reply,
)
from busway.interfaces.web.requests import BadRequest, Head
from busway.interfaces.web.states import (
    CLOSED,
    CONNECTING,
    OPEN,
    WEBSOCKET,
    WS,
    WSAction,
    WSEvent,
)
from busway.interfaces.web.wire import Wire

if TYPE_CHECKING:
    from busway.interfaces.web.gateway import Gateway

logger = logging.getLogger("busway.web")


class WebSocketConnection(Wire):
    """The part of a connection that is the same under every server.

    Adapters call `connect`, `received`, `step` and `lost`; the gateway calls the rest.
    """

    __slots__ = (
        "channel",
        "client",
        "gateway",
        "head",
        "opened",
        "order",
        "path",
        "pinged",
        "slot",
        "state",
        "waiting",
    )

    def __init__(self, gateway: "Gateway") -> None:
        self.gateway = gateway
        self.state: WS = CONNECTING
        self.channel = ""
        """Its reply channel; empty: not on the books."""
        self.path = ""
        self.client = ""
        """Its address, for the access log; empty when that is off."""
        self.order = 0
        self.head: Head | None = None
        """Of the handshake, until that is over."""
        self.waiting: deque[Send] | None = None
        self.slot = 0
        self.opened = 0.0
        self.pinged = 0.0
        """When a ping was sent that nothing has followed yet; 0: none."""

    # -- from the client ----------------------------------------------------------------

    def connect(self, head: Head) -> None:
        """Begin: a valid handshake has come. `head` was admitted."""
        gateway = self.gateway
        self.head = head
        self.path = intern(head.path)
        self.opened = gateway.time()
        if not gateway.register(self):
            gateway.count("too many connections")
            self.step(WSEvent.REFUSED, endings.UNAVAILABLE)
            return
        gateway.wheel.set(self, self.opened + gateway.options.websocket_connect_timeout)
        message = {"reply_channel": self.channel, **head.fields()}
        message["subprotocols"] = list(head.subprotocols)
        message["order"] = 0
        gateway.bus.post(Send("websocket.connect", message), self)

    def turn_away(self, refusal: BadRequest) -> None:
        """Refuse a handshake that is not fit for the bus."""
        self.gateway.count("refused handshake")
        self.state = CLOSED
        self.write_denial(refusal.status, refusal.headers, refusal.text.encode())
        self.gateway.log.denied(self, refusal.status)
        self.head = None

    def received(self, payload: str | bytes) -> None:
        """Take a whole message from the client."""
        if self.state is OPEN:  # nearly always: spare it the table
            self._forward(payload)
        else:
            self.step(WSEvent.MESSAGE, payload)

    def hesitate(self) -> None:
        """Read no more in this tick: the bus is to say first whether it has room for so much."""
        if self.state is OPEN:
            self.pause_reading()
            self.gateway.greedy.append(self)
            self.gateway.bus.wake()

    def go_on(self) -> None:
        """Read again after `hesitate`, unless there was no room."""
        if self.waiting is None or self.state is not OPEN:
            self.resume_reading()

    def lost(self, code: int = 1006, reason: str = "") -> None:
        """Note that the transport has ended."""
        self.step(WSEvent.LOST, Ending(code, reason))
        self.gateway.wheel.discard(self)

    # -- from the bus -------------------------------------------------------------------

    def deliver(self, message: Mapping[str, Any]) -> None:
        """Carry out a worker's reply."""
        if self.state is OPEN and len(message) == 1:
            text = message.get("text")
            if text.__class__ is str:
                self.write_data(text, None)
                return
        try:
            reply = parse_websocket_reply(message)
            self._check_subprotocol(reply)
        except ReplyError as error:
            self.fault(error)
        else:
            self.apply(reply, None)

    def apply(self, reply: WebSocketReply, frame: bytes | None) -> None:
        """Carry out a reply; `frame` is its data encoded, where that was done."""
        if reply.data is not None and reply.accept is not False:
            if self.state is OPEN:
                self.write_data(reply.data, frame)
            else:
                self.step(WSEvent.SEND, reply)
        elif reply.accept and reply.close is None:
            self.step(WSEvent.ACCEPT, reply)
        if reply.close is not None or reply.accept is False:
            ending = Ending(
                reply.close or 1000, reply.reason, reply.status, reply.headers, reply.content
            )
            self.step(WSEvent.CLOSE, ending)

    def fault(self, error: ReplyError) -> None:
        """End it because of a reply that cannot be carried out."""
        logger.error("reply to %s (path %r): %s", self.channel, self.path, error)
        self.gateway.count("bad reply")
        self.step(WSEvent.CUT, endings.FAULT)

    def refused(self, send: Send) -> bool:
        """See `stalled.Source.refused`: a connect is turned away, everything else waits."""
        if send.channel == "websocket.connect":
            self.gateway.count("refused connect")
            self.step(WSEvent.REFUSED, endings.UNAVAILABLE)
            return False
        if self.state in (CONNECTING, OPEN):
            self.pause_reading()
        return True

    def impossible(self, send: Send, error: BuswayError) -> None:
        """See `stalled.Source.impossible`."""
        logger.error("%s from %s (path %r): %s", send.channel, self.channel, self.path, error)
        self.gateway.count("impossible message")
        self.step(
            WSEvent.CUT, endings.TOO_BIG if isinstance(error, MessageTooLarge) else endings.FAULT
        )

    def drained(self) -> None:
        """See `stalled.Source.drained`."""
        if self.state is OPEN:
            self.resume_reading()

    # -- from the server ----------------------------------------------------------------

    def expire(self, now: float) -> None:
        """See `timers.Timed`: find out which deadline it was."""
        options, wheel = self.gateway.options, self.gateway.wheel
        if self.state is CONNECTING:
            self.gateway.count("unanswered connect")
            self.step(WSEvent.CUT, endings.UNANSWERED)
        elif self.state is not OPEN:
            self.step(WSEvent.DEAD, endings.LOST)
        elif options.websocket_timeout and now >= self.opened + options.websocket_timeout:
            self.step(WSEvent.CUT, endings.EXPIRED)
        elif not self.pinged:
            self.pinged = now
            self.write_ping()
            self._await_deadline(now)
        elif self.waiting is not None:
            # Not reading, so an answer could not be seen.
            wheel.set(self, now + options.ping_timeout)
        elif now >= self.pinged + options.ping_timeout:
            self.gateway.count("dead peer")
            self.step(WSEvent.DEAD, endings.LOST)
        else:
            self._await_deadline(now)

    def cut_slow(self) -> None:
        """End it because too much waits to be written."""
        self.gateway.count("slow client")
        self.step(WSEvent.CUT, endings.SLOW)

    def shut_down(self) -> None:
        """End it because the server stops."""
        self.step(WSEvent.CUT, endings.RESTART)

    def _await_deadline(self, now: float) -> None:
        """Ask to be told when there is something to do: ping, give up on a ping, or end."""
        options = self.gateway.options
        deadlines = []
        if options.websocket_timeout:
            deadlines.append(self.opened + options.websocket_timeout)
        if options.ping_interval:
            deadlines.append(now + options.ping_interval)
        if self.pinged:
            deadlines.append(self.pinged + options.ping_timeout)
        if deadlines:
            self.gateway.wheel.set(self, min(deadlines))

    # -- the state machine --------------------------------------------------------------

    def step(self, event: WSEvent, about: Any) -> None:
        """Do what `states.WEBSOCKET` says of `event`; `about` is what the actions need."""
        before = self.state
        self.state, actions = WEBSOCKET[before, event]
        for action in actions:
            _ACTIONS[action](self, about, before)

    def _accept(self, reply: WebSocketReply, _: WS) -> None:
        gateway, head = self.gateway, self.head
        subprotocol = reply.subprotocol
        if subprotocol is None and head is not None and gateway.options.ws_protocols:
            subprotocol = next(iter(head.subprotocols), None)
        self.write_accept(subprotocol, reply.headers)
        gateway.log.connected(self)
        self.head = None
        self._await_deadline(gateway.time())
        held, self.waiting = self.waiting, None
        for send in held or ():
            gateway.bus.post(send, self)
        if self.waiting is None:
            self.resume_reading()

    def _deny(self, ending: Ending, _: WS) -> None:
        self.gateway.wheel.discard(self)
        self.write_denial(ending.status, ending.headers, ending.content)
        self.gateway.log.denied(self, ending.status)
        self.head = None

    def _hold(self, payload: str | bytes, _: WS) -> None:
        """Keep a message that came before the handshake was answered, and read no further."""
        if self.waiting is None:
            self.waiting = deque()
        self._forward(payload)
        self.pause_reading()

    def _forward(self, payload: str | bytes, _: WS = OPEN) -> None:
        self.order = order = self.order + 1
        message = {
            "reply_channel": self.channel,
            "path": self.path,
            "order": order,
            "text" if payload.__class__ is str else "bytes": payload,
        }
        self.gateway.bus.post(Send("websocket.receive", message, checked=True), self)

    def _write(self, reply: WebSocketReply, _: WS) -> None:
        if reply.data is not None:
            self.write_data(reply.data, None)

    def _close(self, ending: Ending, _: WS) -> None:
        gateway = self.gateway
        gateway.wheel.set(self, gateway.time() + gateway.options.websocket_close_timeout)
        self.write_close(ending.code, ending.reason)
        self.resume_reading()  # its close frame is to be seen

    def _echo(self, ending: Ending, _: WS) -> None:
        self.write_close(ending.code, ending.reason)
        self._end()

    def _end(self, *_: Any) -> None:
        gateway = self.gateway
        gateway.wheel.set(self, gateway.time() + gateway.options.websocket_close_timeout)
        self.end()

    def _abort(self, *_: Any) -> None:
        self.gateway.wheel.discard(self)
        self.abort()

    def _disconnect(self, ending: Ending, before: WS) -> None:
        gateway = self.gateway
        if before is CONNECTING:
            self.waiting = None  # what came before the handshake was answered never counts
        self.order += 1
        code = 1006 if before is CONNECTING else ending.code
        message = {
            "reply_channel": self.channel,
            "path": self.path,
            "order": self.order,
            "code": code,
            "reason": ending.reason,
        }
        gateway.bus.post(Send("websocket.disconnect", message), self)
        if before is OPEN:
            gateway.log.disconnected(self, code)
        self._forget()

    def _forget(self, *_: Any) -> None:
        self.gateway.unregister(self)

    def _drop(self, *_: Any) -> None:
        self.gateway.count("late reply")

    def _check_subprotocol(self, reply: WebSocketReply) -> None:
        chosen = reply.subprotocol
        if chosen is not None and self.head is not None and chosen not in self.head.subprotocols:
            offered: Sequence[str] = self.head.subprotocols
            raise ReplyError(
                f"subprotocol {chosen!r}",
                f"one that the client offers: {', '.join(offered) or 'it offers none'}",
            )


_ACTIONS: Mapping[WSAction, Callable[[WebSocketConnection, Any, WS], None]] = {
    action: getattr(WebSocketConnection, action) for action in WSAction
}
