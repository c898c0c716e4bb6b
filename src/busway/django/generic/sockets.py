"""Consumers of WebSockets as classes, sync and async; see `busway.app.consumers`."""

from typing import Any, ClassVar

from busway.app import async_consumers, consumers
from busway.app.message import Message
from busway.django.encoding import encode_json
from busway.django.generic.base import BaseConsumer, Consume, decorator


class SocketOptions(BaseConsumer):
    """The class attributes of all consumers of WebSockets."""

    http_user: ClassVar[bool] = False
    """Whether `message.user` is the one who is logged in on the site; with `channel_session`."""
    http_user_and_session: ClassVar[bool] = False
    """Whether the session of the site, `message.http_session`, is there besides."""
    strict_ordering: ClassVar[bool] = False
    """Whether the order of frames is relied on: see `busway.app.decorators.enforce_ordering`."""
    slight_ordering: ClassVar[bool] = False
    """The same as `strict_ordering`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Mark classes that rely on the order of frames."""
        super().__init_subclass__(**kwargs)
        if not {"strict_ordering", "slight_ordering"}.isdisjoint(vars(cls)):
            cls.enforces_ordering = cls.strict_ordering or cls.slight_ordering

    enforces_ordering: ClassVar[bool] = False
    """Set by the attributes above, and by `enforce_ordering`."""

    @classmethod
    def _with_session(cls, consume: Consume) -> Consume:
        if cls.http_user_and_session:
            return decorator("auth.channel_and_http_session_user_from_http")(consume)
        if cls.http_user:
            return decorator("auth.channel_session_user_from_http")(consume)
        return super()._with_session(consume)


class Socket(SocketOptions, consumers.SocketConsumer):
    """What sync consumers of WebSockets share."""

    def close(
        self, code: int | None = None, reason: str = "", *, status: bool | int | None = None
    ) -> None:
        """Close this socket, with 1000 (None, True) or a code of 3000 to 4999.

        `status` is the code under its name in Channels 1.
        """
        super().close(close_code(code, status), reason)


class AsyncSocket(SocketOptions, async_consumers.AsyncSocketConsumer):
    """What async consumers of WebSockets share."""

    async def close(
        self, code: int | None = None, reason: str = "", *, status: bool | int | None = None
    ) -> None:
        """Do `Socket.close` from async code."""
        await super().close(close_code(code, status), reason)


class DjangoJson:
    """Writes JSON as Django does."""

    @classmethod
    def encode_json(cls, content: Any) -> str:
        """Return `content` as JSON text; dates, decimals and UUIDs are fine."""
        return encode_json(content)


class WebsocketConsumer(Socket, consumers.WebsocketConsumer):
    """Handles WebSockets. Override `connect`, `receive` and `disconnect`."""

    def raw_receive(self, message: Message, **kwargs: Any) -> None:
        """Unpack a frame for `receive`, which is given `text` or `bytes`, as in Channels 1."""
        self.receive(**data_of(message), **kwargs)


class JsonWebsocketConsumer(DjangoJson, Socket, consumers.JsonWebsocketConsumer):
    """Handles WebSockets whose frames are JSON. Override `connect`, `receive`, `disconnect`."""


class AsyncWebsocketConsumer(AsyncSocket, async_consumers.AsyncWebsocketConsumer):
    """Handles WebSockets. Override `connect`, `receive` and `disconnect`."""

    async def raw_receive(self, message: Message, **kwargs: Any) -> None:
        """Unpack a frame for `receive`, which is given `text` or `bytes`, as in Channels 1."""
        await self.receive(**data_of(message), **kwargs)


class AsyncJsonWebsocketConsumer(
    DjangoJson, AsyncSocket, async_consumers.AsyncJsonWebsocketConsumer
):
    """Handles WebSockets whose frames are JSON. Override `connect`, `receive`, `disconnect`."""


def data_of(message: Message) -> dict[str, Any]:
    """Return the data of a frame by its key, "text" or "bytes"."""
    key = "bytes" if message.get("text") is None else "text"
    return {key: message.get(key)}


def close_code(code: bool | int | None, status: bool | int | None) -> int | None:
    """Return what to close with; None: the ordinary code."""
    wanted = code if status is None else status
    return None if wanted is True else wanted
