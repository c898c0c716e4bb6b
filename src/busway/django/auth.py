"""Users for consumers: who a message comes from, logging in and out.

`message.user` is loaded when it is first used, `await message.auser()` loads it in async code;
after that `message.user` can be used there too. As in views, somebody who is deactivated, or
whose password was changed, is an `AnonymousUser` from the next message on.
"""

from collections.abc import Callable
from typing import Any, cast

from django.contrib import auth
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from busway.app.message import Message
from busway.bus.errors import UsageError
from busway.django.requests import AsgiRequest
from busway.django.scopes import Consumer, Scope, scoped
from busway.django.session_stores import ChannelSession
from busway.django.sessions import (
    channel_and_http_session,
    channel_session,
    has_headers,
    http_session,
    optional_http_session,
)

__all__ = [
    "alogin",
    "alogout",
    "channel_and_http_session_user",
    "channel_and_http_session_user_from_http",
    "channel_session_user",
    "channel_session_user_from_http",
    "http_session_user",
    "login",
    "logout",
    "transfer_user",
]

User = AbstractBaseUser | AnonymousUser

_KEYS = (SESSION_KEY, BACKEND_SESSION_KEY, HASH_SESSION_KEY)


def http_session_user(consumer: Consumer) -> Consumer:
    """Give messages the `user` who is logged in in the browser, and the `http_session`."""
    return http_session(_with_user("http_session", consumer))


def channel_session_user(consumer: Consumer) -> Consumer:
    """Give messages the `user` in the channel session, and the `channel_session`."""
    return channel_session(_with_user("channel_session", consumer))


def channel_session_user_from_http(consumer: Consumer) -> Consumer:
    """Take the user who is logged in in the browser into the channel session.

    For `websocket.connect`; on messages without headers it is `channel_session_user`. A later
    logout in the browser does not change who the socket belongs to: where it should, use
    `channel_and_http_session_user_from_http`.
    """
    return channel_session(
        optional_http_session(
            scoped(_begin_transfer, _with_user("channel_session", consumer)),
        )
    )


def channel_and_http_session_user(consumer: Consumer) -> Consumer:
    """Give messages the `user` who is logged in in the browser now, and both sessions."""
    return channel_and_http_session(_with_user("http_session", consumer))


def channel_and_http_session_user_from_http(consumer: Consumer) -> Consumer:
    """Do `channel_and_http_session_user`, and take the user into the channel session as well.

    For all consumers of a socket: who logs out in the browser is anonymous with the next frame.
    """
    return channel_and_http_session(
        scoped(_begin_transfer, _with_user("http_session", consumer)),
    )


def transfer_user(from_session: SessionBase, to_session: SessionBase) -> None:
    """Log the user of one session in into the other; without a user nothing is changed.

    In async code both have to be loaded, as those of decorated consumers are.
    """
    if SESSION_KEY not in from_session:
        return
    for key in _KEYS:
        value = from_session.get(key)
        if to_session.get(key) != value:
            to_session[key] = value


def login(message: Message, user: Any, backend: str | None = None) -> None:
    """Log `user` in, in the session that the message's user comes from.

    `user` is one of the user model. The session is that of the user decorator, else the channel
    session, else the HTTP session.
    `backend` is the dotted path of the authentication backend; None: the one that authenticated
    the user, or the only one. An HTTP session gets a new key, as in views, and a socket cannot
    tell the browser: its cookie then names nothing.

    Raises `UsageError` without a session, ValueError when several backends are possible.
    """
    request = _request(message)
    auth.login(request, user, backend)
    _logged_in(message, request, user)


async def alogin(message: Message, user: Any, backend: str | None = None) -> None:
    """Do `login` from async code."""
    request = _request(message)
    await auth.alogin(request, user, backend)
    _logged_in(message, request, user)


def logout(message: Message) -> None:
    """Log the user out, and empty the session that `login` would use.

    Raises `UsageError` without a session.
    """
    request = _request(message)
    auth.logout(request)
    _logged_out(message, request)


