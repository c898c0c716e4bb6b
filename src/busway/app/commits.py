"""Commits what consumers sent, together with the acknowledgement of their messages."""

import logging
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Sequence
from typing import NamedTuple

import msgspec

from busway.app.endings import failure
from busway.app.message import Message
from busway.bus.errors import UsageError
from busway.bus.layer import Delivery, Operation, Outcome, Receiver, Return, Send

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


class _Request(NamedTuple):
    """The arguments of an exchange."""

    operations: list[Operation]
    done: list[Delivery]
    channels: Sequence[str]
    limit: int


class _Waiting(NamedTuple):
    """A send that found no room, and when it is dropped: by `time.monotonic`."""

    operation: Operation
    deadline: float


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
        self._channels = channels
        self._waiting: list[_Waiting] = []

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
        steps = self._steps(limit, unbegun)
        try:
            request = next(steps)
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

    async def aexchange(self, limit: int = 0) -> list[Delivery]:
        """Do an `exchange` from async code."""
        steps = self._steps(limit, ())
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
        self, limit: int, unbegun: Sequence[Delivery]
    ) -> Generator[_Request, Outcome, list[Delivery]]:
        """Yield the exchanges to make; what the last one took is returned."""
        results = list(self.finished)
        while True:
            allowed = 0 if len(self._waiting) > MAX_WAITING else limit
            try:
                outcome = yield self._request(results, allowed, unbegun)
            except UsageError:
                # A consumer sent what the layer does not take, and nothing was applied: find it.
                for result in results:
                    yield from self._commit_alone(result)
                results = []
                continue
            self._settle(results, outcome)
            if allowed == limit or len(self._waiting) > MAX_WAITING:
                return outcome.deliveries
            results, unbegun = [], ()

    def _commit_alone(self, result: Result) -> Generator[_Request, Outcome, None]:
        """Commit one result; if it cannot be sent, its consumer counts as failed."""
        try:
            outcome = yield self._request((result,), 0, ())
        except UsageError as error:
            channel = result.delivery.channel
            logger.error("%s on %s failed: %s", result.consumer, channel, error)  # noqa: TRY400
            self.counts.failed += 1
            result.operations = failure(Message(result.delivery.message, channel))
            outcome = yield self._request((result,), 0, ())
        self._settle((result,), outcome)

    def _request(
        self, results: Sequence[Result], limit: int, unbegun: Sequence[Delivery]
    ) -> _Request:
        operations = [sent.operation for sent in self._waiting]
        for result in results:
            operations += result.operations
        operations += [Return(delivery) for delivery in unbegun]
        done = [result.delivery for result in results]
        return _Request(operations, done, self._channels if limit else (), limit)

    def _settle(self, results: Sequence[Result], outcome: Outcome) -> None:
        """Note what an exchange has done."""
        for _ in results:
            self.finished.popleft()
        self.counts.consumed += len(results)
        if not outcome.refused and not self._waiting:
            return
        now = time.monotonic()
        earlier = self._waiting
        waiting = [
            _Waiting(
                refusal.operation,
                earlier[refusal.index].deadline if refusal.index < len(earlier) else now + PATIENCE,
            )
            for refusal in outcome.refused
        ]
        self._waiting = [sent for sent in waiting if sent.deadline > now]
        if len(waiting) > len(self._waiting):
            self._report(sent.operation for sent in waiting if sent.deadline <= now)

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
