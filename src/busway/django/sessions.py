"""Sessions for consumers.

A *channel session* belongs to a reply channel: to one WebSocket, from its connecting to its end.
The *HTTP session* is the browser's, named by its cookie.

They are loaded when they are first used (in async consumers before the consumer is called, so
that they can be used like a dict there too), and stored after the consumer if it changed them:
before what the consumer sent goes out. What a failing consumer changed is not stored.
"""

from typing import Any

from django.conf import settings
from django.http import QueryDict, parse_cookie

from busway.app.context import held_by
from busway.app.decorators import enforce_ordering
from busway.app.exceptions import CloseConnection, ConsumerEnding, DenyConnection
from busway.app.message import Message
from busway.bus.errors import UsageError
from busway.bus.operations import Send
from busway.django.scopes import Consumer, Scope, is_open, scoped
from busway.django.session_stores import (
    asave,
    http_session_for,
    save,
    session_for_reply_channel,
)

__all__ = [
    "channel_and_http_session",
    "channel_session",
    "enforce_ordering",
    "http_session",
    "session_for_reply_channel",
]

_LAST = frozenset({"websocket.disconnect", "http.disconnect"})
"""Channels whose messages are the last of a reply channel."""


def channel_session(consumer: Consumer) -> Consumer:
    """Give messages a `channel_session`: what is put there at connect is there for every frame.

    It is deleted after the consumer of `websocket.disconnect`, also if that fails, so decorate
    that one too. Raises `NoReplyChannel` for a message that names no reply channel.
    """
    return scoped(_begin_channel, consumer)


def http_session(consumer: Consumer) -> Consumer:
    """Give messages the browser's `http_session`; an empty one if there is none, or it is old.

    Only for `websocket.connect` and `http.request`, whose messages have headers; for others see
    `channel_and_http_session`. Nothing is stored unless the consumer changes it.
    """
    return scoped(_begin_http, consumer)


def channel_and_http_session(consumer: Consumer) -> Consumer:
    """Give messages a `channel_session`, and the `http_session` of the handshake.

    The channel session keeps the key of the HTTP session, so decorate all consumers of a socket.
    """
    return channel_session(scoped(_KeptHttpScope, consumer))


def has_headers(message: Message) -> bool:
    """Say whether a message has what a client's request began with."""
    return "headers" in message.content


def optional_http_session(consumer: Consumer) -> Consumer:
    """Do `http_session`, for messages with headers; others get none."""
    return scoped(lambda message: _begin_http(message) if has_headers(message) else None, consumer)


class _ChannelScope(Scope):
    def __init__(self, message: Message) -> None:
        super().__init__(message)
        # A consumer may call several that are decorated, one after the other.
        known = vars(message).get("channel_session")
        self._session = known or session_for_reply_channel(message.reply_to())
        message.channel_session = self._session

    async def aopen(self) -> bool:
        await self._session.aget("")  # loads it
        return True

    def close(self, ending: ConsumerEnding | None) -> None:
        if self.message.channel_name in _LAST:
            self._session.delete()
        elif not _is_denied(self.message, ending):  # then nothing follows that could delete it
            save(self._session)

    async def aclose(self, ending: ConsumerEnding | None) -> None:
        if self.message.channel_name in _LAST:
            await self._session.adelete()
        elif not _is_denied(self.message, ending):
            await asave(self._session)

    def fail(self) -> None:
        if self.message.channel_name in _LAST:  # no other message will come to delete it
            self._session.delete()

    async def afail(self) -> None:
        if self.message.channel_name in _LAST:
            await self._session.adelete()


class _HttpScope(Scope):
    def __init__(self, message: Message) -> None:
        super().__init__(message)
        if not has_headers(message):
            raise UsageError(
                f"a message on {message.channel_name!r} has no headers, so no cookie says what "
                "its HTTP session is; decorate all consumers of the socket, from "
                "websocket.connect on, with channel_and_http_session"
            )
        known = vars(message).get("http_session")
        self._session = message.http_session = known or http_session_for(_key_of(message))

    async def aopen(self) -> bool:
        await self._session.aget("")
        return True

    def close(self, ending: ConsumerEnding | None) -> None:
        save(self._session, always=settings.SESSION_SAVE_EVERY_REQUEST)

    async def aclose(self, ending: ConsumerEnding | None) -> None:
        await asave(self._session, always=settings.SESSION_SAVE_EVERY_REQUEST)


class _KeptHttpScope(Scope):
    """Keeps the key of the HTTP session in the channel session, which there has to be."""

    def open(self) -> bool:
        message = self.message
        if "http_session" not in vars(message):
            key = _key_of(message) if has_headers(message) else self._kept()
            message.http_session = http_session_for(key)
        return True

    async def aopen(self) -> bool:
        self.open()
        await self.message.http_session.aget("")
        return True

    def close(self, ending: ConsumerEnding | None) -> None:
        save(self.message.http_session, always=settings.SESSION_SAVE_EVERY_REQUEST)
        self._keep()

    async def aclose(self, ending: ConsumerEnding | None) -> None:
        await asave(self.message.http_session, always=settings.SESSION_SAVE_EVERY_REQUEST)
        self._keep()

    def _kept(self) -> str | None:
        key: str | None = self.message.channel_session.get(settings.SESSION_COOKIE_NAME)
        return key

    def _keep(self) -> None:
        message = self.message
        key, name = message.http_session.session_key, settings.SESSION_COOKIE_NAME
        if message.channel_name == "http.request" or key == self._kept():
            return  # a request has no messages that follow
        if key is None:
            del message.channel_session[name]
        else:
            message.channel_session[name] = key


def _begin_channel(message: Message) -> Scope | None:
    return None if is_open(message, _ChannelScope) else _ChannelScope(message)


def _begin_http(message: Message) -> Scope | None:
    return None if is_open(message, _HttpScope, _KeptHttpScope) else _HttpScope(message)


def _is_denied(message: Message, ending: ConsumerEnding | None) -> bool:
    """Say whether the consumer of a `websocket.connect` has refused it."""
    if message.channel_name != "websocket.connect":
        return False
    if isinstance(ending, DenyConnection):
        return True
    name = message.reply_to().name
    for sent in held_by(message.channel_layer) or ():
        if isinstance(sent, Send) and sent.channel == name:
            reply = sent.message
            if reply.get("accept") is not None:
                return not reply["accept"]
            return bool(reply.get("close")) and not ("text" in reply or "bytes" in reply)
    return isinstance(ending, CloseConnection)


def _key_of(message: Message) -> str | None:
    """Return the key of the HTTP session that the headers or the query of a message name."""
    name = settings.SESSION_COOKIE_NAME
    given = [value for header, value in message["headers"] if header == b"cookie"]
    key: Any = parse_cookie(b"; ".join(given).decode("latin-1")).get(name) if given else None
    parameter = getattr(settings, "CHANNEL_SESSION_KEY_PARAMETER", None)
    if not key and parameter:
        key = QueryDict(message.get("query_string", b"")).get(parameter)
    return str(key) if key else None
