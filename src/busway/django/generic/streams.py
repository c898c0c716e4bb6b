"""The consumers of a socket's streams, found and checked once for each class."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn

from busway.app.context import held_by
from busway.app.exceptions import ConsumerEnding, PartlyFailed
from busway.app.loading import load
from busway.app.message import Message
from busway.app.targets import Consumer, is_consumer_class, target_of
from busway.bus.errors import ConfigurationError
from busway.django.exceptions import SendNotAvailableOnDemultiplexer

NO_ENVELOPE: dict[str, Any] = {
    "close": 1008,
    "reason": 'expected {"stream": …, "payload": …}',
}
NO_STREAM: dict[str, Any] = {"close": 1008, "reason": "there is no such stream"}


class Stream(NamedTuple):
    """What handles one stream."""

    consume: Callable[..., Any]
    """Called as `consume(message, multiplexer=…, **kwargs)`."""
    channels: Collection[str] | None
    """The channels that it wants to see; None: all."""
    is_ordered: bool
    name: str
    """The consumer's, for people to read."""

    def wants(self, message: Message) -> bool:
        """Tell whether `message` is for it."""
        return self.channels is None or message.channel_name in self.channels


class StreamErrors:
    """What the streams of a socket raised for one message that all of them get."""

    def __init__(self, message: Message) -> None:
        """Take the message."""
        self._held = held_by(message.channel_layer)
        self._failures: list[tuple[str, Exception]] = []
        self._endings: list[ConsumerEnding] = []

    @contextmanager
    def collected(self, stream: Stream) -> Iterator[None]:
        """Keep what `stream` raises for later; what it has sent is dropped if it fails."""
        start = 0 if self._held is None else len(self._held)
        try:
            yield
        except ConsumerEnding as ending:
            self._endings.append(ending)
        except Exception as error:  # noqa: BLE001
            self._failures.append((stream.name, error))
            if self._held is not None:
                del self._held[start:]

    def throw(self) -> None:
        """Raise `PartlyFailed` if streams failed, or else the first decision to end, if any."""
        if self._failures:
            raise PartlyFailed(self._failures) from self._failures[0][1]
        if self._endings:
            raise self._endings[0]


class OnStream:
    """Mixed into the classes of streams: what says nothing of the stream is not sent."""

    def send(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse."""
        raise SendNotAvailableOnDemultiplexer

    def accept(self, *_: Any, **__: Any) -> None:
        """Do nothing: the socket is accepted for all its streams."""


class AsyncOnStream:
    """Does `OnStream` for async consumers."""

    async def send(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse."""
        raise SendNotAvailableOnDemultiplexer

    async def accept(self, *_: Any, **__: Any) -> None:
        """Do nothing: the socket is accepted for all its streams."""


def streams_of(
    owner: str, consumers: Mapping[str, Consumer], *, is_async: bool
) -> Mapping[str, Stream]:
    """Return stream → what handles it. `owner` is the class's name, for errors.

    Raises `ConfigurationError` for what is no consumer, or not sync or async as `is_async` says.
    """
    if not consumers:
        raise ConfigurationError(
            f"{owner}.consumers is {consumers!r}; expected a dict of stream → consumer, not empty"
        )
    return {
        stream: _stream(f"{owner}.consumers[{stream!r}]", consumer, is_async=is_async)
        for stream, consumer in consumers.items()
    }


def unpack(content: Any, streams: Mapping[str, Stream]) -> tuple[str, Any] | dict[str, Any]:
    """Return the stream and payload of a frame's content, or the reply to one without."""
    if not isinstance(content, dict) or "payload" not in content:
        return NO_ENVELOPE
    stream = content.get("stream")
    if not isinstance(stream, str):
        return NO_ENVELOPE
    if stream not in streams:
        return NO_STREAM
    return stream, content["payload"]


def _stream(where: str, consumer: Consumer, *, is_async: bool) -> Stream:
    found: Any = load(consumer) if isinstance(consumer, str) else consumer
    channels = None
    if is_consumer_class(found):
        # A class of this stream's own: the same consumer may be in a routing by itself too.
        mixin = AsyncOnStream if is_async else OnStream
        names = {"__module__": found.__module__, "__qualname__": found.__qualname__}
        found = type(found.__name__, (mixin, found), names)
        channels = frozenset(found.channel_names())
    elif isinstance(found, type):
        raise ConfigurationError(
            f"{where} is the class {found.__qualname__}, which is no consumer; "
            f"of a binding give {found.__name__}.consumer"
        )
    target = target_of(found)
    if target.is_async is not is_async:
        kinds = ("async", "sync") if is_async else ("sync", "async")
        raise ConfigurationError(
            f"{where}, {target.name}, is {kinds[1]}; the streams of one socket are all {kinds[0]}: "
            f"use {'AsyncWebsocketDemultiplexer' if not is_async else 'WebsocketDemultiplexer'}"
        )
    return Stream(target.consumer, channels, target.is_ordered, target.name)
