"""Commits what consumers sent, together with the acknowledgement of their messages."""

import logging
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec

from busway.app.endings import failure
from busway.app.message import Message
from busway.bus.errors import BuswayError, UsageError
from busway.bus.operations import Delivery, Operation, Outcome, Refusal, Return, Send
from busway.bus.receiver import Receiver

logger = logging.getLogger("busway.worker")

PATIENCE = 2.0
"""Seconds for which a send to a full channel is tried again before it is dropped."""

MAX_WAITING = 100
"""While more sends than this wait for room, no messages are taken."""


class Counts(msgspec.Struct):
    """What a worker has done."""

    consumed: int = 0
    """Messages that are done, however their consumers ended."""
    failed: int = 0
    """Consumers that raised an error, or sent what cannot be sent."""
    requeued: int = 0
    """Messages that were put back by `ConsumeLater`."""
    aborted: int = 0
    """Requests whose client was gone before the answer."""
    unrouted: int = 0
    """Messages that no route took."""
    dropped: int = 0
    """Sends that found no room for `PATIENCE` seconds."""

    def count(self, field: str) -> None:
        """Add one to `field`."""
        setattr(self, field, getattr(self, field) + 1)


class Result(msgspec.Struct, gc=False):
    """What one consumer did."""

    delivery: Delivery
    operations: list[Operation]
    consumer: str
    """Its name, for people to read."""


_Request = tuple[list[Operation], list[Delivery], Sequence[str], int]
"""The arguments of an exchange: operations, done, channels, limit. Plain, since it is made for
every exchange."""


class _Waiting(NamedTuple):
    """A send of a result that found no room, and when it is dropped: by `time.monotonic`."""

    operation: Operation
    deadline: float
    result: Result


