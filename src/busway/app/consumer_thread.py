"""One consumer thread of a worker: exchange, route, call, exchange."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from threading import Lock
from typing import Protocol

from busway.app import forks
from busway.app.absence import Absence
from busway.app.calling import Caller
from busway.app.commits import Committer, Result
from busway.app.context import outbox
from busway.app.leaves import Found
from busway.app.message import Message
from busway.app.pace import MAX_LIMIT, MAX_LIMIT_APART, Pace
from busway.app.routing import Router
from busway.bus.errors import LayerUnavailable
from busway.bus.layer import ChannelLayer
from busway.bus.operations import Delivery

IDLE = 5.0
"""Seconds without a message after which a thread counts as idle."""


class Takeover(Protocol):
    """Who runs the async consumers that a thread meets: `busway.app.event_loop`."""

    concurrency: int

    def submit(
        self, thread: "ConsumerThread", delivery: Delivery, found: Found, message: Message
    ) -> None:
        """Run an async consumer; `thread.take_back` gets its result."""


class ConsumerThread:
    """Consumes messages of some channels, in the thread that calls `run`.

    The thread holds `_lock` except while it sleeps or a consumer runs. So a guard that gets the
    lock, and sees that a consumer runs, may use the receiver: see `relieve`.
    """

    def __init__(
        self,
        layer: ChannelLayer,
        router: Router,
        channels: Sequence[str],
        *,
        takeover: Takeover | None = None,
        watch: Callable[[], None] | None = None,
        idle: Callable[[], None] | None = None,
    ) -> None:
        """Prepare to consume `channels`.

        `takeover` runs async consumers; `watch` is called before a batch that may need a guard;
        `idle` once when nothing has come for `IDLE` seconds.
        """
        self._layer = layer
        self._receiver = layer.receiver()
        self._receiver.eager = True
        self._commits = Committer(self._receiver, channels)
        self.counts = self._commits.counts
        self._caller = Caller(layer, router, self.counts)
        self._pace = Pace(MAX_LIMIT_APART if self._receiver.blocks else MAX_LIMIT)
        self._takeover = takeover
        self._watch = watch
        self._idle = idle
        self._idle_at = inf
        """When `idle` is to be called, by `time.monotonic`."""
        self._lock = Lock()
        self._pending: deque[Delivery] = deque()
        """Messages of this batch that are not begun."""
        self._started = 0.0
        """When this batch was begun, by `time.monotonic`; 0 between batches."""
        self._stopping = False
        # Two counters with one writer each need no lock.
        self._handed_over = 0
        self._taken_back = 0
        self._is_abandoned = False
        self._is_copy = False
        self._absence = Absence()
        forks.parts.add(self)

    def run(self) -> None:
        """Consume until `stop`.

        Raises `LayerUnavailable` when the layer is lost; one that comes back is waited for.
        """
        with self._lock:
            try:
                while not self._is_over():
                    try:
                        deliveries = self._exchange()
                    except LayerUnavailable as error:
                        if self._stopping or not self._receiver.blocks:
                            raise
                        self._sleep(self._absence.pause(error))
                        continue
                    self._absence.end()
                    if deliveries:
                        self._consume(deliveries)
                        if self._is_copy:
                            forks.end_copy()
                    elif not self._commits.finished and not self._is_over():
                        self._sleep()
            except BaseException:
                if self._is_copy:
                    forks.end_copy()
                self._started = 0.0
                self._commits.rescue(list(self._pending))
                raise
            finally:
                outbox.set(None)  # the last consumer's
                self._receiver.close()

    def stop(self) -> None:
        """Let `run` end after the running consumer. Safe from any thread and signal handler."""
        self._stopping = True
        self._receiver.interrupt()

    def take_back(self, results: Sequence[Result]) -> None:
        """Get results of async consumers. From the event loop."""
        self._commits.finished.extend(results)
        self._taken_back += len(results)
        self._receiver.interrupt()

    def abandon(self) -> None:
        """Do not wait for async consumers any more: their event loop has ended."""
        self._is_abandoned = True
        self._receiver.interrupt()

    def disown(self) -> None:
        """See `busway.app.forks`."""
        self._is_copy = self._stopping = True
        self._pending.clear()
        self._lock = Lock()  # the guard, which is not in the child, may hold the other

    def relieve(self, patience: float) -> bool:
        """Free the messages around a consumer that has run for `patience` seconds.

        What was finished before it in the batch is committed, and what was not begun goes back
        to the bus. From the guard's thread. Returns whether this thread is in a batch.
        """
        if not self._started:
            return False
        with self._lock:
            if not self._started:
                return False
            if time.monotonic() - self._started >= patience:
                unbegun = list(self._pending)
                if unbegun or not self._commits.is_idle:
                    with suppress(LayerUnavailable):  # it is tried again
                        self._commits.exchange(0, unbegun)
                        self._pending.clear()
        return True

    def _is_over(self) -> bool:
        waits = self._handed_over != self._taken_back and not self._is_abandoned
        return self._stopping and not waits and self._commits.is_idle and not self._pending

    def _limit(self) -> int:
        """Return how many messages to take now."""
        if self._stopping:
            return 0
        limit = 1 if self._commits.is_blocked else self._pace.limit
        if self._takeover is None:
            return limit
        return min(limit, self._takeover.concurrency - self._handed_over + self._taken_back)

    def _sleep(self, timeout: float | None = None) -> None:
        self._lock.release()
        try:
            self._receiver.wait(self._commits.patience() if timeout is None else timeout)
            if self._idle is not None and time.monotonic() >= self._idle_at:
                self._idle_at = inf
                self._idle()
        finally:
            self._lock.acquire()

    def _consume(self, deliveries: list[Delivery]) -> None:
        pending = self._pending
        pending.extend(deliveries)
        self._started = started = time.monotonic()
        if len(deliveries) > 1 and self._watch is not None:
            self._watch()
        begun = 0
        while pending and not self._stopping:
            delivery = pending.popleft()
            if self._receiver.begin(delivery):
                self._handle(delivery)
            begun += 1
        self._started = 0.0
        if begun:
            now = time.monotonic()
            self._idle_at = now + IDLE
            self._pace.measure(begun, now - started)

    def _exchange(self) -> list[Delivery]:
        """Give back what was not begun, commit what is finished, and take messages."""
        if self._pending:
            self._commits.exchange(0, list(self._pending))
            self._pending.clear()
            if self._is_over():
                return []
        return self._commits.exchange(self._limit())

    def _handle(self, delivery: Delivery) -> None:
        """Have one message consumed; the lock is not held meanwhile."""
        message = Message(delivery.message, delivery.channel, self._layer)
        self._lock.release()
        try:
            found = self._caller.find(message)
            if isinstance(found, list):
                result = Result(delivery, found, "no consumer")
            elif found[0].is_async and self._takeover is not None:
                self._handed_over += 1
                self._takeover.submit(self, delivery, found, message)
                return
            else:
                result = Result(delivery, self._caller.call(found, message), found[0].name)
        finally:
            self._lock.acquire()
        self._commits.finished.append(result)
