"""WebSockets under an ASGI 3 server."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from busway.interfaces.web.asgi_http import head_of
from busway.interfaces.web.endings import Ending
from busway.interfaces.web.replies import Headers
from busway.interfaces.web.requests import BadRequest, admit_websocket
from busway.interfaces.web.states import WSEvent
from busway.interfaces.web.websocket import WebSocketConnection

if TYPE_CHECKING:
    from busway.interfaces.web.gateway import Gateway

Event = MutableMapping[str, Any]


class ASGIWebSocket(WebSocketConnection):
    """A connection whose coroutine writes, with a task that reads."""

    __slots__ = (
        "_can_answer",
        "_done",
        "_outgoing",
        "_queued",
        "_receive",
        "_resumed",
        "_scope",
        "_send",
        "_wake",
    )

    def __init__(
        self,
        gateway: "Gateway",
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Event]],
        send: Callable[[Event], Awaitable[None]],
    ) -> None:
        super().__init__(gateway)
        self._scope = scope
        self._receive = receive
        self._send = send
        self._outgoing: deque[Event] = deque()
        self._queued = 0
        """Bytes in `_outgoing`."""
        self._wake: asyncio.Future[None] | None = None
        self._resumed: asyncio.Future[None] | None = None
        """Set while reading is paused."""
        self._done = False
        self._can_answer = "websocket.http.response" in (scope.get("extensions") or {})

    async def run(self) -> None:
        """Serve the connection."""
        event = await self._receive()
        if event["type"] != "websocket.connect":
            return
        self.head = head = head_of(self._scope)
        self._scope = {}
        try:
            admit_websocket(head, self.gateway.options)
        except BadRequest as refusal:
            self.turn_away(refusal)
        else:
            self.connect(head)
        reader = asyncio.create_task(self._read())
        try:
            await self._write_events()
        finally:
            reader.cancel()
            self.lost()

    # -- from the client ----------------------------------------------------------------

    async def _read(self) -> None:
        limit = self.gateway.options.max_message_size
        while True:
            if self._resumed is not None:
                await self._resumed
            event = await self._receive()
            self.pinged = 0.0
            if event["type"] == "websocket.disconnect":
                self.lost(int(event.get("code") or 1005), event.get("reason") or "")
                self._finish()
                return
            text = event.get("text")
            payload: str | bytes = event["bytes"] if text is None else text
            size = len(payload.encode()) if isinstance(payload, str) else len(payload)
            if size > limit:
                reason = f"messages have at most {limit} bytes"
                self.step(WSEvent.BROKE_PROTOCOL, Ending(1009, reason, 400))
            else:
                self.received(payload)

    # -- to the client ------------------------------------------------------------------

    async def _write_events(self) -> None:
        """Write what is queued, until the connection is over."""
        loop = asyncio.get_running_loop()
        while True:
            while self._outgoing and not self._done:
                event = self._outgoing.popleft()
                if event["type"] is _END:
                    return
                self._queued -= _size(event)
                try:
                    await self._send(event)
                except OSError:
                    return  # the client is gone; the reader may not have heard of it yet
            if self._done:
                return
            self._wake = loop.create_future()
            await self._wake

    def _put(self, *events: Event) -> None:
        self._outgoing.extend(events)
        self._queued += sum(map(_size, events))
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _finish(self) -> None:
        self._done = True
        self._put()

    def write_accept(self, subprotocol: str | None, headers: Headers) -> None:
        """See `Wire`."""
        self._put({"type": "websocket.accept", "subprotocol": subprotocol, "headers": headers})

    def write_denial(self, status: int, headers: Headers, content: bytes) -> None:
        """See `Wire`. Servers that cannot send a response of ours send 403."""
        if self._can_answer:
            length = (b"content-length", b"%d" % len(content))
            start = {"status": status, "headers": [*headers, length]}
            self._put(
                {"type": "websocket.http.response.start", **start},
                {"type": "websocket.http.response.body", "body": content, "more_body": False},
            )
        else:
            self._put({"type": "websocket.close", "code": 1000})
        self._put({"type": _END})

    def write_data(self, payload: str | bytes, frame: bytes | None) -> None:
        """See `Wire`."""
        key = "text" if isinstance(payload, str) else "bytes"
        self._put({"type": "websocket.send", key: payload})
        if self._queued > self.gateway.options.write_buffer:
            self.cut_slow()

    def flush(self) -> None:
        """See `Wire`: nothing is kept."""

    def write_close(self, code: int, reason: str) -> None:
        """See `Wire`."""
        self._put({"type": "websocket.close", "code": code, "reason": reason})

    def write_ping(self) -> None:
        """See `Wire`: the server pings."""
        self.pinged = 0.0

    def pause_reading(self) -> None:
        """See `Wire`."""
        if self._resumed is None:
            self._resumed = asyncio.get_running_loop().create_future()

    def resume_reading(self) -> None:
        """See `Wire`."""
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            resumed.set_result(None)

    def end(self) -> None:
        """See `Wire`."""
        self._put({"type": _END})

    def abort(self) -> None:
        """See `Wire`."""
        self._finish()


_END = "end"
"""Not for the server: nothing is written behind it."""


def _size(event: Event) -> int:
    return len(event.get("text") or event.get("bytes") or "")
