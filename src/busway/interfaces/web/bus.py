"""The bus, as one event loop sees it: one exchange for everything that happened in a tick."""

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Collection, Generator, Sequence

import msgspec

from busway.bus.errors import BusError, BuswayError, LayerUnavailable, UsageError
from busway.bus.layer import ChannelLayer
from busway.bus.operations import Delivery, Leave, Outcome, Send
from busway.bus.receiver import Receiver
from busway.interfaces.web.stalled import Source, Stalled

logger = logging.getLogger("busway.web")

_LOOK_INTERVAL = 1.0
"""Seconds after which the bus is looked at, and what was refused is tried again, even if nothing
woke us: layers do their housekeeping in exchanges."""
_SPIN = 0.0001
"""Seconds that the loop stays awake for answers to `_FEW` messages, while they come within `_SOON`:
sleeping and being woken is a quarter of the time of a lone round trip. The processor is offered to
others meanwhile. With more messages it is better left to who answers them."""
_SOON = 0.0005
_FEW = 4

_Refused = Sequence[tuple[int, BuswayError]]
"""Places of operations that were not done, and why."""


_Steps = Generator[Send | Leave, Outcome, _Refused]
"""Yields operations, to be done with an exchange each; returns those that were not done."""


class _Batch(msgspec.Struct, frozen=True):
    """What one exchange is to do."""

    operations: list[Send | Leave]
    sources: list[Source | None]
    flushes: list[asyncio.Future[None]]
    limit: int


