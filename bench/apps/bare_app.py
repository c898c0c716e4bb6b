"""A bare ASGI application: what uvicorn does with no framework and no bus behind it."""

from collections.abc import Awaitable, Callable
from typing import Any

Event = dict[str, Any]


async def application(
    scope: Event,
    receive: Callable[[], Awaitable[Event]],
    send: Callable[[Event], Awaitable[None]],
) -> None:
    """Accept every WebSocket and echo its text frames."""
    if scope["type"] != "websocket":
        raise RuntimeError(f"only WebSockets are served here, not {scope['type']}")
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event["text"]})
