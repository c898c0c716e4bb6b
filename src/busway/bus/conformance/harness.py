"""What the tests of every topic share: the bus under test, and two styles to call it in."""

import asyncio
import re
import select
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, ParamSpec, TypeVar

import pytest

from busway.bus.conformance.peers import PATIENCE, Factory, Peer, sleep
from busway.bus.layer import ChannelLayer
from busway.bus.operations import Delivery, Operation, Outcome
from busway.bus.receiver import Receiver
from busway.bus.statistics import Statistics

Style = Literal["sync", "async"]

P = ParamSpec("P")
T = TypeVar("T")

MOMENT = 0.25
"""Seconds: the short expiry, delay or silence of tests that need a real one."""

PROMPT = 4.0
"""Seconds: shorter than it takes layers to look for work without being woken."""

FOREVER = 3600.0
"""Seconds: longer than any test runs."""


def eventually(condition: Callable[[], T], what: str) -> T:
    """Return the first true value of `condition`, tried for `PATIENCE` seconds; else fail."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            pytest.fail(f"not within {PATIENCE:g} seconds: {what}")
        time.sleep(0.005)


@contextmanager
def promptly() -> Iterator[None]:
    """Fail when the block takes longer than things take when everybody is woken.

    Layers look by themselves every few seconds, which would hide a wake-up that was lost.
    """
    start = time.monotonic()
    yield
    assert time.monotonic() - start < PROMPT, "it took so long that a wake-up was lost"


def label(value: object) -> str:
    """Return a short text for a parameter that is the same in every process."""
    return re.sub(r" at 0x\w+", "", ascii(value))[:60]


def _call(
    style: Style,
    plain: Callable[P, T],
    twin: Callable[P, Coroutine[Any, Any, T]],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    return asyncio.run(twin(*args, **kwargs)) if style == "async" else plain(*args, **kwargs)


class Reader:
    """A receiver, called in one style."""

    def __init__(self, receiver: Receiver, style: Style) -> None:
        self.receiver = receiver
        self.style = style

    def exchange(
        self,
        operations: Sequence[Operation] = (),
        done: Sequence[Delivery] = (),
        channels: Sequence[str] = (),
        limit: int = 0,
        *,
        wake_below: int = 0,
        hold: bool = True,
    ) -> Outcome:
        """Do `Receiver.exchange` or its twin."""
        exchange, twin = self.receiver.exchange, self.receiver.aexchange
        return _call(
            self.style,
            exchange,
            twin,
            operations,
            done,
            channels,
            limit,
            wake_below=wake_below,
            hold=hold,
        )

    def take(self, *channels: str, limit: int = 100, hold: bool = True) -> list[Delivery]:
        """Return what waits on `channels`."""
        return self.exchange((), (), channels, limit, hold=hold).deliveries

    def listen(self, *channels: str) -> None:
        """Find nothing on `channels`, and ask to be woken by the next message for them."""
        found = self.exchange((), (), channels, 1, wake_below=1).deliveries
        assert found == [], "a receiver that was to go to sleep found a message"

    def wait(self, timeout: float | None = PATIENCE) -> bool:
        """Do `Receiver.wait` or its twin."""
        return _call(self.style, self.receiver.wait, self.receiver.async_wait, timeout)

    def sleep(self) -> None:
        """Sleep until somebody wakes the receiver; fail when nobody does."""
        if self.style == "sync":
            sleep(self.receiver)
        else:
            asyncio.run(asyncio.wait_for(self._rung(), PATIENCE))
            self.wait()

    def fetch(self, *channels: str, limit: int = 100) -> list[Delivery]:
        """Sleep until woken, and return what there is; sleep again when that is nothing."""
        while True:
            self.sleep()
            found = self.exchange((), (), channels, limit, wake_below=1).deliveries
            if found:
                return found

    async def _rung(self) -> None:
        loop, rung = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self.receiver.fileno(), rung.set)
        try:
            await rung.wait()
        finally:
            loop.remove_reader(self.receiver.fileno())

    def is_woken(self) -> bool:
        """Return whether the receiver's descriptor says that it was woken."""
        return bool(select.select([self.receiver.fileno()], [], [], 0)[0])

    def close(self) -> None:
        """Close the receiver."""
        self.receiver.close()


