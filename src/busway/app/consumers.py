"""Consumers as classes: a new instance handles each message."""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar

from busway.app.channels import Group
from busway.app.frames import acceptance, closing, decode_json, encode_json, frame
from busway.app.message import Message
from busway.app.routing import Route, route_class
from busway.bus.errors import ConfigurationError


class BaseConsumer:
    """Handles messages of several channels, each with a method of its own.

    `self.message` is the message, `self.kwargs` are the arguments from its route, and
    `self.path` is its path (empty without one). The methods may be async, then all of them.
    """

    method_mapping: ClassVar[Mapping[str, str]] = {}
    """Channel → name of the method that handles its messages, as `method(message, **kwargs)`."""

    def __init__(self, message: Message, **kwargs: Any) -> None:
        """Take the message that this instance is to handle, and the arguments from its route."""
        self.message = message
        self.kwargs = kwargs
        self.path: str = message.get("path", "")

    @classmethod
    def channel_names(cls) -> Collection[str]:
        """Return the channels that it consumes."""
        return list(cls.method_mapping)

    @classmethod
    def as_route(cls, attrs: Mapping[str, Any] | None = None, **filters: str) -> Route:
        """Return a route to this class; for the filters see `busway.app.routing.route`.

        `attrs` are attributes to set on a subclass for this route only. Raises
        `ConfigurationError` for one that the class does not have.
        """
        for name in attrs or ():
            if not hasattr(cls, name):
                raise ConfigurationError(
                    f"as_route() was given {name!r}, which {cls.__qualname__} does not have; "
                    "define it in the class first"
                )
        return route_class(type(cls.__name__, (cls,), dict(attrs)) if attrs else cls, **filters)

    @classmethod
    def as_consumer(cls) -> Callable[..., Any]:
        """Return a function `consumer(message, **kwargs)` for routes."""
        kinds = {inspect.iscoroutinefunction(method) for method in cls._methods()}
        if kinds == {True}:

            async def aconsume(message: Message, **kwargs: Any) -> None:
                await cls(message, **kwargs).dispatch(message, **kwargs)

            return aconsume
        if kinds == {True, False}:
            raise ConfigurationError(
                f"{cls.__qualname__} has sync and async methods in its method_mapping; "
                "make all of them sync, or all async"
            )

        def consume(message: Message, **kwargs: Any) -> None:
            cls(message, **kwargs).dispatch(message, **kwargs)

        return consume

    def get_handler(self, message: Message, **kwargs: Any) -> Callable[..., Any]:
        """Return the method that handles `message`."""
        handler: Callable[..., Any] = getattr(self, self.method_mapping[message.channel_name])
        return handler

    def dispatch(self, message: Message, **kwargs: Any) -> Any:
        """Handle `message`."""
        return self.get_handler(message, **kwargs)(message, **kwargs)

    @classmethod
    def _methods(cls) -> list[Callable[..., Any]]:
        for channel, name in cls.method_mapping.items():
            if not callable(getattr(cls, name, None)):
                raise ConfigurationError(
                    f"{cls.__qualname__}.method_mapping names {name!r} for {channel!r}, "
                    "and there is no such method"
                )
        return [getattr(cls, name) for name in cls.method_mapping.values()]


WEBSOCKET_METHODS: Mapping[str, str] = {
    "websocket.connect": "raw_connect",
    "websocket.receive": "raw_receive",
    "websocket.disconnect": "raw_disconnect",
}


NOT_TEXT: dict[str, Any] = {"close": 1003, "reason": "expected JSON in a frame of text"}
NOT_JSON: dict[str, Any] = {"close": 1007, "reason": "expected JSON"}

# The hooks below take *args, so that overrides may name the arguments that their routes give
# (`def connect(self, message, room)`): type checkers take such a base as compatible with all.