class Bus:
    """Collects what connections send and flushes it once a tick; hands out what comes back.

    Where an exchange waits for a network, one is under way at a time, and what is sent meanwhile
    is collected for the next. Belongs to one event loop and is used from there only.
    """

    def __init__(
        self,
        layer: ChannelLayer,
        channels: Sequence[str],
        deliver: Callable[[deque[Delivery], int], None],
        finished: Callable[[], None],
        joined: Callable[[Sequence[str]], None],
        *,
        limit: int = 500,
        budget: int = 50_000,
    ) -> None:
        """Prepare to read `channels` of `layer`; nothing happens before `start`.

        Args:
            deliver: called with what has come and the `budget`; takes off what it hands out.
            finished: called when a tick's exchange and deliveries are over.
            joined: called with connections that have got into a group, before `deliver` is
                called with what was sent to them later.
            limit: messages that one exchange takes.
            budget: connections that are written to before other events have their turn.
        """
        self._layer = layer
        self._channels = tuple(channels)
        self._deliver = deliver
        self._finished = finished
        self._joined = joined
        self._limit = limit
        self._budget = budget
        self._operations: list[Send | Leave] = []
        self._sources: list[Source | None] = []
        self._inbox: deque[Delivery] = deque()
        self._stalled = Stalled()
        self._scheduled = False
        """Whether a flush is to come, or under way."""
        self._under_way: asyncio.Task[None] | None = None
        self._is_handed = False
        """Whether something came along with a ring, for when the exchange under way has ended."""
        self._is_wanted = self._was_rung = False
        """Whether an exchange was asked for, and the receiver woken, while one was under way."""
        self._stopped = False
        self._looks = True
        """Whether there may be something to take: not while the receiver waits to be woken."""
        self._sent = 0.0
        """When something was last sent to the bus, by the loop's time."""
        self._expects_soon = self._spinning = self._is_answered = False
        self._unavailable = False
        self._flushes: list[asyncio.Future[None]] = []

    def start(self) -> None:
        """Begin, on the running event loop. Raises what `ChannelLayer.receiver` raises."""
        self._loop = asyncio.get_running_loop()
        self._receiver: Receiver = self._layer.receiver()
        self._receiver.eager = True
        self._loop.add_reader(self._receiver.fileno(), self._woken)
        self._timer = self._loop.call_later(_LOOK_INTERVAL, self._look)
        self._schedule()

    async def stop(self) -> int:
        """End: flush a last time, and release the receiver; returns how many sends are lost."""
        self._loop.remove_reader(self._receiver.fileno())
        self._timer.cancel()
        if self._under_way is not None:
            await self._under_way
        self._scheduled = True
        self._flush()
        if self._under_way is not None:
            await self._under_way
        self._scheduled = self._stopped = True  # nothing is flushed from now on
        await self._receiver.aclose()
        return self._stalled.count()

    @property
    def idle(self) -> bool:
        """Whether everything that was given has been sent."""
        return not (self._operations or self._stalled or self._under_way)

    def post(self, send: Send, source: Source) -> None:
        """Send at the end of this tick, behind everything that `source` sent before.

        Where others wait for room it is refused at once, and waits behind them.
        """
        if source.waiting is not None:
            source.waiting.append(send)
        elif self._stalled.lines and self._stalled.holds_up(send):
            if source.refused(send):
                self._stalled.stand_behind(source, send)
        else:
            self._operations.append(send)
            self._sources.append(source)
            if not self._scheduled:
                self._schedule()

    def leave(self, channel: str) -> None:
        """Take `channel` out of its groups at the end of this tick."""
        self._operations.append(Leave(channel))
        self._sources.append(None)
        if not self._scheduled:
            self._schedule()

    def abandon(self, source: Source) -> None:
        """Give up what `source` is waiting to send: it is of no use any more."""
        self._stalled.abandon(source)

    def wake(self) -> None:
        """Exchange at the end of this tick even if there is nothing to send."""
        self._is_wanted = True
        if not self._scheduled:
            self._schedule()

    async def flushed(self) -> None:
        """Wait until what was posted before was accepted, or its source told of the refusal."""
        future = self._loop.create_future()
        self._flushes.append(future)
        if not self._scheduled:
            self._schedule()
        await future

    # -- the exchange -------------------------------------------------------------------

    def _schedule(self) -> None:
        self._scheduled = True
        self._loop.call_soon(self._put_off if self._receiver.blocks else self._flush)

    def _put_off(self) -> None:
        """Flush a turn later: what comes by then shares the exchange, which takes longer."""
        self._loop.call_soon(self._flush)

    def _woken(self) -> None:
        self._receiver.drain()
        self._expects_soon = self._loop.time() < self._sent + _SOON
        self._take_handed()

    def _take_handed(self) -> None:
        """Hand out what came along with a ring, or see to it that the bus is looked at."""
        handed = () if self._inbox else self._receiver.handed(self._limit)
        self._is_handed = handed is None and self._under_way is not None
        if self._is_handed:
            return
        if handed:
            self._is_answered = True
            self._inbox.extend(handed)
            self._hand_out()
        else:
            self._looks = self._was_rung = True
            self._begin_round()

    def _expect_answers(self, count: int) -> None:
        self._sent = self._loop.time()
        self._is_answered = False
        if count > _FEW:
            self._expects_soon = False
        elif self._expects_soon and not self._spinning:
            self._spinning = True
            self._loop.call_soon(self._stay_awake)

    def _stay_awake(self) -> None:
        """Go round the loop until an answer has come, or it takes too long."""
        if self._looks or self._is_answered:
            self._spinning = False
        elif self._loop.time() < self._sent + _SPIN:
            os.sched_yield()
            self._loop.call_soon(self._stay_awake)
        else:
            self._spinning = self._expects_soon = False

    def _look(self) -> None:
        self._timer = self._loop.call_later(_LOOK_INTERVAL, self._look)
        self._looks = True
        self._begin_round()

    def _begin_round(self) -> None:
        """Exchange at the end of this tick, and try again what was refused, once each."""
        if self._stalled.lines:
            self._stalled.begin_round()
        self.wake()

    def _flush(self) -> None:
        if self._stopped or self._under_way is not None:
            return
        batch = self._collect()
        if self._receiver.blocks:
            self._under_way = self._loop.create_task(self._flush_apart(batch))
            return
        self._scheduled = False
        try:
            outcome = self._exchange(batch.operations, batch.limit)
        except (UsageError, LayerUnavailable) as error:
            self._settle(batch, self._drive(self._mend(error, batch)), ())
        else:
            self._settle(batch, self._note(outcome, batch.limit), outcome.deliveries)

    async def _flush_apart(self, batch: _Batch) -> None:
        deliveries: Sequence[Delivery] = ()
        try:
            outcome = await self._aexchange(batch.operations, batch.limit)
        except (UsageError, LayerUnavailable) as error:
            refused = await self._adrive(self._mend(error, batch))
        else:
            refused, deliveries = self._note(outcome, batch.limit), outcome.deliveries
        finally:
            self._under_way = None
            self._scheduled = False
        self._settle(batch, refused, deliveries)
        if self._is_handed:
            self._take_handed()
        looks = self._looks and not self._inbox and not self._unavailable
        if not self._scheduled and (looks or self._is_wanted or self._operations or self._flushes):
            self._schedule()

    def _collect(self) -> _Batch:
        operations, sources, flushes = self._operations, self._sources, self._flushes
        self._operations, self._sources, self._flushes = [], [], []
        if self._stalled.open:
            self._stalled.take(operations, sources, self._limit)
        self._is_wanted = self._was_rung = False
        # While deliveries wait here none are taken: the bus is the better place for them.
        limit = self._limit if self._looks and not self._inbox else 0
        return _Batch(operations, sources, flushes, limit)

    def _settle(self, batch: _Batch, refused: _Refused, deliveries: Sequence[Delivery]) -> None:
        if batch.operations:
            self._expect_answers(len(batch.operations))
        if refused:
            self._put_back(refused, batch.operations, batch.sources)
        if self._stalled.lines:
            self._go_on()
        for future in batch.flushes:
            if not future.done():
                future.set_result(None)
        if deliveries:
            self._inbox.extend(deliveries)
            if len(deliveries) == batch.limit and not self._scheduled:
                self._schedule()
        if batch.limit:
            self._hand_out()
        else:
            self._finished()

    def _exchange(self, operations: Sequence[Send | Leave], limit: int) -> Outcome:
        channels = self._channels if limit else ()
        return self._receiver.exchange(
            operations, (), channels, limit, wake_below=self._limit, hold=False
        )

    async def _aexchange(self, operations: Sequence[Send | Leave], limit: int) -> Outcome:
        """Do an `_exchange`, and let the loop run meanwhile."""
        channels = self._channels if limit else ()
        return await self._receiver.aexchange(
            operations, (), channels, limit, wake_below=self._limit, hold=False
        )

    def _note(self, outcome: Outcome, limit: int) -> _Refused:
        """Take note of what an exchange found; returns what it refused."""
        if self._unavailable:
            self._unavailable = False
            logger.warning("the bus is available again")
        if outcome.joined:
            self._joined(outcome.joined)
        if limit:
            # Who was woken since may have been so for what came after.
            self._looks = len(outcome.deliveries) == limit or self._was_rung
        if not outcome.refused:
            return ()
        return [(refusal.index, refusal.error) for refusal in outcome.refused]

    # -- exchanges that fail ------------------------------------------------------------

    def _drive(self, steps: _Steps) -> _Refused:
        """Make the exchanges of `steps`."""
        try:
            operation = next(steps)
            while True:
                try:
                    outcome = self._exchange((operation,), 0)
                except (UsageError, LayerUnavailable) as error:
                    operation = steps.throw(error)
                else:
                    operation = steps.send(outcome)
        except StopIteration as end:
            refused: _Refused = end.value
            return refused

    async def _adrive(self, steps: _Steps) -> _Refused:
        """Make the exchanges of `steps`, and let the loop run meanwhile."""
        try:
            operation = next(steps)
            while True:
                try:
                    outcome = await self._aexchange((operation,), 0)
                except (UsageError, LayerUnavailable) as error:
                    operation = steps.throw(error)
                else:
                    operation = steps.send(outcome)
        except StopIteration as end:
            refused: _Refused = end.value
            return refused

    def _mend(self, error: UsageError | LayerUnavailable, batch: _Batch) -> _Steps:
        """Do what can be done of a batch whose exchange failed."""
        if isinstance(error, UsageError) and len(batch.operations) > 1:
            return (yield from self._one_by_one(batch))
        self._note_failure(error)
        return [(index, error) for index in range(len(batch.operations))]

    def _note_failure(self, error: UsageError | LayerUnavailable) -> None:
        if isinstance(error, LayerUnavailable):
            if not self._unavailable:
                logger.error("%s; trying again every %g s", error, _LOOK_INTERVAL)
            self._unavailable = self._looks = True

    def _one_by_one(self, batch: _Batch) -> _Steps:
        """Do all operations but those that cannot be done: one bad message is nobody else's."""
        refused: list[tuple[int, BuswayError]] = []
        full: dict[Source, BusError] = {}
        for index, (operation, source) in enumerate(
            zip(batch.operations, batch.sources, strict=True)
        ):
            if source in full:
                refused.append((index, full[source]))
                continue
            error = yield from self._attempt(operation)
            if error is not None:
                refused.append((index, error))
                if source is not None and isinstance(error, BusError):
                    full[source] = error
        self._is_wanted = True
        if not self._scheduled:
            self._schedule()
        return refused

    def _attempt(
        self, operation: Send | Leave
    ) -> Generator[Send | Leave, Outcome, BuswayError | None]:
        """Do one operation; returns why it could not be done."""
        try:
            outcome = yield operation
        except (UsageError, LayerUnavailable) as error:
            self._note_failure(error)
            return error
        return next((error for _, error in self._note(outcome, 0)), None)

    # -- what was refused ---------------------------------------------------------------

    def _put_back(
        self,
        refused: _Refused,
        operations: Sequence[Send | Leave],
        sources: Sequence[Source | None],
    ) -> None:
        kept: dict[Source, tuple[list[Send], BusError]] = {}
        for index, error in refused:
            operation, source = operations[index], sources[index]
            if source is None or not isinstance(operation, Send):
                self._operations.append(operation)
                self._sources.append(None)
            elif not isinstance(error, BusError):
                source.impossible(operation, error)
            elif source.refused(operation):
                # What follows the first is refused for its sake.
                kept.setdefault(source, ([], error))[0].append(operation)
        later = self._take_later(kept) if kept and self._operations else {}
        for source, (sends, error) in kept.items():
            self._stalled.add(source, [*sends, *later.get(source, ())], error)

    def _go_on(self) -> None:
        """Let the others try in the next tick, as long as there may be room."""
        stalled = self._stalled
        stalled.settle()
        if self._was_rung:  # while the exchange was under way
            stalled.begin_round()
        if stalled.open and not self._scheduled:
            self._schedule()

    def _take_later(self, sources: Collection[Source]) -> dict[Source, list[Send]]:
        """Take out what `sources` have sent while the exchange was under way."""
        later: dict[Source, list[Send]] = {}
        sent = zip(self._operations, self._sources, strict=True)
        self._operations, self._sources = [], []
        for operation, source in sent:
            if source in sources and isinstance(operation, Send) and source is not None:
                later.setdefault(source, []).append(operation)
            else:
                self._operations.append(operation)
                self._sources.append(source)
        return later

    # -- what came ----------------------------------------------------------------------

    def _hand_out(self) -> None:
        """Deliver what has come, until the budget of this tick is used up."""
        try:
            self._deliver(self._inbox, self._budget)
        finally:
            self._finished()
            if self._inbox:
                self._loop.call_soon(self._hand_out_rest)

    def _hand_out_rest(self) -> None:
        self._hand_out()
        if not self._inbox and not self._scheduled:
            self._schedule()
