"""A client that speaks as an interface server does for a browser."""

import json as json_module
from collections.abc import Mapping
from http.cookies import SimpleCookie
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest

from busway.bus.errors import UsageError
from busway.bus.operations import GroupAdd, Leave
from busway.django.layers import DEFAULT_CHANNEL_LAYER
from busway.django.test.client import Client


class WSClient(Client):
    """A WebSocket, with cookies, headers and a session.

    Messages are filled up to what an interface server sends: headers and the query come with
    `websocket.connect` and `http.request`, path and order with all.
    """

    def __init__(self, alias: str = DEFAULT_CHANNEL_LAYER, *, ordered: bool = False) -> None:
        """Take the alias of the layer.

        Messages are numbered in the key `order`, from 0. With `ordered` nobody else may say
        what the order is.
        """
        super().__init__(alias)
        self.order = 0
        self._ordered = ordered
        self._headers: dict[str, str] = {"host": "testserver"}
        self._cookies: dict[str, str] = {}
        self._session: SessionBase | None = None

    # -- what the browser has -------------------------------------------------------------

    def set_cookie(self, key: str, value: str) -> None:
        """Have a cookie from now on."""
        self._cookies[key] = value

    def set_header(self, key: str, value: str) -> None:
        """Have a header from now on, for example "origin"."""
        self._headers[key.lower()] = value

    def get_cookies(self) -> dict[str, str]:
        """Return the cookies, that of the session among them."""
        if self._session is not None and self._session.session_key:
            self._cookies[settings.SESSION_COOKIE_NAME] = self._session.session_key
        return dict(self._cookies)

    @property
    def headers(self) -> list[list[bytes]]:
        """The headers as they are sent, that of the cookies among them."""
        pairs = [[name.encode(), value.encode("latin-1")] for name, value in self._headers.items()]
        jar = SimpleCookie(self.get_cookies())
        if jar:
            pairs.append([b"cookie", jar.output(header="", sep=";").strip().encode()])
        return pairs

    @property
    def session(self) -> SessionBase:
        """The session of the browser: made when it is first used. Call its `save` after changes."""
        if self._session is None:
            engine = import_module(settings.SESSION_ENGINE)
            session: SessionBase = engine.SessionStore(
                self._cookies.get(settings.SESSION_COOKIE_NAME)
            )
            if session.session_key is None:
                session.save()
            self._session = session
        return self._session

    def login(self, **credentials: Any) -> bool:
        """Log in whom the credentials name; returns whether they were right."""
        from django.contrib.auth import authenticate  # noqa: PLC0415  (not every project has users)

        user = authenticate(**credentials)
        if user is None or not user.is_active:
            return False
        self.force_login(user, getattr(user, "backend", None))
        return True

    def force_login(self, user: Any, backend: str | None = None) -> None:
        """Log in `user`, by `backend`; None: the first of the settings that knows users."""
        from django.contrib.auth import login  # noqa: PLC0415

        request = HttpRequest()
        request.session = self.session
        login(request, user, backend or _first_backend())
        request.session.save()

    def logout(self) -> None:
        """Log out: the session is emptied, as is the cookie jar."""
        if self._session is not None:
            self._session.flush()
        self._session = None
        self._cookies.clear()

    # -- what it sends and gets -----------------------------------------------------------

    def send(
        self,
        to: str,
        content: Mapping[str, Any] | None = None,
        text: Any = None,
        path: str = "/",
    ) -> None:
        """Send a message to the channel `to`.

        Args:
            to: "websocket.connect" and so on.
            content: keys of the message; they count before all that follows.
            text: the frame; what is no text is sent as JSON. None: none.
            path: the path, with a query if you like: "/chat/?room=1".
        """
        given = dict(content or {})
        if self._ordered and "order" in given:
            raise UsageError(
                f"order is {given['order']!r} and the client is ordered; leave one out"
            )
        if text is not None:
            given["text"] = text if isinstance(text, str) else json_module.dumps(text)
        if to in ("websocket.connect", "http.request"):
            given = self._head(to, path) | given
        given = {"path": path.partition("?")[0], **given}
        if to.startswith("websocket."):
            given.setdefault("order", self.order)
            self.order += 1
        if to == "websocket.disconnect":
            self._leave()
        super().send(to, given)

    def consume(
        self,
        channel: str,
        fail_on_none: bool = True,
        check_accept: bool = True,
        *,
        timeout: float = 0.0,
    ) -> Any:
        """Do `Client.consume`; a socket that connects has to be accepted then.

        With `check_accept` the acceptance is taken off the answers, and `AssertionError` is
        raised when the consumer has refused the socket, or left it waiting.
        """
        returned = super().consume(channel, fail_on_none, timeout=timeout)
        if channel == "websocket.connect" and check_accept:
            self._check_accept()
        return returned

    def send_and_consume(  # type: ignore[override]  # as in Channels 1
        self,
        channel: str,
        content: Mapping[str, Any] | None = None,
        text: Any = None,
        path: str = "/",
        fail_on_none: bool = True,
        check_accept: bool = True,
    ) -> Any:
        """Do `send` and `consume`."""
        self.send(channel, content, text, path)
        return self.consume(channel, fail_on_none, check_accept)

    async def aconsume(
        self,
        channel: str,
        fail_on_none: bool = True,
        check_accept: bool = True,
        *,
        timeout: float = 0.0,
    ) -> Any:
        """Do `consume` from async code."""
        returned = await super().aconsume(channel, fail_on_none, timeout=timeout)
        if channel == "websocket.connect" and check_accept:
            self._check_accept()
        return returned

    async def asend_and_consume(  # type: ignore[override]
        self,
        channel: str,
        content: Mapping[str, Any] | None = None,
        text: Any = None,
        path: str = "/",
        fail_on_none: bool = True,
        check_accept: bool = True,
    ) -> Any:
        """Do `send_and_consume` from async code."""
        self.send(channel, content, text, path)
        return await self.aconsume(channel, fail_on_none, check_accept)

    def receive(self, json: bool = True, *, timeout: float = 0.0) -> Any:
        """Return the next answer: the text of a frame, or the content of another message.

        None when none comes within `timeout` seconds. With `json` the text is decoded; raises
        `AssertionError` when it is not JSON.
        """
        content = super().receive(timeout=timeout)
        if content is None or "text" not in content:
            return content
        text = content["text"]
        if not json:
            return text
        try:
            return json_module.loads(text)
        except ValueError:
            raise AssertionError(
                f"the frame {text!r} is not JSON; for other text call receive(json=False)"
            ) from None

    def _head(self, to: str, path: str) -> dict[str, Any]:
        """Return what stands in the messages that begin a socket or a request."""
        fields: dict[str, Any] = {
            "query_string": path.partition("?")[2].encode(),
            "root_path": "",
            "http_version": "1.1",
            "headers": self.headers,
            "client": ["127.0.0.1", 50000],
            "server": ["testserver", 80],
        }
        if to == "http.request":
            return {**fields, "scheme": "http", "method": "GET", "body": b""}
        return {**fields, "scheme": "ws", "subprotocols": []}

    def _leave(self) -> None:
        """Leave the groups that consumers have put this socket into, as one that is closed."""
        channel = self.reply_channel
        stays = [GroupAdd(name, channel) for name in self._joined]
        with self.channel_layer.receiver() as receiver:
            receiver.exchange([Leave(channel), *stays])

    def _check_accept(self) -> None:
        content = super().receive()
        if content is None:
            raise AssertionError(
                "the consumer of 'websocket.connect' neither accepted nor refused; send "
                '{"accept": True}, or look at the answers yourself with check_accept=False'
            )
        if content.get("accept") is False or ("close" in content and "accept" not in content):
            raise AssertionError(f"Connection rejected: {content}")
        if set(content) - {"accept", "subprotocol", "headers"}:
            self._kept.append(content)  # a frame, which accepts as well


HttpClient = WSClient
"""The name of `WSClient` in the first versions of Channels."""


def _first_backend() -> str:
    from django.contrib.auth import get_backends  # noqa: PLC0415

    for backend in get_backends():
        if hasattr(backend, "get_user"):
            return f"{backend.__module__}.{type(backend).__qualname__}"
    raise UsageError("no backend in AUTHENTICATION_BACKENDS knows users; give force_login one")
