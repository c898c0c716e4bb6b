"""Sessions that live on the bus: `SESSION_ENGINE = "busway.django.session_backends.bus"`.

A session is the one message that waits on `busway.session?KEY`. Reading looks at it and leaves it
there. Saving sends the new one and takes the old one in one exchange, so that at every instant
there is exactly one, whatever dies. A deleted session is not brought back by a save that was
under way: such a save takes its own message again, and knows.

A session lives as long as the bus does (a flush, or a reboot for a bus in /dev/shm, ends all of
them), is at most a message long, counts against the bytes of the bus, and ends no later than the
`expiry` of the policy of `busway.session?`: two weeks, unless the layer is given another.
"""

import secrets
import time
from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

from django.conf import settings
from django.contrib.sessions.backends.base import (
    VALID_KEY_CHARS,
    CreateError,
    SessionBase,
    UpdateError,
)

from busway.bus.errors import BusError
from busway.bus.layer import ChannelLayer
from busway.bus.operations import Operation, Outcome, Send
from busway.django.layers import DEFAULT_CHANNEL_LAYER, channel_layers

CHANNEL = "busway.session?"
"""What the names of sessions' channels begin with."""

MAX_LENGTH = 64
"""Longest key, in characters; those that Django makes have 32."""

CREATING = "busway.session.new?"
"""What the names of channels begin with that keep two from creating one session at a time."""


class _Request(NamedTuple):
    """An exchange to make, or with `peek` a channel to look at."""

    operations: Sequence[Operation] = ()
    take: str = ""
    peek: str = ""


_Steps = Generator[_Request, Any, Any]
"""What an operation does on the bus, without doing it: for sync and async code."""


class SessionStore(SessionBase):
    """A session on the bus."""

    @property
    def layer(self) -> ChannelLayer:
        """The layer that CHANNEL_SESSION_LAYER names; by default the default one."""
        return channel_layers[layer_alias()]

    # -- what Django asks of a backend --------------------------------------------------

    def exists(self, session_key: str) -> bool:
        """Say whether there is a session with this key."""
        return self._run(_exists(session_key)) is True

    async def aexists(self, session_key: str) -> bool:
        """Do `exists` from async code."""
        return await self._arun(_exists(session_key)) is True

    def load(self) -> dict[str, Any]:
        """Return what the session holds; nothing, and no key, when there is none or it is old."""
        return self._loaded(self._run(_look(self.session_key)))

    async def aload(self) -> dict[str, Any]:
        """Do `load` from async code."""
        return self._loaded(await self._arun(_look(self.session_key)))

    def create(self) -> None:
        """Begin a session with a new key, and store it."""
        self._session_key = self._get_new_session_key()  # type: ignore[attr-defined]
        self.save(must_create=True)
        self.modified = True

    async def acreate(self) -> None:
        """Do `create` from async code."""
        self._session_key = await self._aget_new_session_key()  # type: ignore[attr-defined]
        await self.asave(must_create=True)
        self.modified = True

    def save(self, must_create: bool = False) -> None:
        """Store the session.

        Raises `CreateError` when it must be new and is not, `UpdateError` when it is gone, and
        what the bus raises: `MessageTooLarge`, or `ChannelFull` when the bytes of the bus are in
        use.
        """
        if self.session_key is None:
            self.create()
            return
        data = self._get_session(no_load=must_create)  # type: ignore[attr-defined]
        self._run(_store(self.session_key, self._content(data), must_create=must_create))

    async def asave(self, must_create: bool = False) -> None:
        """Do `save` from async code."""
        if self.session_key is None:
            await self.acreate()
            return
        data = await self._aget_session(no_load=must_create)  # type: ignore[attr-defined]
        await self._arun(_store(self.session_key, self._content(data), must_create=must_create))

    def delete(self, session_key: str | None = None) -> None:
        """End the session with this key (None: this one); no error when there is none."""
        self._run(_remove(session_key or self.session_key))

    async def adelete(self, session_key: str | None = None) -> None:
        """Do `delete` from async code."""
        await self._arun(_remove(session_key or self.session_key))

    @classmethod
    def clear_expired(cls) -> None:
        """Do nothing: the bus drops what has expired by itself."""

    @classmethod
    async def aclear_expired(cls) -> None:
        """Do nothing: the bus drops what has expired by itself."""

    # -- how it is stored ---------------------------------------------------------------

    def _content(self, data: dict[str, Any]) -> dict[str, Any]:
        return {
            "data": self.encode(data),
            # From the data in hand: to look into the session here could load it.
            "expires": time.time() + self.get_expiry_age(expiry=data.get("_session_expiry")),
            "save": secrets.token_hex(8),
        }

    def _loaded(self, content: dict[str, Any] | None) -> dict[str, Any]:
        if content is None:
            self._session_key = None
            return {}
        return self.decode(content["data"])

    # -- the bus ------------------------------------------------------------------------

    def _run(self, steps: _Steps) -> Any:
        layer = self.layer
        try:
            request = next(steps)
            while True:
                if request.peek:
                    request = steps.send(layer.peek(request.peek))
                    continue
                taken = (request.take,) if request.take else ()
                request = steps.send(layer.exchange(request.operations, taken, len(taken)))
        except StopIteration as end:
            return end.value

    async def _arun(self, steps: _Steps) -> Any:
        layer = self.layer
        try:
            request = next(steps)
            while True:
                if request.peek:
                    request = steps.send(await layer.apeek(request.peek))
                    continue
                taken = (request.take,) if request.take else ()
                request = steps.send(await layer.aexchange(request.operations, taken, len(taken)))
        except StopIteration as end:
            return end.value


