"""One stream of a socket that carries several, to send to."""

from typing import Any

from busway.app.channels import Channel, Group
from busway.app.frames import closing, frame
from busway.django.encoding import encode_json


class WebsocketMultiplexer:
    """Sends on one stream: every frame is `{"stream": …, "payload": …}`."""

    def __init__(self, stream: str, reply_channel: Channel) -> None:
        """Take the stream's name and the socket's reply channel."""
        self.stream = stream
        self.reply_channel = reply_channel

    def send(self, payload: Any, *, close: bool | int = False) -> None:
        """Send `payload` to this socket, then close the socket if `close` says so.

        `close` is True or a code of 3000 to 4999.
        """
        self.reply_channel.send(self.encode(self.stream, payload, close=close))

    async def asend(self, payload: Any, *, close: bool | int = False) -> None:
        """Do `send` from async code."""
        await self.reply_channel.asend(self.encode(self.stream, payload, close=close))

    def close(self, code: int | None = None, reason: str = "") -> None:
        """Close the socket, and so all its streams, with 1000 (None) or a code of 3000 to 4999."""
        self.reply_channel.send(closing(code, reason))

    async def aclose(self, code: int | None = None, reason: str = "") -> None:
        """Do `close` from async code."""
        await self.reply_channel.asend(closing(code, reason))

    @classmethod
    def encode_json(cls, content: Any) -> str:
        """Return `content` as JSON text."""
        return encode_json(content)

    @classmethod
    def encode(cls, stream: str, payload: Any, *, close: bool | int = False) -> dict[str, Any]:
        """Return the message that sends `payload` on `stream`."""
        return frame(cls.encode_json({"stream": stream, "payload": payload}), close=close)

    @classmethod
    def group_send(cls, name: str, stream: str, payload: Any, close: bool | int = False) -> None:
        """Do `send` on `stream` to every socket in the group `name`."""
        Group(name).send(cls.encode(stream, payload, close=close))

    @classmethod
    async def agroup_send(
        cls, name: str, stream: str, payload: Any, *, close: bool | int = False
    ) -> None:
        """Do `group_send` from async code."""
        await Group(name).asend(cls.encode(stream, payload, close=close))
