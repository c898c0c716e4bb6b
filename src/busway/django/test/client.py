"""A client that sends messages and has them consumed, in the test's own thread."""

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from asgiref.sync import async_to_sync
from msgspec.structs import replace

from busway.app.calling import Caller
from busway.app.channels import Group
from busway.app.commits import Counts
from busway.app.endings import ending_of
from busway.app.exceptions import RequestTimeout
from busway.app.leaves import Found
from busway.app.message import Message
from busway.app.routing import Router
from busway.bus.errors import UsageError
from busway.bus.layer import ChannelLayer
from busway.bus.operations import Delivery, Operation
from busway.bus.receiver import Receiver
from busway.django.database import keeping_connections
from busway.django.layers import DEFAULT_CHANNEL_LAYER, channel_layers
from busway.django.views import view_route


class _Caller(Caller):
    """Calls consumers as a worker does, but raises what a worker would log."""

    def ended(
        self, error: BaseException, message: Message, name: str, held: Sequence[Operation]
    ) -> list[Operation]:
        """Return what is sent after a consumer has raised `error`; raises it if it failed."""
        is_failure = ending_of(error, message, name).kind == "failed"
        if is_failure and not isinstance(error, RequestTimeout):
            raise error
        return super().ended(error, message, name, held)


class _Taken(NamedTuple):
    """A message that was taken to be consumed."""

    delivery: Delivery
    message: Message
    caller: _Caller
    found: Found
    returned: list[Any]
    """Where the call puts what the consumer returns."""


class Client:
    """Sends messages, has them consumed, and reads what comes back.

    What a consumer sends is held until it ends, as in a worker. `ConsumeLater`, `DenyConnection`
    and the others mean the same; what else a consumer raises is raised here.
    """

    def __init__(self, alias: str = DEFAULT_CHANNEL_LAYER) -> None:
        """Take the alias of the layer."""
        self.alias = alias
        self.reply_channel = self.channel_layer.new_channel("test.client?")
        """The name of the channel that answers come to."""
        self._kept: deque[dict[str, Any]] = deque()
        """Answers that were read ahead."""
        self._joined: list[str] = []
        """Groups that the test has put this client into, not a consumer."""

    @property
    def channel_layer(self) -> ChannelLayer:
        """The layer that the alias stands for now."""
        return channel_layers[self.alias]

    def get_next_message(self, channel: str, *, timeout: float = 0.0) -> Message | None:
        """Take the next message off `channel`, within `timeout` seconds; None: there is none."""
        _, content = self.channel_layer.receive([channel], timeout)
        return None if content is None else Message(content, channel, self.channel_layer)

    def get_consumer_by_channel(self, channel: str) -> Callable[..., Any] | None:
        """Return the consumer of a message on `channel` that has no content, or None."""
        found = self._router(channel).match(Message({"text": ""}, channel, self.channel_layer))
        return None if found is None else found[0]

    def send(self, to: str, content: Mapping[str, Any] | None = None) -> None:
        """Send `content` to the channel `to`, with the client's reply channel."""
        self.channel_layer.send(to, {"reply_channel": self.reply_channel, **(content or {})})

    def consume(self, channel: str, fail_on_none: bool = True, *, timeout: float = 0.0) -> Any:
        """Take the next message off `channel`, and call its consumer; returns what that returns.

        Args:
            channel: a normal channel.
            fail_on_none: whether to raise `AssertionError` when there is no message, or no
                consumer for it. If not, None is returned then.
            timeout: seconds to wait for a message, for example after a `ConsumeLater`.

        Raises what the consumer raises; then it has sent nothing. In async tests call
        `aconsume`, or `UsageError` is raised for async consumers.
        """
        with self.channel_layer.receiver() as receiver:
            taken = self._take(receiver, channel, timeout, fail_on_none)
            if taken is None:
                return None
            try:
                # The outbox of the consumer, and what else it sets, is not the test's.
                operations = contextvars.copy_context().run(_call, taken)
            except BaseException:
                receiver.exchange((), [taken.delivery])
                raise
            _commit(receiver, taken.delivery, operations)
        return taken.returned[0] if taken.returned else None

    def send_and_consume(
        self, channel: str, content: Mapping[str, Any] | None = None, fail_on_none: bool = True
    ) -> Any:
        """Do `send` and `consume`."""
        self.send(channel, content)
        return self.consume(channel, fail_on_none)

    async def aconsume(
        self, channel: str, fail_on_none: bool = True, *, timeout: float = 0.0
    ) -> Any:
        """Do `consume` from async code. Sync consumers run on the spot."""
        with self.channel_layer.receiver() as receiver:
            taken = self._take(receiver, channel, timeout, fail_on_none)
            if taken is None:
                return None
            try:
                operations = await asyncio.create_task(_acall(taken))
            except BaseException:
                receiver.exchange((), [taken.delivery])
                raise
            _commit(receiver, taken.delivery, operations)
        return taken.returned[0] if taken.returned else None

    async def asend_and_consume(
        self, channel: str, content: Mapping[str, Any] | None = None, fail_on_none: bool = True
    ) -> Any:
        """Do `send_and_consume` from async code."""
        self.send(channel, content)
        return await self.aconsume(channel, fail_on_none)

    def receive(self, *, timeout: float = 0.0) -> Any:
        """Return the content of the next answer, within `timeout` seconds; None: there is none."""
        if self._kept:
            return self._kept.popleft()
        return self.channel_layer.receive([self.reply_channel], timeout)[1]

    def join_group(self, group_name: str) -> None:
        """Let what is sent to a group come to this client too, also when its socket is closed."""
        self._joined.append(group_name)
        Group(group_name, channel_layer=self.channel_layer).add(self.reply_channel)

    def _router(self, channel: str) -> Router:
        """Return the router of the layer; with a worker's defaults if they may be needed."""
        router = channel_layers.router(self.alias)
        left = channel == "http.request" and not router.takes_all(channel)
        if left or channel not in router.channels:
            router.check_default(view_route())
        return router

    def _take(
        self, receiver: Receiver, channel: str, timeout: float, fail_on_none: bool
    ) -> _Taken | None:
        outcome = receiver.exchange((), (), [channel], 1, wake_below=1)
        if not outcome.deliveries and timeout and receiver.wait(timeout):
            outcome = receiver.exchange((), (), [channel], 1)
        if not outcome.deliveries:
            _fail(fail_on_none, f"there is no message on {channel!r}")
            return None
        (delivery,) = outcome.deliveries
        layer, router = self.channel_layer, self._router(channel)
        message = Message(delivery.message, channel, layer)
        caller = _Caller(layer, router, Counts())
        found = caller.find(message)
        if isinstance(found, list):
            _commit(receiver, delivery, found)
            _fail(fail_on_none, f"there is no consumer for {message!r}; is its path routed?")
            return None
        returned: list[Any] = []
        return _Taken(delivery, message, caller, _noting(found, returned), returned)