def layer_alias() -> str:
    """Return the alias of the layer that keeps sessions."""
    alias: str = getattr(settings, "CHANNEL_SESSION_LAYER", None) or DEFAULT_CHANNEL_LAYER
    return alias


def _look(key: str | None) -> _Steps:
    """Return what is stored of a session that has not expired, or None."""
    if not _is_key(key):
        return None
    content = yield _Request(peek=f"{CHANNEL}{key}")
    return content if content and content["expires"] > time.time() else None


def _exists(key: str) -> _Steps:
    found = yield from _look(key)
    return found is not None


def _remove(key: str | None) -> _Steps:
    if _is_key(key):
        yield _Request(take=f"{CHANNEL}{key}")


def _is_key(key: str | None) -> bool:
    """Say whether a session could have this key; a cookie can say anything."""
    return bool(key) and set(key or "").issubset(VALID_KEY_CHARS) and len(key or "") <= MAX_LENGTH


def _store(key: str, content: dict[str, Any], *, must_create: bool) -> _Steps:
    yield from (_create(key, content) if must_create else _replace(key, content))


def _create(key: str, content: dict[str, Any]) -> _Steps:
    """Store a session that is not there yet; of several who try, one succeeds."""
    guard = CREATING + key
    outcome: Outcome = yield _Request([Send(guard, {})])
    if outcome.refused:
        _check_room(outcome, "capacity")
        raise CreateError
    found = yield from _look(key)
    if found is not None:
        yield _Request(take=guard)
        raise CreateError
    if (yield _Request(peek=CHANNEL + key)) is not None:  # one that has expired
        yield _Request(take=CHANNEL + key)
    outcome = yield _Request([Send(CHANNEL + key, content)], take=guard)
    _check_room(outcome)


def _replace(key: str, content: dict[str, Any]) -> _Steps:
    """Put a session in the place of the one that is there."""
    outcome: Outcome = yield _Request([Send(CHANNEL + key, content)], take=CHANNEL + key)
    _check_room(outcome)
    if not outcome.deliveries or outcome.deliveries[0].message["save"] == content["save"]:
        raise UpdateError


def _check_room(outcome: Outcome, expected: str = "") -> None:
    for refusal in outcome.refused:
        if refusal.error.reason != expected:
            error: BusError = refusal.error
            raise error
