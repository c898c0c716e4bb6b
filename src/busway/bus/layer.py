"""The contract of a channel layer.

Five operations for everyone: `send`, `receive`, `group_add`, `group_discard`, `group_send`,
each also with an `a` prefix for async code. Underneath are receivers: see `busway.bus.receiver`.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from inspect import Parameter, signature
from typing import Any, Self

from busway.bus import names
from busway.bus.errors import (
    BusError,
    ConfigurationError,
    InvalidArgument,
    LayerClosed,
    UsageError,
)
from busway.bus.messages import Message
from busway.bus.operations import (
    GroupAdd,
    GroupDiscard,
    GroupSend,
    Operation,
    Outcome,
    Send,
)
from busway.bus.policy import DeliveryPromise, Policies, Policy, check_seconds
from busway.bus.receiver import Receiver, apart
from busway.bus.sealing import Seal
from busway.bus.statistics import GroupSize, Shard, Statistics


class ChannelLayer(ABC):
    """Carries messages between processes. Thread-safe.

    Subclasses implement `receiver`, `group_channels`, `flush` and `statistics`.
    """

    deliveries: frozenset[DeliveryPromise] = frozenset({DeliveryPromise.AT_MOST_ONCE})
    """The promises about delivery that this layer keeps; a policy that asks for another is
    refused."""

    blocks: bool = False
    """Whether calls wait for something, such as a network. Then the twins for async code do so
    without holding up the event loop: those of rare calls, such as `aflush`, in a thread."""

    def __init__(
        self,
        *,
        policies: Mapping[Any, Policy | Mapping[str, Any]] | None = None,
        message_size: int = 1024 * 1024,
        group_expiry: float = 86_400.0,
        encryption_keys: Sequence[str | bytes] | None = None,
        **defaults: Any,
    ) -> None:
        """Make a layer.

        Args:
            policies: pattern of a channel's name → `Policy` or its fields.
            message_size: largest encoded message, in bytes.
            group_expiry: seconds after which a group membership ends unless it is renewed.
            encryption_keys: keys of 16 bytes or more. What messages hold is encrypted with the
                first, and decrypted with any: see `busway.bus.encryption`. None: not encrypted.
            defaults: fields of `Policy` for channels that no pattern matches
                (`capacity`, `expiry`, …).

        Raises `ConfigurationError` for anything unknown or out of range.
        """
        self.policies = Policies(policies, **defaults)
        check_seconds("group_expiry", group_expiry)
        for policy in self.policies.all():
            if policy.delivery not in self.deliveries:
                kept = " or ".join(sorted(self.deliveries))
                raise ConfigurationError(
                    f"a policy asks for {policy.delivery} delivery, which {type(self).__name__} "
                    f"does not offer: use {kept}"
                )
        given: object = message_size
        if not isinstance(given, int) or given < 1:
            raise ConfigurationError(f"message_size is {message_size!r}, expected bytes, 1 or more")
        self.message_size = message_size
        self.group_expiry = group_expiry
        self.seal = None if encryption_keys is None else Seal(encryption_keys)
        """What encrypts messages, if anything does."""
        self._idle: deque[Receiver] = deque()
        # Copies of group messages for members that `receive` has yet to return, by prefix.
        self._local: dict[str, deque[tuple[str, dict[str, Any]]]] = {}
        self._closed = False

    # -- what a backend implements ------------------------------------------------------

    @classmethod
    def url_options(cls, url: str) -> dict[str, Any]:
        """Return the options that a URL of this layer stands for.

        Raises `ConfigurationError` for unknown ones, and those that are of another type.
        """
        del url
        raise ConfigurationError(f"{cls.__name__} has no URLs; make it by its class")

    @classmethod
    def check_options(cls, **options: Any) -> None:
        """Raise `ConfigurationError` for options that no layer can be made with.

        Nothing is opened, and no server asked. A backend that checks more in its `__init__` does
        so here too.
        """
        own = {
            name
            for kind in cls.__mro__[: cls.__mro__.index(ChannelLayer)]
            for name, parameter in signature(kind).parameters.items()
            if parameter.kind is not Parameter.VAR_KEYWORD
        }
        bare = cls.__new__(cls)
        ChannelLayer.__init__(bare, **{n: value for n, value in options.items() if n not in own})

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Make the layer that `url` describes."""
        return cls(**cls.url_options(url))

    @abstractmethod
    def receiver(self) -> Receiver:
        """Return a new reader of this layer, for one thread or one event loop; close it after."""

    @abstractmethod
    def group_channels(self, group: str) -> list[str]:
        """Return the member channels of `group`, in no particular order."""

    def peek(self, channel: str) -> dict[str, Any] | None:
        """Return the message that `receive` would return next, and leave it; None without one.

        `channel` is a normal one, or "name?random". Raises `UsageError` where a layer cannot.
        """
        raise UsageError(
            f"{type(self).__name__} cannot show a message without taking it; "
            "what keeps state on the bus needs a layer that can"
        )

    @abstractmethod
    def flush(self) -> None:
        """Drop every message, group and count. Receivers that wait go on waiting."""

    @abstractmethod
    def statistics(self, channel: str | None = None) -> Statistics:
        """Return the counts of `channel` (or prefix), or of the whole layer for None."""

    # What follows is for people who look after a layer: it may look at all there is in it, and
    # hold up others meanwhile.

    def channel_statistics(self) -> dict[str, Statistics]:
        """Return the counts of every channel (or prefix) that the layer remembers."""
        raise _cannot(self, "list its channels")

    def group_sizes(self) -> dict[str, GroupSize]:
        """Return how large each group is that has a member."""
        raise _cannot(self, "list its groups")

    def shards(self) -> list[Shard]:
        """Return the places where messages are, healthy or not."""
        raise _cannot(self, "say where it keeps messages")

    def close(self) -> None:
        """Release what this process holds of the layer; messages stay where they are."""
        self._closed = True
        self._close_idle()

    # -- the five operations ------------------------------------------------------------

    def new_channel(self, pattern: str) -> str:
        """Return an unused name: `pattern`, which ends with "?" or "!", and a random part."""
        return names.new_channel(pattern)

    def send(self, channel: str, message: Message, *, delay: float = 0.0) -> None:
        """Put `message` on `channel`, after `delay` seconds.

        Raises `ChannelFull` when there is no room, `InvalidName`, `InvalidMessage`,
        `MessageTooLarge`. It never blocks for room.
        """
        self._apply(Send(channel, message, delay))

    def receive(
        self, channels: Sequence[str], timeout: float | None = 0.0
    ) -> tuple[str, dict[str, Any]] | tuple[None, None]:
        """Take one message off `channels`; returns (channel, message).

        `timeout` is how long to wait for one: seconds, 0 for not at all, None for ever.
        (None, None) is returned when none came. The message counts as handled on return: for
        work that must be done in order, hold it with `receiver().exchange(...)` instead.
        """
        _check_channels(channels)
        local = self._take_local(channels)
        if local is not None:
            return local
        deadline = None if timeout is None else time.monotonic() + timeout
        receiver = self._borrow()
        try:
            while True:
                left = None if deadline is None else deadline - time.monotonic()
                patient = left is None or left > 0
                outcome = receiver.exchange(
                    (), (), channels, 1, wake_below=1 if patient else 0, hold=False
                )
                found = self._hand_over(outcome)
                if found or not patient:
                    self._lay_by(receiver)
                    return found or (None, None)
                receiver.wait(left)
        except BusError:
            with suppress(BusError):
                receiver.close()  # it may not know what it took
            raise
        except BaseException:
            self._turn_away(receiver, channels)
            raise

    def group_add(self, group: str, channel: str) -> None:
        """Make `channel` a member of `group`, until `group_expiry` seconds have passed.

        Raises `ChannelFull` when the bytes of the whole bus are in use.
        """
        self._apply(GroupAdd(group, channel))

    def group_discard(self, group: str, channel: str) -> None:
        """Take `channel` out of `group`; no error when it was not a member."""
        self._apply(GroupDiscard(group, channel))

    def group_send(self, group: str, message: Message) -> None:
        """Send `message` to every member of `group`.

        Members that have no room are skipped; `statistics` counts them.
        """
        self._apply(GroupSend(group, message))

    def exchange(
        self, operations: Sequence[Operation], channels: Sequence[str] = (), limit: int = 0
    ) -> Outcome:
        """Do `operations`, then take up to `limit` messages off `channels`, in one atomic step.

        See `Receiver.exchange`. What was taken counts as handled.
        """
        receiver = self._borrow()
        try:
            outcome = receiver.exchange(operations, (), channels, limit, hold=False)
        except BusError:
            receiver.close()  # it may not know what was done
            raise
        except BaseException:
            self._lay_by(receiver)
            raise
        self._lay_by(receiver)
        return outcome

    # -- the same, for async code -------------------------------------------------------

    async def asend(self, channel: str, message: Message, *, delay: float = 0.0) -> None:
        """Do `send` from async code."""
        await self._aapply(Send(channel, message, delay))

    async def areceive(
        self, channels: Sequence[str], timeout: float | None = 0.0
    ) -> tuple[str, dict[str, Any]] | tuple[None, None]:
        """Do `receive` from async code. Cancelling it while it waits loses nothing."""
        _check_channels(channels)
        local = self._take_local(channels)
        if local is not None:
            return local
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        receiver = self._borrow()
        try:
            while True:
                left = None if deadline is None else deadline - loop.time()
                patient = left is None or left > 0
                outcome = await receiver.aexchange(
                    (), (), channels, 1, wake_below=1 if patient else 0, hold=False
                )
                found = self._hand_over(outcome)
                if found or not patient:
                    await self._alay_by(receiver)
                    return found or (None, None)
                await receiver.async_wait(left)
        except BusError:
            with suppress(BusError):
                await receiver.aclose()
            raise
        except BaseException:
            await self._aturn_away(receiver, channels)
            raise

    async def agroup_add(self, group: str, channel: str) -> None:
        """Do `group_add` from async code."""
        await self._aapply(GroupAdd(group, channel))

    async def agroup_discard(self, group: str, channel: str) -> None:
        """Do `group_discard` from async code."""
        await self._aapply(GroupDiscard(group, channel))

    async def agroup_send(self, group: str, message: Message) -> None:
        """Do `group_send` from async code."""
        await self._aapply(GroupSend(group, message))

    async def agroup_channels(self, group: str) -> list[str]:
        """Do `group_channels` from async code."""
        return await apart(self.blocks, self.group_channels, group)

    async def aexchange(
        self, operations: Sequence[Operation], channels: Sequence[str] = (), limit: int = 0
    ) -> Outcome:
        """Do `exchange` from async code."""
        receiver = self._borrow()
        try:
            outcome = await receiver.aexchange(operations, (), channels, limit, hold=False)
        except BusError:
            await receiver.aclose()
            raise
        except BaseException:
            await self._alay_by(receiver)
            raise
        await self._alay_by(receiver)
        return outcome

    async def apeek(self, channel: str) -> dict[str, Any] | None:
        """Do `peek` from async code."""
        return await apart(self.blocks, self.peek, channel)

    async def aflush(self) -> None:
        """Do `flush` from async code."""
        await apart(self.blocks, self.flush)

    async def astatistics(self, channel: str | None = None) -> Statistics:
        """Do `statistics` from async code."""
        return await apart(self.blocks, self.statistics, channel)

    # -- shared by the operations above -------------------------------------------------

    def _apply(self, operation: Operation) -> None:
        outcome = self.exchange((operation,))
        if outcome.refused:
            raise outcome.refused[0].error

    async def _aapply(self, operation: Operation) -> None:
        outcome = await self.aexchange((operation,))
        if outcome.refused:
            raise outcome.refused[0].error

    def _borrow(self) -> Receiver:
        if self._closed:
            raise LayerClosed("channel layer")
        try:
            return self._idle.pop()
        except IndexError:
            return self.receiver()

    def _turn_away(self, receiver: Receiver, channels: Sequence[str]) -> None:
        """Keep a receiver whose wait was cut off.

        It may be registered to be woken, or was woken and found no time to look: an exchange for
        nothing takes it off the list and passes the bell on.
        """
        try:
            receiver.exchange((), (), channels)
        except BusError:
            with suppress(BusError):
                receiver.close()
        else:
            self._lay_by(receiver)

    async def _aturn_away(self, receiver: Receiver, channels: Sequence[str]) -> None:
        try:
            await receiver.aexchange((), (), channels)
        except BaseException as error:
            with suppress(BusError):
                await receiver.aclose()
            if not isinstance(error, BusError):
                raise
        else:
            await self._alay_by(receiver)

    def _lay_by(self, receiver: Receiver) -> None:
        self._idle.append(receiver)
        if self._closed:  # perhaps by another thread, since
            self._close_idle()

    def _close_idle(self) -> None:
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    async def _alay_by(self, receiver: Receiver) -> None:
        if self._closed:
            await receiver.aclose()
        else:
            self._idle.append(receiver)

    def _take_local(self, channels: Sequence[str]) -> tuple[str, dict[str, Any]] | None:
        if self._local:
            for channel in channels:
                waiting = self._local.get(channel)
                if waiting:
                    with suppress(IndexError):  # another thread was quicker
                        return waiting.popleft()
        return None

    def _hand_over(self, outcome: Outcome) -> tuple[str, dict[str, Any]] | None:
        """Return the message of an exchange; a group message's other copies wait in `_local`."""
        for delivery in outcome.deliveries:
            if not delivery.members:
                return delivery.channel, delivery.message
            first, *others = delivery.members
            if others:
                copies = self._local.setdefault(delivery.channel, deque())
                copies.extend((member, deepcopy(delivery.message)) for member in others)
            return first, delivery.message
        return None


def _cannot(layer: ChannelLayer, what: str) -> UsageError:
    return UsageError(f"{type(layer).__name__} cannot {what}; ask its author for it")


def _check_channels(channels: Sequence[str]) -> None:
    if isinstance(channels, str):
        raise InvalidArgument("channels", channels, f"a list of names: [{channels!r}]")
    for name in channels:
        names.check_receivable(name)