def _noting(found: Found, returned: list[Any]) -> Found:
    """Return `found` with a consumer that puts what it returns into `returned`."""
    target, arguments = found
    consumer = target.consumer

    def consume(message: Message, **kwargs: Any) -> Any:
        returned.append(consumer(message, **kwargs))
        return returned[0]

    async def aconsume(message: Message, **kwargs: Any) -> None:
        returned.append(await consumer(message, **kwargs))

    noted = replace(target, consumer=aconsume if target.is_async else consume)
    return noted, arguments


def _call(taken: _Taken) -> list[Operation]:
    with keeping_connections():
        if not taken.found[0].is_async:
            return taken.caller.call(taken.found, taken.message)
        if _has_loop():
            raise UsageError(
                f"{taken.found[0].name} is async and so is the test: "
                "await aconsume() or asend_and_consume() instead"
            )
        # Unlike asyncio.run it lets the consumer use the test's database connection.
        return async_to_sync(taken.caller.acall)(taken.found, taken.message)


async def _acall(taken: _Taken) -> list[Operation]:
    with keeping_connections():
        if taken.found[0].is_async:
            return await taken.caller.acall(taken.found, taken.message)
        return taken.caller.call(taken.found, taken.message)


def _commit(receiver: Receiver, delivery: Delivery, operations: Sequence[Operation]) -> None:
    """Send `operations`; a worker would try again for a while where there is no room."""
    outcome = receiver.exchange(operations, [delivery])
    if outcome.refused:
        receiver.exchange((), [delivery])
        raise outcome.refused[0].error


def _fail(fails: bool, text: str) -> None:
    if fails:
        raise AssertionError(text)


def _has_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