class SocketConsumer(BaseConsumer):
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

    def raw_connect(self, message: Message, **kwargs: Any) -> None:
        """Join the groups, then `connect`."""
        for name in self.connection_groups(**kwargs):
            Group(name, channel_layer=message.channel_layer).add(message.reply_to())
        self.connect(message, **kwargs)

    def connect(self, message: Message, *args: Any, **kwargs: Any) -> None:
        """Handle a new socket. It is accepted, unless you override this: then `accept` it.

        Raise `DenyConnection` to refuse it. What is sent to it accepts it as well.
        """
        self.accept()

    def raw_receive(self, message: Message, **kwargs: Any) -> None:
        """Unpack a frame for `receive`."""
        raise NotImplementedError

    def raw_disconnect(self, message: Message, **kwargs: Any) -> None:
        """Hand a socket that has closed to `disconnect`."""
        self.disconnect(message, **kwargs)

    def disconnect(self, message: Message, *args: Any, **kwargs: Any) -> None:
        """Handle a socket that has closed, with `message["code"]`."""

    def accept(self, subprotocol: str | None = None) -> None:
        """Accept this socket, with one of its `message["subprotocols"]`, or None."""
        self.message.reply_to().send(acceptance(subprotocol))

    def close(self, code: int | None = None, reason: str = "") -> None:
        """Close this socket, with 1000 (None) or a code of 3000 to 4999."""
        self.message.reply_to().send(closing(code, reason))


class WebsocketConsumer(SocketConsumer):
    """Handles WebSockets. Override `connect`, `receive` and `disconnect`."""

    def raw_receive(self, message: Message, **kwargs: Any) -> None:
        """Unpack a frame for `receive`."""
        self.receive(text=message.get("text"), bytes=message.get("bytes"), **kwargs)

    def receive(self, *args: Any, **kwargs: Any) -> None:
        """Handle a frame: `receive(text=…, bytes=…, **kwargs)`; one of the two is None."""

    def send(
        self,
        text: str | None = None,
        bytes: bytes | None = None,  # noqa: A002  (the key of the message)
        *,
        close: bool | int = False,
    ) -> None:
        """Send a frame of text or of bytes to this socket, then close it if `close` says so.

        `close` is True or a code, as for `close()`.
        """
        self.message.reply_to().send(frame(text, bytes, close))

    @classmethod
    def group_send(
        cls,
        name: str,
        text: str | None = None,
        bytes: bytes | None = None,  # noqa: A002  (the key of the message)
        *,
        close: bool | int = False,
    ) -> None:
        """Do `send` to every socket in the group `name`."""
        Group(name).send(frame(text, bytes, close))


class JsonWebsocketConsumer(SocketConsumer):
    """Handles WebSockets whose frames are JSON. Override `connect`, `receive`, `disconnect`."""

    def raw_receive(self, message: Message, **kwargs: Any) -> None:
        """Decode a frame for `receive`; a socket that sends something else is closed."""
        text = message.get("text")
        if text is None:
            message.reply_to().send(NOT_TEXT)
            return
        try:
            content = self.decode_json(text)
        except ValueError:
            message.reply_to().send(NOT_JSON)
            return
        self.receive(content, **kwargs)

    def receive(self, content: Any, *args: Any, **kwargs: Any) -> None:
        """Handle the content of a frame."""

    def send(self, content: Any, *, close: bool | int = False) -> None:
        """Send `content` as JSON to this socket, then close it if `close` says so."""
        self.message.reply_to().send(frame(self.encode_json(content), close=close))

    @classmethod
    def group_send(cls, name: str, content: Any, *, close: bool | int = False) -> None:
        """Do `send` to every socket in the group `name`."""
        Group(name).send(frame(cls.encode_json(content), close=close))

    @classmethod
    def encode_json(cls, content: Any) -> str:
        """Return `content` as JSON text."""
        return encode_json(content)

    @classmethod
    def decode_json(cls, text: str) -> Any:
        """Return what the JSON `text` says; raises ValueError when it is not JSON."""
        return decode_json(text)