class Committer:
    """Exchanges the results of consumers for new messages, through one receiver.

    Like its receiver it is used by one thread or event loop at a time; only `finished` may be
    appended to by others.
    """

    def __init__(self, receiver: Receiver, channels: Sequence[str]) -> None:
        """Take messages off `channels`."""
        self.finished: deque[Result] = deque()
        """Results that wait for the next exchange."""
        self.counts = Counts()
        self._receiver = receiver
        self._channels = tuple(channels)
        self._waiting: list[_Waiting] = []
        self._withheld: list[Result] = []
        """Results that are not acknowledged yet, for they have sends in `_waiting`. Otherwise the
        next message of their lane would be consumed, and answered first."""

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing left to commit."""
        return not self.finished and not self._waiting

    @property
    def is_blocked(self) -> bool:
        """Whether sends wait for room. Then messages should be taken one by one."""
        return bool(self._waiting)

    def patience(self) -> float | None:
        """Return the seconds until a send is given up; None when none waits for room."""
        if not self._waiting:
            return None
        return max(0.0, min(sent.deadline for sent in self._waiting) - time.monotonic())

    def exchange(self, limit: int = 0, unbegun: Sequence[Delivery] = ()) -> list[Delivery]:
        """Commit what is finished, give `unbegun` back, and take up to `limit` messages.

        When there were none to take, or there was no room, the receiver is registered to be
        woken. Raises `LayerUnavailable`, with nothing changed.
        """
        results = list(self.finished)
        outcome: Outcome | None = None
        if not self._waiting and not unbegun:
            # What nearly every exchange is; the steps are for when something is refused.
            request = self._request(results, limit, ())
            try:
                outcome = self._receiver.exchange(*request, wake_below=1)
            except UsageError:
                pass
            else:
                if not outcome.refused:
                    self._settle(results)
                    return outcome.deliveries
        steps = self._steps(results, limit, unbegun)
        try:
            request = next(steps)
            if outcome is not None:
                request = steps.send(outcome)
            while True:
                try:
                    outcome = self._receiver.exchange(*request, wake_below=1)
                except UsageError as error:
                    request = steps.throw(error)
                else:
                    request = steps.send(outcome)
        except StopIteration as end:
            deliveries: list[Delivery] = end.value
            return deliveries

    def rescue(self, unbegun: Sequence[Delivery] = ()) -> None:
        """Commit what is finished and give `unbegun` back, because an error ends everything.

        That error is the one to report: if this fails too, nothing more can be done.
        """
        if unbegun or not self.is_idle:
            with suppress(BuswayError):
                self.exchange(0, unbegun)

    async def arescue(self) -> None:
        """Do a `rescue` from async code."""
        if not self.is_idle:
            with suppress(BuswayError):
                await self.aexchange()

    async def aexchange(self, limit: int = 0) -> list[Delivery]:
        """Do an `exchange` from async code."""
        steps = self._steps(list(self.finished), limit, ())
        try:
            request = next(steps)
            while True:
                try:
                    outcome = await self._receiver.aexchange(*request, wake_below=1)
                except UsageError as error:
                    request = steps.throw(error)
                else:
                    request = steps.send(outcome)
        except StopIteration as end:
            deliveries: list[Delivery] = end.value
            return deliveries

    def _steps(
        self, results: list[Result], limit: int, unbegun: Sequence[Delivery]
    ) -> Generator[_Request, Outcome, list[Delivery]]:
        """Yield the exchanges to make; what was taken is returned."""
        while True:
            allowed = 0 if len(self._waiting) > MAX_WAITING else limit
            try:
                deliveries, is_last = yield from self._commit(results, allowed, unbegun)
            except UsageError:
                if not results:
                    raise
                # A consumer sent what the layer does not take, and nothing was applied: find it.
                for result in results:
                    yield from self._commit_alone(result)
                results = []
                continue
            has_room = allowed < limit and len(self._waiting) <= MAX_WAITING
            if deliveries or (is_last and not has_room):
                return deliveries
            results, unbegun = [], ()

    def _commit_alone(self, result: Result) -> Generator[_Request, Outcome, None]:
        """Commit one result; if it cannot be sent, its consumer counts as failed."""
        try:
            yield from self._commit((result,))
        except UsageError as error:
            channel = result.delivery.channel
            logger.error("%s on %s failed: %s", result.consumer, channel, error)  # noqa: TRY400
            self.counts.failed += 1
            result.operations = failure(Message(result.delivery.message, channel))
            yield from self._commit((result,))

    def _commit(
        self, results: Sequence[Result], limit: int = 0, unbegun: Sequence[Delivery] = ()
    ) -> Generator[_Request, Outcome, tuple[list[Delivery], bool]]:
        """Make one exchange; returns what it took, and whether it was the last thing done."""
        outcome = yield self._request(results, limit, unbegun)
        if not outcome.refused:
            self._settle(results)
            return outcome.deliveries, True
        for _ in results:
            self.finished.popleft()
        complete = self._withhold(results, outcome.refused)
        if not complete:
            return outcome.deliveries, True
        yield [], complete, (), 0
        self.counts.consumed += len(complete)
        return outcome.deliveries, False

    def _settle(self, results: Sequence[Result]) -> None:
        """Take note that all of `results`, and what was withheld before, is committed."""
        for _ in results:
            self.finished.popleft()
        self.counts.consumed += len(self._withheld) + len(results)
        if self._waiting or self._withheld:
            self._withheld, self._waiting = [], []

    def _request(
        self, results: Sequence[Result], limit: int, unbegun: Sequence[Delivery]
    ) -> _Request:
        operations: list[Operation] = []
        done: list[Delivery] = []
        for result in results:
            operations += result.operations
            done.append(result.delivery)
        if self._waiting or unbegun:
            operations = [
                *(sent.operation for sent in self._waiting),
                *operations,
                *map(Return, unbegun),
            ]
            done = [*(result.delivery for result in self._withheld), *done]
        return operations, done, self._channels if limit else (), limit

    def _withhold(self, results: Sequence[Result], refused: Sequence[Refusal]) -> list[Delivery]:
        """Keep what an exchange refused, and the results that it belongs to.

        Nothing was acknowledged. Returns what can be: all that has nothing left to send.
        """
        now = time.monotonic()
        sent = self._waiting + [
            _Waiting(operation, now + PATIENCE, result)
            for result in results
            for operation in result.operations
        ]
        waiting = [sent[refusal.index] for refusal in refused]
        self._waiting = [one for one in waiting if one.deadline > now]
        if len(waiting) > len(self._waiting):
            self._report(one.operation for one in waiting if one.deadline <= now)
        incomplete = {id(one.result) for one in self._waiting}
        everything = [*self._withheld, *results]
        self._withheld = [result for result in everything if id(result) in incomplete]
        return [result.delivery for result in everything if id(result) not in incomplete]

    def _report(self, dropped: Iterable[Operation]) -> None:
        """Log and count sends that are given up."""
        targets = Counter(
            operation.channel if isinstance(operation, Send) else repr(operation)
            for operation in dropped
        )
        for target, count in targets.items():
            self.counts.dropped += count
            logger.warning(
                "dropped %d message(s) for %s: it has been full for %s s; "
                "its reader is gone or too slow",
                count,
                target,
                PATIENCE,
            )
