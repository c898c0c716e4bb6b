"""Other processes on the bus under test, which do what a test tells them."""

import multiprocessing
import select
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from busway.bus.layer import ChannelLayer
from busway.bus.operations import Delivery, Operation, Outcome
from busway.bus.receiver import Receiver

PATIENCE = 10.0
"""Seconds within which everything that has to happen happens."""

Factory = Callable[..., ChannelLayer]
"""Makes a layer with the given options. Every layer that one factory makes, in whichever process,
is on the same bus; a layer of several processes has a factory that can be pickled."""

# A server that has imported the layers forks peers in milliseconds, and never opens one itself.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["busway.bus.conformance"])


class Peer:
    """A process with a layer and one receiver of its own. Use it as a context manager."""

    def __init__(self, factory: Factory, options: dict[str, Any]) -> None:
        self._busy = True
        self._pipe, theirs = _CONTEXT.Pipe()
        self.process = _CONTEXT.Process(target=_serve, args=(theirs, factory, options), daemon=True)
        self.process.start()
        theirs.close()
        self.result()

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
        """Do `exchange` with the peer's receiver."""
        outcome: Outcome = self.run(
            _exchange, operations, done, channels, limit, wake_below=wake_below, hold=hold
        )
        return outcome

    def take(self, *channels: str, limit: int = 100) -> list[Delivery]:
        """Let the peer receive what waits on `channels`, and hold it."""
        return self.exchange((), (), channels, limit).deliveries

    def begin(self, delivery: Delivery) -> None:
        """Let the peer say that it handles `delivery`."""
        self.run(_begin, delivery)

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call `function(peer's work, …)` over there and return its result."""
        self.start(function, *args, **kwargs)
        return self.result()

    def start(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Let the peer call `function`; `result` fetches what it returns."""
        self._busy = True
        self._pipe.send((function, args, kwargs))

    def result(self, timeout: float = 3 * PATIENCE) -> Any:
        """Return what the peer's function returned, or raise what it raised."""
        if not self._pipe.poll(timeout):
            raise TimeoutError(f"the other process was still at work after {timeout:g} seconds")
        try:
            worked, value = self._pipe.recv()
        except EOFError:
            self.process.join(PATIENCE)
            raise RuntimeError(
                f"the other process ended with exit code {self.process.exitcode}"
            ) from None
        self._busy = False
        if not worked:
            raise value
        return value

    def kill(self) -> None:
        """End the process at once, as `kill -9` does."""
        self.process.kill()
        self.process.join(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pipe.close()
        self.process.join(PATIENCE if kind is None and not self._busy else 0.1)
        self.kill()


def sleep(receiver: Receiver) -> None:
    """Sleep until somebody wakes `receiver`; raises `TimeoutError` when nobody does.

    `Receiver.wait` would not tell: it may return early, and layers look by themselves at times.
    """
    if not select.select([receiver.fileno()], [], [], PATIENCE)[0]:
        raise TimeoutError("the receiver slept on: nobody woke it")
    receiver.wait(PATIENCE)


class Work:
    """What a peer's functions work with."""

    def __init__(self, layer: ChannelLayer) -> None:
        self.layer = layer
        self.receiver = layer.receiver()


def _serve(pipe: Connection, factory: Factory, options: dict[str, Any]) -> None:
    try:
        layer = factory(**options)
        work = Work(layer)
    except Exception as error:  # noqa: BLE001  (it is the test's to judge)
        pipe.send((False, error))
        return
    pipe.send((True, None))
    while True:
        try:
            function, args, kwargs = pipe.recv()
        except EOFError:
            break
        try:
            answer = True, function(work, *args, **kwargs)
        except Exception as error:  # noqa: BLE001  (it is the test's to judge)
            answer = False, error
        pipe.send(answer)
    work.receiver.close()
    layer.close()


def _exchange(work: Work, *args: Any, **kwargs: Any) -> Outcome:
    return work.receiver.exchange(*args, **kwargs)


def _begin(work: Work, delivery: Delivery) -> None:
    work.receiver.begin(delivery)