class Client:
    """A layer, called in one style."""

    def __init__(self, layer: ChannelLayer, style: Style) -> None:
        self.layer = layer
        self.style = style
        self._readers: list[Reader] = []

    def reader(self) -> Reader:
        """Return a new receiver of the layer; it is closed with the test."""
        reader = Reader(self.layer.receiver(), self.style)
        self._readers.append(reader)
        return reader

    def send(self, channel: str, message: Mapping[str, Any], *, delay: float = 0.0) -> None:
        """Do `send` or its twin."""
        _call(self.style, self.layer.send, self.layer.asend, channel, message, delay=delay)

    def receive(
        self, *channels: str, timeout: float | None = 0.0
    ) -> tuple[str, dict[str, Any]] | tuple[None, None]:
        """Do `receive` or its twin."""
        return _call(self.style, self.layer.receive, self.layer.areceive, channels, timeout)

    def next_message(self, *channels: str, timeout: float | None = 0.0) -> dict[str, Any]:
        """Return the message that waits on one of `channels`; there has to be one."""
        channel, message = self.receive(*channels, timeout=timeout)
        assert channel is not None, f"nothing came on {channels}"
        assert message is not None
        return message

    def drain(self, *channels: str) -> list[dict[str, Any]]:
        """Receive everything that waits on `channels`."""
        found: list[dict[str, Any]] = []
        while True:
            channel, message = self.receive(*channels)
            if channel is None or message is None:
                return found
            found.append(message)

    def group_add(self, group: str, channel: str) -> None:
        """Do `group_add` or its twin."""
        _call(self.style, self.layer.group_add, self.layer.agroup_add, group, channel)

    def group_discard(self, group: str, channel: str) -> None:
        """Do `group_discard` or its twin."""
        _call(self.style, self.layer.group_discard, self.layer.agroup_discard, group, channel)

    def group_send(self, group: str, message: Mapping[str, Any]) -> None:
        """Do `group_send` or its twin."""
        _call(self.style, self.layer.group_send, self.layer.agroup_send, group, message)

    def members(self, group: str) -> list[str]:
        """Return `group_channels`, sorted."""
        layer = self.layer
        return sorted(_call(self.style, layer.group_channels, layer.agroup_channels, group))

    def flush(self) -> None:
        """Do `flush` or its twin."""
        _call(self.style, self.layer.flush, self.layer.aflush)

    def statistics(self, channel: str | None = None) -> Statistics:
        """Do `statistics` or its twin."""
        return _call(self.style, self.layer.statistics, self.layer.astatistics, channel)

    def close(self) -> None:
        """Close the layer and the receivers that were made here."""
        for reader in self._readers:
            reader.close()
        self.layer.close()


class Bus:
    """One bus for one test, and everything that was opened on it."""

    def __init__(self, factory: Factory, style: Style, stack: ExitStack) -> None:
        self._factory = factory
        self._style = style
        self._stack = stack

    def layer(self, **options: Any) -> Client:
        """Return a layer on the bus. All layers of one test are made with the same options."""
        client = Client(self._factory(**options), self._style)
        self._stack.callback(client.close)
        return client

    def peer(self, **options: Any) -> Peer:
        """Return another process that has a layer on the bus."""
        return self._stack.enter_context(Peer(self._factory, options))


class Task(threading.Thread):
    """A thread that keeps what its function returned or raised."""

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._function = function
        self._result: Any = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Call the function."""
        try:
            self._result = self._function()
        except BaseException as error:  # noqa: BLE001  (raised again by `result`)
            self._error = error

    def result(self, timeout: float = 3 * PATIENCE) -> Any:
        """Wait for the thread's end; return what its function returned, raise what it raised."""
        self.join(timeout)
        if self.is_alive():
            pytest.fail(f"a thread was still at work after {timeout:g} seconds")
        if self._error is not None:
            raise self._error
        return self._result


class Topic:
    """What the classes of tests have in common; see `busway.bus.conformance.Suite`."""

    across_processes: bool = False
    lanes_apart: bool = False

    @pytest.fixture
    def layer_factory(self) -> Factory:
        """Return what makes the layer under test; every backend gives its own."""
        raise NotImplementedError("define the fixture 'layer_factory'")

    @pytest.fixture(params=["sync", "async"])
    def bus(self, layer_factory: Factory, request: pytest.FixtureRequest) -> Iterator[Bus]:
        """Return the bus under test, in each style."""
        with opened(layer_factory, request.param) as bus:
            yield bus

    @pytest.fixture
    def one_bus(self, layer_factory: Factory) -> Iterator[Bus]:
        """Return the bus under test, for what is the same in both styles or mixes them."""
        with opened(layer_factory, "sync") as bus:
            yield bus

    @pytest.fixture
    def shared_bus(self, layer_factory: Factory) -> Iterator[Bus]:
        """Return the bus under test, for tests with several processes."""
        if not self.across_processes:
            pytest.skip("this layer lives in one process")
        with opened(layer_factory, "sync") as bus:
            yield bus


@contextmanager
def opened(factory: Factory, style: Style) -> Iterator[Bus]:
    """Give a bus, and close what was opened on it."""
    with ExitStack() as stack:
        yield Bus(factory, style, stack)
