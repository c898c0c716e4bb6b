"""HTTP requests under an ASGI 3 server."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from busway.interfaces.web.http import FAULT, HTTPConnection
from busway.interfaces.web.options import CHUNK, WINDOW
from busway.interfaces.web.replies import HTTPReply
from busway.interfaces.web.requests import BadRequest, Head, admit
from busway.interfaces.web.states import HTTP

if TYPE_CHECKING:
    from busway.interfaces.web.gateway import Gateway

Event = MutableMapping[str, Any]

_BODILESS = (204, 304)
_OF_BODIES = (b"content-length", b"transfer-encoding")


def head_of(scope: MutableMapping[str, Any]) -> Head:
    """Return the head of the request that `scope` describes."""
    client, server = scope.get("client"), scope.get("server")
    return Head(
        scheme=scope.get("scheme", "http"),
        http_version=scope.get("http_version", "1.1"),
        method=scope.get("method", "GET"),
        path=scope["path"],
        query_string=scope.get("query_string") or b"",
        root_path=scope.get("root_path", ""),
        headers=[(bytes(name).lower(), bytes(value)) for name, value in scope["headers"]],
        client=None if client is None else (client[0], client[1]),
        server=None if server is None else (server[0], server[1]),
        subprotocols=scope.get("subprotocols", ()),
    )


class ASGIRequest(HTTPConnection):
    """A request whose coroutine feeds the bus with its body and the server with the response."""

    __slots__ = (
        "_aborted",
        "_buffer",
        "_disconnected",
        "_more",
        "_parts",
        "_queued",
        "_receive",
        "_room",
        "_send",
        "_size",
        "_status",
        "_wake",
        "_watcher",
    )

    def __init__(
        self,
        gateway: "Gateway",
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Event]],
        send: Callable[[Event], Awaitable[None]],
    ) -> None:
        super().__init__(gateway, head_of(scope))
        self._receive = receive
        self._send = send
        self._buffer = bytearray()
        self._more = True
        self._parts: deque[HTTPReply] = deque()
        self._queued = 0
        """Bytes in `_parts`."""
        self._wake: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._aborted = False
        self._disconnected = False
        self._status = 0
        self._size = 0

    async def run(self) -> None:
        """Serve the request."""
        try:
            admit(self.head, self.gateway.options)
        except BadRequest as refusal:
            self.gateway.count("refused request")
            answer = HTTPReply(refusal.status, refusal.headers, refusal.text.encode())
            await self._write_response(answer)
        else:
            await self._serve()
        self.gateway.log.request(self, self._status, self._size)

    async def _serve(self) -> None:
        try:
            if self.admitted():
                body, more = await self._read_body()
                if not self._parts and not self._disconnected:
                    self.request(body, more=more)
                    if more:
                        self._watched = True
                        self._watcher = asyncio.create_task(self._pump_body())
            await self._write_parts()
        finally:
            # Whatever ended it, the bus is told; after a complete response this does nothing.
            self.gone()
            if self._watcher is not None:
                self._watcher.cancel()

    # -- the request's body -------------------------------------------------------------

    async def _read_body(self) -> tuple[bytes, bool]:
        """Return the next part of the body, up to a chunk, and whether more follows.

        A body that stalls, and a client that leaves, are reported.
        """
        buffer = self._buffer
        while self._more and len(buffer) < CHUNK:
            event = await self._receive_in_time()
            if event is None:
                self.stalled()
                return b"", False
            if event["type"] == "http.disconnect":
                self._leave()
                return b"", False
            buffer += event.get("body", b"")
            self._more = event.get("more_body", False)
        part = bytes(buffer[:CHUNK])
        del buffer[:CHUNK]
        return part, self._more or bool(buffer)

    async def _receive_in_time(self) -> Event | None:
        if not any(name in _OF_BODIES for name, _ in self.head.headers):
            return await self._receive()  # there is no body to wait for
        try:
            async with asyncio.timeout(self.gateway.options.body_timeout or None):
                return await self._receive()
        except TimeoutError:
            return None

    async def _pump_body(self) -> None:
        """Send the rest of the body, as fast as it is consumed; then look out for the client."""
        more = True
        while more and self.body_channel is not None:
            part, more = await self._read_body()
            self.post_body(part, more=more)
            await self.gateway.bus.flushed()
            if not self.has_room:
                self._room = asyncio.get_running_loop().create_future()
                await self._room
        if self.state is not HTTP.DONE:
            await self._watch()

    def body_accepted(self) -> None:
        """See `HTTPConnection`."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    # -- the client's leaving -----------------------------------------------------------

    def watch(self) -> None:
        """See `HTTPConnection`."""
        self._watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._leave()

    def _leave(self) -> None:
        self._disconnected = True
        self.gone()
        self._wake_up()

    # -- the response -------------------------------------------------------------------

    def write_part(self, reply: HTTPReply) -> None:
        """See `HTTPConnection`."""
        self._parts.append(reply)
        self._queued += len(reply.content)
        self._wake_up()
        if self._queued > self.gateway.options.write_buffer + WINDOW * CHUNK and reply.more:
            self.cut_slow()

    def abort(self) -> None:
        """See `HTTPConnection`. While nothing has been written, there is a better way to say it."""
        self._parts.clear()
        self._queued = 0
        if self._status:
            self._aborted = True
        else:
            self._parts.append(FAULT)
        self._wake_up()

    def _wake_up(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _write_parts(self) -> None:
        """Write the parts of the response as they come, until the last."""
        loop = asyncio.get_running_loop()
        while True:
            while self._parts:
                if self._aborted or self._disconnected:
                    return
                reply = self._parts.popleft()
                self._queued -= len(reply.content)
                try:
                    await self._write_response(reply)
                except RuntimeError as error:
                    # The server found what the worker says of the response to be untrue.
                    self.fault(error)
                    return
                if not reply.more:
                    return
                self.acknowledge(1)
            if self._aborted or self._disconnected:
                return
            self._wake = loop.create_future()
            await self._wake

    async def _write_response(self, reply: HTTPReply) -> None:
        if reply.status is not None:
            self._status = reply.status
            headers = list(reply.headers)
            name = self.gateway.options.server_name
            if name is not None:
                headers.append((b"server", name.encode()))
            if not reply.more and reply.status not in _BODILESS and not _has_length(headers):
                headers.append((b"content-length", b"%d" % len(reply.content)))
            await self._send(
                {"type": "http.response.start", "status": reply.status, "headers": headers}
            )
        self._size += len(reply.content)
        await self._send(
            {"type": "http.response.body", "body": reply.content, "more_body": reply.more}
        )


def _has_length(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(name.lower() in _OF_BODIES for name, _ in headers)
