"""The sessions that consumers get: Django's own, taught to belong to a channel."""

import logging
from functools import lru_cache
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.contrib.sessions.backends.signed_cookies import SessionStore as CookieStore
from django.utils.crypto import salted_hmac

from busway.app.channels import Channel
from busway.bus.errors import ConfigurationError

logger = logging.getLogger("busway.sessions")

ALTERNATIVES = (
    "'django.contrib.sessions.backends.db', '…cache', '…cached_db', '…file' or "
    "'busway.django.session_backends.bus'"
)

MAX_KEY_LENGTH = 4096
"""Longest key that is looked for, in characters: cookies are not longer."""


class ConsumerSession(SessionBase):
    """What both kinds of sessions share: reading one that is not there stores nothing."""

    _is_loading = False
    was_found = False
    """Whether the session was there when it was loaded."""

    def load(self) -> dict[str, Any]:
        """Return what the session holds, as its backend does."""
        self._is_loading = True
        try:
            data: dict[str, Any] = super().load()
        finally:
            self._is_loading = False
        self.was_found = self.session_key is not None
        return data

    async def aload(self) -> dict[str, Any]:
        """Do `load` from async code."""
        data: dict[str, Any] = await super().aload()
        self.was_found = self.session_key is not None
        return data

    def create(self) -> None:
        """Begin a session with a new key, and store it."""
        if self._is_loading:
            # The file backend would leave an empty file for a session that has expired.
            self._session_key = None
        else:
            super().create()


class ChannelSession(ConsumerSession):
    """A session whose key says which reply channel it belongs to: the key never changes.

    No client knows the key, so rotating it would protect nobody.
    """

    channel_key = ""

    def create(self) -> None:
        """Store the session, whether or not it is there."""
        if self._is_loading:
            self._session_key = None
            return
        self._session_key = self.channel_key
        try:
            super().save(must_create=True)
        except CreateError:  # somebody was quicker
            super().save()
        self.modified = True

    async def acreate(self) -> None:
        """Do `create` from async code."""
        self._session_key = self.channel_key
        try:
            await super().asave(must_create=True)
        except CreateError:
            await super().asave()
        self.modified = True

    def save(self, must_create: bool = False) -> None:
        """Store the session; raises `UpdateError` when it was there, and was deleted since."""
        try:
            super().save(must_create)
        except UpdateError:
            if self.was_found:
                raise
            self.create()

    async def asave(self, must_create: bool = False) -> None:
        """Do `save` from async code."""
        try:
            await super().asave(must_create)
        except UpdateError:
            if self.was_found:
                raise
            await self.acreate()

    def cycle_key(self) -> None:
        """Keep the key."""
        self.modified = True

    async def acycle_key(self) -> None:
        """Keep the key."""
        self.modified = True


def session_for_reply_channel(reply_channel: str | Channel) -> SessionBase:
    """Return the session that hangs off a reply channel. Nothing is loaded before it is used.

    Raises `ConfigurationError` when the session engine cannot be used.
    """
    store = _store(channel_engine(), ChannelSession)
    key = channel_session_key(str(reply_channel))
    session = store(key)
    session.channel_key = key  # type: ignore[attr-defined]
    return session


def channel_session_key(reply_channel: str) -> str:
    """Return the key of a reply channel's session: 40 lower-case letters and digits.

    SECRET_KEY is part of it. Channel sessions lie where those of browsers do, so nobody may
    guess a key and send it as a cookie.
    """
    return _key(reply_channel, settings.SECRET_KEY)


@lru_cache(maxsize=4096)  # every frame of a socket asks for the same
def _key(reply_channel: str, secret: str) -> str:
    mac = salted_hmac("busway.django.sessions", reply_channel, secret, algorithm="sha256")
    return f"chn{mac.hexdigest()[:37]}"


def http_session_for(session_key: str | None) -> SessionBase:
    """Return a browser's session; an empty one for None, and for what can be no key."""
    if session_key is not None and not (
        session_key.isascii() and session_key.isprintable() and len(session_key) <= MAX_KEY_LENGTH
    ):
        session_key = None
    return _store(settings.SESSION_ENGINE, ConsumerSession)(session_key)


def channel_engine() -> str:
    """Return the module of the backend that keeps channel sessions."""
    return getattr(settings, "CHANNEL_SESSION_ENGINE", None) or settings.SESSION_ENGINE


def check_channel_engine(engine: str) -> None:
    """Raise `ConfigurationError` when channel sessions cannot be kept by `engine`."""
    _store(engine, ChannelSession)


def save(session: SessionBase, *, always: bool = False) -> None:
    """Store a session if it was modified, or `always`; one deleted meanwhile stays deleted."""
    if _is_due(session, always=always):
        try:
            session.save()
        except UpdateError:
            _log_lost(session)


async def asave(session: SessionBase, *, always: bool = False) -> None:
    """Do `save` from async code."""
    if _is_due(session, always=always):
        try:
            await session.asave()
        except UpdateError:
            _log_lost(session)


def _is_due(session: SessionBase, *, always: bool) -> bool:
    if session.is_empty() or not (session.modified or (always and session.session_key)):
        return False
    if isinstance(session, CookieStore):
        if not session.modified:
            return False
        raise ConfigurationError(
            "a consumer changed a session of the signed_cookies backend, which lives in a cookie "
            f"that only a view can set; set SESSION_ENGINE to {ALTERNATIVES}"
        )
    return True


def _log_lost(session: SessionBase) -> None:
    logger.info(
        "a session was deleted while a consumer changed it; the change is lost (%s)",
        type(session).__module__,
    )


@lru_cache(maxsize=16)
def _store(engine: str, kind: type[ConsumerSession]) -> type[SessionBase]:
    """Return the backend `engine` as a `kind`."""
    try:
        store = import_module(engine).SessionStore
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"the session engine {engine!r} cannot be used: {error}; it is the dotted path of a "
            f"module with a SessionStore, such as {ALTERNATIVES}"
        ) from error
    if kind is ChannelSession and issubclass(store, CookieStore):
        raise ConfigurationError(
            f"channel sessions cannot be kept by {engine!r}: it stores them in the browser, and a "
            f"WebSocket cannot set cookies; set CHANNEL_SESSION_ENGINE to {ALTERNATIVES}"
        )
    # Django signs what it stores with the qualified name of the class.
    names = {"__module__": store.__module__, "__qualname__": store.__qualname__}
    return type(store.__name__, (kind, store), names)
