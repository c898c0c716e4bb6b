"""Sockets that carry several streams, each with a consumer of its own.

A frame is `{"stream": …, "payload": …}` in both directions. The consumer of a stream gets the
payload as the message's text, and the stream to answer on as the keyword argument `multiplexer`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn

from busway.app.context import held_by
from busway.app.exceptions import DenyConnection
from busway.app.message import Message
from busway.app.targets import Consumer
from busway.django.exceptions import SendNotAvailableOnDemultiplexer
from busway.django.generic.base import Consume
from busway.django.generic.multiplexer import WebsocketMultiplexer
from busway.django.generic.sockets import (
    AsyncJsonWebsocketConsumer,
    JsonWebsocketConsumer,
    SocketOptions,
)
from busway.django.generic.streams import Stream, StreamErrors, streams_of, unpack
from busway.django.scopes import SharedScope, scoped


class Streams(SocketOptions):
    """What sync and async demultiplexers share."""

    consumers: ClassVar[Mapping[str, Consumer]] = {}
    """Stream → consumer class, function or dotted path; a binding's `consumer` is a function."""
    multiplexer_class: ClassVar[type[WebsocketMultiplexer]] = WebsocketMultiplexer
    _is_async: ClassVar[bool]
    _streams: ClassVar[Mapping[str, Stream]]

    @classmethod
    def as_consumer(cls) -> Consume:
        """Return a function `consumer(message, **kwargs)` for routes.

        Raises `ConfigurationError` when `consumers` cannot be used.
        """
        cls._streams = streams_of(cls.__qualname__, cls.consumers, is_async=cls._is_async)
        if any(stream.is_ordered for stream in cls._streams.values()):
            cls.enforces_ordering = True
        return super().as_consumer()

    @classmethod
    def _with_session(cls, consume: Consume) -> Consume:
        return super()._with_session(scoped(SharedScope, consume))

    def multiplexer(self, stream: str) -> WebsocketMultiplexer:
        """Return what sends to this socket on `stream`."""
        return self.multiplexer_class(stream, self.message.reply_to())

    def _wanting(self, message: Message) -> list[tuple[str, Stream]]:
        return [(name, stream) for name, stream in self._streams.items() if stream.wants(message)]

    def _with_text(self, text: str) -> Message:
        """Return the message as the consumer of a stream is to see it."""
        message = self.message.copy()
        message.content["text"] = text
        return message


class WebsocketDemultiplexer(Streams, JsonWebsocketConsumer):
    """Hands the frames of a socket to the consumers of its streams.

    `connect` and `disconnect` go to every one of them. A frame that is no envelope, or names no
    stream of `consumers`, closes the socket with 1008.
    """

    _is_async = False

    def connect(self, message: Message, *args: Any, **kwargs: Any) -> None:
        """Accept the socket, and tell all consumers.

        If one of them raises `DenyConnection` it is refused, and what the others sent is dropped.
        """
        held = held_by(message.channel_layer)
        start = 0 if held is None else len(held)
        self.accept()
        try:
            for name, stream in self._wanting(message):
                stream.consume(message, multiplexer=self.multiplexer(name), **kwargs)
        except DenyConnection:
            if held is not None:
                del held[start:]
            raise

    def receive(self, content: Any, *args: Any, **kwargs: Any) -> None:
        """Hand the payload of a frame to the consumer of its stream."""
        found = unpack(content, self._streams)
        if isinstance(found, dict):
            self.message.reply_to().send(found)
            return
        name, payload = found
        stream = self._streams[name]
        message = self._with_text(self.encode_json(payload))
        if stream.wants(message):
            stream.consume(message, multiplexer=self.multiplexer(name), **kwargs)

    def disconnect(self, message: Message, *args: Any, **kwargs: Any) -> None:
        """Tell all consumers, the others too when one raises; what those sent is sent."""
        errors = StreamErrors(message)
        for name, stream in self._wanting(message):
            with errors.collected(stream):
                stream.consume(message, multiplexer=self.multiplexer(name), **kwargs)
        errors.throw()

    def send(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: raises `SendNotAvailableOnDemultiplexer`."""
        raise SendNotAvailableOnDemultiplexer

    @classmethod
    def group_send(cls, *_: Any, **__: Any) -> NoReturn:
        """Refuse: raises `SendNotAvailableOnDemultiplexer`."""
        raise SendNotAvailableOnDemultiplexer


class AsyncWebsocketDemultiplexer(Streams, AsyncJsonWebsocketConsumer):
    """Does `WebsocketDemultiplexer` for consumers that are async."""

    _is_async = True

    async def connect(self, message: Message, *args: Any, **kwargs: Any) -> None:
        """Accept the socket, and tell all consumers, one after the other.

        If one of them raises `DenyConnection` it is refused, and what the others sent is dropped.
        """
        held = held_by(message.channel_layer)
        start = 0 if held is None else len(held)
        await self.accept()
        try:
            for name, stream in self._wanting(message):
                await stream.consume(message, multiplexer=self.multiplexer(name), **kwargs)
        except DenyConnection:
            if held is not None:
                del held[start:]
            raise

    async def receive(self, content: Any, *args: Any, **kwargs: Any) -> None:
        """Hand the payload of a frame to the consumer of its stream."""
        found = unpack(content, self._streams)
        if isinstance(found, dict):
            await self.message.reply_to().asend(found)
            return
        name, payload = found
        stream = self._streams[name]
        message = self._with_text(self.encode_json(payload))
        if stream.wants(message):
            await stream.consume(message, multiplexer=self.multiplexer(name), **kwargs)

    async def disconnect(self, message: Message, *args: Any, **kwargs: Any) -> None:
        """Tell all consumers, the others too when one raises; what those sent is sent."""
        errors = StreamErrors(message)
        for name, stream in self._wanting(message):
            with errors.collected(stream):
                await stream.consume(message, multiplexer=self.multiplexer(name), **kwargs)
        errors.throw()

    async def send(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: raises `SendNotAvailableOnDemultiplexer`."""
        raise SendNotAvailableOnDemultiplexer

    @classmethod
    async def group_send(cls, *_: Any, **__: Any) -> NoReturn:
        """Refuse: raises `SendNotAvailableOnDemultiplexer`."""
        raise SendNotAvailableOnDemultiplexer
