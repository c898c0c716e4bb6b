"""Users by token, for clients that have no cookies: apps, scripts, pages of other sites.

    @token_user
    def connect(message): …            # message.user, message.token

    @token_user(JSONWebTokens(audience="chat"), parameter="token")
    def connect(message): …

A client shows its token as `Authorization: Bearer TOKEN`, or in a browser as a subprotocol:
`new WebSocket(url, ["access_token", TOKEN])`. Without a good token a WebSocket is refused before
it is accepted, with 403 and a line that says why; a request is answered with 401.

Decorate all consumers of a socket: the channel session keeps who it is. When the token has ended,
the next frame closes the socket with 4401.
"""

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any, overload

from asgiref.sync import sync_to_async
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.http import QueryDict

from busway.app.context import held_by
from busway.app.exceptions import CloseConnection, ConsumerEnding
from busway.app.http import plain_response
from busway.app.message import Message
from busway.bus.operations import Send
from busway.django.auth import keep_user, set_user
from busway.django.scopes import Consumer, Scope, scoped
from busway.django.sessions import channel_session, has_headers
from busway.django.token_kinds import BadToken, Claims, JSONWebTokens, SignedTokens, Tokens

__all__ = [
    "BadToken",
    "Claims",
    "JSONWebTokens",
    "SignedTokens",
    "Tokens",
    "issue_token",
    "token_user",
    "verify_token",
]

logger = logging.getLogger("busway.security")

SUBPROTOCOL = "access_token"
"""The subprotocol before the one that is a token. The server answers with this one."""

EXPIRES = "_token_expires"
"""Key in the channel session: when the token ends, in seconds since the epoch."""

EXPIRED = 4401
"""Code that a socket is closed with when its token has ended."""


@overload
def token_user(consumer: Consumer) -> Consumer: ...
@overload
def token_user(
    consumer: Tokens | None = None, *, parameter: str | None = None, required: bool = True
) -> Callable[[Consumer], Consumer]: ...
def token_user(consumer: Any = None, *, parameter: str | None = None, required: bool = True) -> Any:
    """Give messages the `user` of a token, and what it says as `token`.

    Args:
        consumer: the consumer; or the kind of tokens, to get a decorator. None: `SignedTokens()`.
        parameter: a query parameter that may hold the token as well. Such tokens end up in the
            logs of servers and proxies. None: there is none.
        required: False: clients without a token are let through as `AnonymousUser`; bad tokens
            are refused all the same.
    """
    kind = consumer if isinstance(consumer, Tokens) else SignedTokens()

    def decorate(decorated: Consumer) -> Consumer:
        begin = partial(_TokenScope, kind=kind, parameter=parameter, required=required)
        return channel_session(scoped(begin, decorated))

    return decorate if consumer is None or consumer is kind else decorate(consumer)


def issue_token(user: AbstractBaseUser, **content: Any) -> str:
    """Return a token that `token_user` takes for an hour: see `SignedTokens.issue`."""
    return SignedTokens().issue(user, **content)


def verify_token(token: str) -> AbstractBaseUser:
    """Return the user of what `issue_token` returned; raises `BadToken`."""
    kind = SignedTokens()
    return kind.find_user(kind.read(token))[0]


class _TokenScope(Scope):
    def __init__(
        self, message: Message, *, kind: Tokens, parameter: str | None, required: bool
    ) -> None:
        super().__init__(message)
        self._kind = kind
        self._parameter = parameter
        self._required = required

    def open(self) -> bool:
        if not has_headers(self.message):
            self._resume()
            return True
        try:
            claims = self._read()
            self._admit(claims, self._kind.find_user(claims) if claims else None)
        except BadToken as error:
            self._refuse(error)
            return False
        return True

    async def aopen(self) -> bool:
        if not has_headers(self.message):
            self._resume()
            return True
        try:
            claims = self._read()
            find = sync_to_async(self._kind.find_user)
            self._admit(claims, await find(claims) if claims else None)
        except BadToken as error:
            self._refuse(error)
            return False
        return True

    def close(self, ending: ConsumerEnding | None) -> None:
        del ending
        if _offered(self.message) and SUBPROTOCOL in self.message.get("subprotocols", ()):
            _answer_subprotocol(self.message)

    def _read(self) -> Claims | None:
        """Return what the token says; None without one that is required."""
        token = _token_of(self.message, self._parameter)
        if token is not None:
            return self._kind.read(token)
        if self._required:
            raise BadToken("a token is needed")
        return None

    def _admit(self, claims: Claims | None, found: tuple[AbstractBaseUser, str] | None) -> None:
        message = self.message
        session = message.channel_session
        message.token = claims.content if claims else None
        set_user(message, session, found[0] if found else AnonymousUser())
        if claims and found and message.channel_name == "websocket.connect":
            keep_user(session, *found)
            session[EXPIRES] = claims.expires

    def _resume(self) -> None:
        """Find out again whom a socket belongs to."""
        message = self.message
        expires = message.channel_session.get(EXPIRES)
        if expires and expires <= time.time() and message.channel_name == "websocket.receive":
            raise CloseConnection(EXPIRED, "the token has expired")
        message.token = None
        set_user(message, message.channel_session)

    def _refuse(self, error: BadToken) -> None:
        message = self.message
        logger.info("refused %s %r: %s", message.channel_name, message.get("path"), error)
        text = f"{str(error).capitalize()}."
        if message.channel_name == "http.request":
            answer = plain_response(401, text)
            answer["headers"].append([b"www-authenticate", b"Bearer"])
        else:
            answer = {"accept": False, **plain_response(403, text)}
            del answer["more_content"]
        message.reply_to().send(answer)


def _token_of(message: Message, parameter: str | None) -> str | None:
    """Return the token that a client shows, or None."""
    for name, value in message["headers"]:
        if name == b"authorization":
            scheme, _, token = value.decode("latin-1").strip().partition(" ")
            if scheme.lower() == "bearer":
                return str(token).strip()
    offered = _offered(message)
    if offered is not None:
        return offered
    if parameter:
        given: Any = QueryDict(message.get("query_string", b"")).get(parameter)
        return str(given) if given else None
    return None


def _offered(message: Message) -> str | None:
    """Return the subprotocol that is a token, or None.

    The header has it even where an interface server offers only the subprotocols it speaks.
    """
    given = [v for n, v in message.get("headers", ()) if n == b"sec-websocket-protocol"]
    names = [name.strip() for name in b",".join(given).decode("latin-1").split(",")]
    if SUBPROTOCOL in names[:-1]:
        return names[names.index(SUBPROTOCOL) + 1]
    return None


def _answer_subprotocol(message: Message) -> None:
    """Name the subprotocol in what accepts the socket, or browsers would not take the answer."""
    name = message.reply_to().name
    for sent in held_by(message.channel_layer) or ():
        if isinstance(sent, Send) and sent.channel == name:
            reply: Any = sent.message
            if reply.get("accept", True) and ("accept" in reply or not reply.get("close")):
                reply.setdefault("accept", True)
                if reply.get("subprotocol") is None:
                    reply["subprotocol"] = SUBPROTOCOL
            return