async def alogout(message: Message) -> None:
    """Do `logout` from async code."""
    request = _request(message)
    await auth.alogout(request)
    _logged_out(message, request)


def set_user(message: Message, session: SessionBase | None, user: User | None = None) -> None:
    """Let `message.user` be `user`; None: whoever is logged in in `session`, once it is asked."""
    loader = _Loader(session, user)
    message.user_session = session
    message.user = user if user is not None else SimpleLazyObject(loader.get)
    message.auser = loader.aget


def keep_user(session: SessionBase, user: AbstractBaseUser, backend: str) -> None:
    """Note in a session that nobody else knows the key of that it belongs to `user`."""
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = backend
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()


class _Loader:
    """Loads a session's user once."""

    def __init__(self, session: SessionBase | None, user: User | None) -> None:
        self._session = session
        self._user = user

    def get(self) -> User:
        if self._user is None:
            self._user = auth.get_user(self._request())
        return self._user

    async def aget(self) -> User:
        if self._user is None:
            self._user = await auth.aget_user(self._request())
        return self._user

    def _request(self) -> HttpRequest:
        request: Any = HttpRequest()
        if isinstance(self._session, ChannelSession):
            request.session = self._session
        elif self._session is not None:
            request.session = _BrowserSession(self._session)
        return cast("HttpRequest", request)


class _BrowserSession:
    """An HTTP session as Django sees it when it looks for the user.

    When SECRET_KEY is new, Django gives the session another key and a new hash. A consumer
    cannot send the cookie, so the browser would be logged out: that is left to views.
    """

    def __init__(self, session: SessionBase) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def __getitem__(self, name: str) -> Any:
        return self._session[name]

    def cycle_key(self) -> None:
        """Keep the key."""

    async def acycle_key(self) -> None:
        """Keep the key."""

    def __setitem__(self, name: str, value: Any) -> None:
        """Keep the hash, from which views know that a new key is due."""

    async def aset(self, name: str, value: Any) -> None:
        """Keep the hash."""


class _UserScope(Scope):
    def __init__(self, message: Message, source: str) -> None:
        super().__init__(message)
        set_user(message, getattr(message, source))


class _TransferScope(Scope):
    def open(self) -> bool:
        transfer_user(self.message.http_session, self.message.channel_session)
        return True


def _with_user(source: str, consumer: Consumer) -> Consumer:
    """Give messages the user of their session `source`."""
    begin: Callable[[Message], Scope] = lambda message: _UserScope(message, source)  # noqa: E731
    return scoped(begin, consumer)


def _begin_transfer(message: Message) -> Scope | None:
    return _TransferScope(message) if has_headers(message) else None


def _request(message: Message) -> HttpRequest:
    """Return a request for Django to log in with: that of the message, as far as there is one."""
    held = vars(message)
    names = ("user_session", "channel_session", "http_session")
    session = next((held[name] for name in names if held.get(name) is not None), None)
    if session is None:
        raise UsageError(
            f"nobody can be logged in or out on {message.channel_name!r}: the message has no "
            "session; decorate the consumer with channel_session_user"
        )
    content: dict[str, Any] = {"path": "/", "method": "GET", **message.content}
    request: HttpRequest = AsgiRequest(Message(content, message.channel_name))
    request.session = session
    if "user" in held:
        request.user = held["user"]
        request.auser = held["auser"]
    return request


def _logged_in(message: Message, request: HttpRequest, user: AbstractBaseUser) -> None:
    other = _other(message, request)
    if other is not None:
        transfer_user(request.session, other)
    set_user(message, request.session, user)


def _logged_out(message: Message, request: HttpRequest) -> None:
    other = _other(message, request)
    if other is not None:
        for key in _KEYS:
            other.pop(key, None)
    set_user(message, request.session, AnonymousUser())


def _other(message: Message, request: HttpRequest) -> SessionBase | None:
    """Return the channel session, if the user comes from the HTTP session."""
    found: SessionBase | None = vars(message).get("channel_session")
    return None if found is request.session else found
