"""The interface server as an ASGI 3 application: for any server of that kind."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from busway.bus.layer import ChannelLayer
from busway.interfaces.web.asgi_http import ASGIRequest
from busway.interfaces.web.asgi_websocket import ASGIWebSocket
from busway.interfaces.web.gateway import Gateway
from busway.interfaces.web.options import WebOptions

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
SendEvent = Callable[[Event], Awaitable[None]]


class Application:
    """Hands HTTP requests and WebSockets to the bus.

    For one process and event loop. It starts with the server's lifespan events or, under a
    server that has none, with the first connection.
    """

    def __init__(self, layer: ChannelLayer, options: WebOptions | None = None) -> None:
        """Serve `layer`; `options` about listening and TLS are the server's business here."""
        self.gateway = Gateway(layer, options)

    async def __call__(self, scope: Scope, receive: Receive, send: SendEvent) -> None:
        """See the ASGI 3 specification."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._live(receive, send)
            return
        self.gateway.start()
        if kind == "http":
            await ASGIRequest(self.gateway, scope, receive, send).run()
        elif kind == "websocket":
            await ASGIWebSocket(self.gateway, scope, receive, send).run()
        else:
            raise NotImplementedError(f"scope type {kind!r}; expected http, websocket, lifespan")

    async def _live(self, receive: Receive, send: SendEvent) -> None:
        while True:
            event = await receive()
            if event["type"] == "lifespan.startup":
                self.gateway.start()
                await send({"type": "lifespan.startup.complete"})
            elif event["type"] == "lifespan.shutdown":
                await asyncio.shield(self.gateway.stop(self.gateway.options.shutdown_timeout))
                await send({"type": "lifespan.shutdown.complete"})
                return
