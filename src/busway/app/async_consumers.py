"""Consumers of WebSockets as classes whose hooks are async; see `busway.app.consumers`."""

from collections.abc import Sequence
from typing import Any

from busway.app.channels import Group
from busway.app.consumers import NOT_JSON, NOT_TEXT, WEBSOCKET_METHODS, BaseConsumer
from busway.app.frames import acceptance, closing, decode_json, encode_json, frame
from busway.app.message import Message


class AsyncSocketConsumer(BaseConsumer):
    """What consumers of WebSockets share.

    Sockets join the groups in `groups`, or those that `connection_groups` returns, as they
    connect. They leave all groups when they close.
    """

    method_mapping = WEBSOCKET_METHODS
    groups: Sequence[str] = ()
    """Names of groups that every socket joins."""

    def connection_groups(self, *args: Any, **kwargs: Any) -> Sequence[str]:
        """Return the names of the groups that this socket joins."""
        return self.groups

    async def raw_connect(self, message: Message, **kwargs: Any) -> None:
        """Join the groups, then `connect`."""
        for name in self.connection_groups(**kwargs):
            await Group(name, channel_layer=message.channel_layer).aadd(message.reply_to())
        await self.connect(message, **kwargs)

    async def connect(self, message: Message, *args: Any, **kwargs: Any) -> None:
        """Handle a new socket. It is accepted, unless you override this: then `accept` it.

        Raise `DenyConnection` to refuse it. What is sent to it accepts it as well.
        """
        await self.accept()

    async def raw_receive(self, message: Message, **kwargs: Any) -> None:
        """Unpack a frame for `receive`."""
        raise NotImplementedError

    async def raw_disconnect(self, message: Message, **kwargs: Any) -> None:
        """Hand a socket that has closed to `disconnect`."""
        await self.disconnect(message, **kwargs)

    async def disconnect(self, message: Message, *args: Any, **kwargs: Any) -> None:
        """Handle a socket that has closed, with `message["code"]`."""

    async def accept(self, subprotocol: str | None = None) -> None:
        """Accept this socket, with one of its `message["subprotocols"]`, or None."""
        await self.message.reply_to().asend(acceptance(subprotocol))

    async def close(self, code: int | None = None, reason: str = "") -> None:
        """Close this socket, with 1000 (None) or a code of 3000 to 4999."""
        await self.message.reply_to().asend(closing(code, reason))


class AsyncWebsocketConsumer(AsyncSocketConsumer):
    """Handles WebSockets. Override `connect`, `receive` and `disconnect`."""

    async def raw_receive(self, message: Message, **kwargs: Any) -> None:
        """Unpack a frame for `receive`."""
        await self.receive(text=message.get("text"), bytes=message.get("bytes"), **kwargs)

    async def receive(self, *args: Any, **kwargs: Any) -> None:
        """Handle a frame: `receive(text=…, bytes=…, **kwargs)`; one of the two is None."""

    async def send(
        self,
        text: str | None = None,
        bytes: bytes | None = None,  # noqa: A002  (the key of the message)
        *,
        close: bool | int = False,
    ) -> None:
        """Send a frame of text or of bytes to this socket, then close it if `close` says so.

        `close` is True or a code, as for `close()`.
        """
        await self.message.reply_to().asend(frame(text, bytes, close))

    @classmethod
    async def group_send(
        cls,
        name: str,
        text: str | None = None,
        bytes: bytes | None = None,  # noqa: A002  (the key of the message)
        *,
        close: bool | int = False,
    ) -> None:
        """Do `send` to every socket in the group `name`."""
        await Group(name).asend(frame(text, bytes, close))


class AsyncJsonWebsocketConsumer(AsyncSocketConsumer):
    """Handles WebSockets whose frames are JSON. Override `connect`, `receive`, `disconnect`."""

    async def raw_receive(self, message: Message, **kwargs: Any) -> None:
        """Decode a frame for `receive`; a socket that sends something else is closed."""
        text = message.get("text")
        if text is None:
            await message.reply_to().asend(NOT_TEXT)
            return
        try:
            content = self.decode_json(text)
        except ValueError:
            await message.reply_to().asend(NOT_JSON)
            return
        await self.receive(content, **kwargs)

    async def receive(self, content: Any, *args: Any, **kwargs: Any) -> None:
        """Handle the content of a frame."""

    async def send(self, content: Any, *, close: bool | int = False) -> None:
        """Send `content` as JSON to this socket, then close it if `close` says so."""
        await self.message.reply_to().asend(frame(self.encode_json(content), close=close))

    @classmethod
    async def group_send(cls, name: str, content: Any, *, close: bool | int = False) -> None:
        """Do `send` to every socket in the group `name`."""
        await Group(name).asend(frame(cls.encode_json(content), close=close))

    @classmethod
    def encode_json(cls, content: Any) -> str:
        """Return `content` as JSON text."""
        return encode_json(content)

    @classmethod
    def decode_json(cls, text: str) -> Any:
        """Return what the JSON `text` says; raises ValueError when it is not JSON."""
        return decode_json(text)
