"""The reader of a channel layer: what a backend implements.

One primitive, `Receiver.exchange`, and a way to wait. Interface servers and workers use it
directly, one exchange per batch.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from math import inf
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from busway.bus.operations import Delivery, Operation, Outcome

T = TypeVar("T")
P = ParamSpec("P")


class Receiver(ABC):
    """One reader of a layer: a consumer thread or an event loop.

    Not thread-safe: one thread or one event loop uses it at a time.
    """

    @abstractmethod
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
        """Do everything in one atomic step, and in this order.

        1. `operations` are applied. Those that find no room are in `refused`; the others stand.
           A later operation of the same lane as a refused one is refused too, so that order
           is kept: send the refused ones again, in their order.
        2. `done` names deliveries of this receiver that have been handled: their lanes go on.
           If anything was refused, none of them is done: else the next message of a lane could
           be handled, and answered, before what belongs to the one before it is sent. Exchange
           again without operations for those whose own were all applied.
        3. Up to `limit` messages are taken off `channels` (normal names, full "name?random",
           or prefixes up to "!"), fairly among channels and in FIFO order within each.

        With `wake_below` = n, a receiver that got fewer than n messages is registered, in the
        same step, to be woken by the next message for `channels`: call `wait` then. A refusal
        registers it likewise, to be woken when there may be room. 0: not registered. With no
        `channels`, a receiver that is registered stays so: whoever was not woken since has
        nothing to take.

        With `hold` = True, messages of normal channels stay in this receiver's hands until
        they are in `done` (or given back with `Return`). With False they are done on delivery.

        Raises `UsageError` for bad names or messages, before anything is applied, and
        `LayerUnavailable` when the storage fails, with nothing applied.
        """

    async def aexchange(
        self,
        operations: Sequence[Operation] = (),
        done: Sequence[Delivery] = (),
        channels: Sequence[str] = (),
        limit: int = 0,
        *,
        wake_below: int = 0,
        hold: bool = True,
    ) -> Outcome:
        """Do an `exchange` from async code.

        Layers whose exchange does not block do it at once. Cancelling may lose what was taken.
        """
        return self.exchange(operations, done, channels, limit, wake_below=wake_below, hold=hold)

    eager: bool = False
    """Set it for who takes at once what it is woken for. Where an exchange waits for a network,
    messages may then come along with the wake-up, and count as taken when they are sent."""

    def handed(self, limit: int) -> Sequence[Delivery] | None:
        """Return up to `limit` messages that came along with wake-ups, if it is `eager`.

        Call it after `drain`. An exchange that takes messages returns them, too. When there are
        some, there is nothing else to look for: if there is, the receiver is woken again. None:
        ask again when the exchange that is under way has ended, which may bring them.
        """
        del limit
        return ()

    blocks: bool = False
    """Whether an exchange waits for something, such as a network: an event loop that others use
    does `aexchange` then."""

    def begin(self, delivery: Delivery) -> bool:
        """Say that `delivery`, and all that was taken before it, is being handled from now on.

        If this process dies, messages that were not begun go to other receivers. False: this one
        has gone to another, because this process was thought dead; do not handle it.
        """
        return True

    async def abegin(self, delivery: Delivery) -> bool:
        """Do a `begin` from async code."""
        return self.begin(delivery)

    @abstractmethod
    def wait(self, timeout: float | None = None) -> bool:
        """Block until there may be something to exchange; True unless `timeout` seconds passed.

        None: no limit. It may return early, with nothing there. `interrupt` wakes it.
        """

    @abstractmethod
    async def async_wait(self, timeout: float | None = None) -> bool:
        """Do a `wait` from async code. Cancelling it is safe."""

    def patience(self) -> float:
        """Return the seconds after which to exchange again even if nobody rings.

        A delayed message may be due then, or there is housekeeping to do. `wait` returns by then;
        it is for those who watch `fileno`.
        """
        return inf

    @abstractmethod
    def interrupt(self) -> None:
        """Wake this receiver's `wait` now. Safe from other threads and from signal handlers."""

    @abstractmethod
    def fileno(self) -> int:
        """Return a descriptor that is readable when the receiver was woken: for event loops.

        Call `drain` when it is readable, then exchange.
        """

    @abstractmethod
    def drain(self) -> None:
        """Forget wake-ups so far, so that `fileno` is not readable until the next one."""

    @abstractmethod
    def close(self) -> None:
        """Give back what was not begun, and release everything. Closing twice is harmless."""

    async def aclose(self) -> None:
        """Do a `close` from async code. When cancelled, it goes on in its thread."""
        await apart(self.blocks, self.close)

    def abandon(self) -> None:  # noqa: B027  (only some layers survive a fork)
        """Release a forked child's copy, and leave the parent's as it is."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()


async def apart(blocks: bool, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do a call from async code: in a thread, if it `blocks`."""
    if blocks:
        return await asyncio.to_thread(call, *args, **kwargs)
    return call(*args, **kwargs)
