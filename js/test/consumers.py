"""The service that the client's tests talk to; what it is told says what it does."""

import json
import time
from typing import Any

from busway import Message, route


def connect(message: Message) -> None:
    """Let a socket in, or not; at /silent/ nobody answers."""
    if message["path"] == "/denied/":
        message.reply_channel.send({"accept": False})
    elif message["path"] != "/silent/":
        offered = message["subprotocols"]
        message.reply_channel.send({"accept": True, "subprotocol": offered[0] if offered else None})


def receive(message: Message) -> None:
    """Do what a frame says; without a word that is known, send it back."""
    if "bytes" in message:
        message.reply_channel.send({"bytes": message["bytes"]})
        return
    said = json.loads(message["text"])
    stream = said.get("stream") if isinstance(said, dict) else None
    action = said["payload"] if stream else said
    if not isinstance(action, dict):
        answer(message, stream, action)
    elif "close" in action:
        message.reply_channel.send({"close": action["close"], "reason": "as you wish"})
    elif "raw" in action:
        message.reply_channel.send({"text": action["raw"]})
    elif "request" in action:
        respond(message, stream, action["request"], action["payload"])
    else:
        answer(message, stream, action)


def respond(message: Message, stream: str | None, request: int, payload: dict[str, Any]) -> None:
    """Answer a request, unless it wants none."""
    if "close" in payload:
        message.reply_channel.send({"close": payload["close"]})
    elif "refuse" in payload:
        answer(message, stream, {"response": request, "error": payload["refuse"]})
    elif "double" in payload:
        time.sleep(payload.get("after", 0))
        answer(message, stream, {"response": request, "payload": payload["double"] * 2})


def answer(message: Message, stream: str | None, action: Any) -> None:
    """Send `action`, in the stream that it came in."""
    envelope = {"stream": stream, "payload": action} if stream else action
    message.reply_channel.send({"text": json.dumps(envelope)})


routing = [route("websocket.connect", connect), route("websocket.receive", receive)]
