"""Async consumers: they run on one event loop, many at a time."""

import asyncio
import sys
from collections import deque
from collections.abc import Coroutine, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from busway.app import forks
from busway.app.absence import Absence
from busway.app.calling import Caller
from busway.app.commits import Committer, Result
from busway.app.consumer_thread import ConsumerThread
from busway.app.leaves import Found
from busway.app.message import Message
from busway.app.routing import Router
from busway.bus.errors import LayerUnavailable
from busway.bus.layer import ChannelLayer
from busway.bus.operations import Delivery

MAX_BATCH = 128
"""Messages in the largest batch."""


class _Job(NamedTuple):
    """An async consumer that a thread has met."""

    thread: ConsumerThread
    delivery: Delivery
    found: Found
    message: Message


class AsyncConsumers:
    """Runs async consumers in tasks.

    It reads channels that have async consumers only, and takes over those that consumer threads
    meet on other channels.
    """

    def __init__(
        self,
        layer: ChannelLayer,
        router: Router,
        channels: Sequence[str],
        *,
        concurrency: int,
        has_threads: bool,
    ) -> None:
        """Prepare to consume `channels`, at most `concurrency` of their messages at a time.

        With `has_threads`, `run` goes on until `release`, for consumer threads may `submit`.
        """
        self.concurrency = concurrency
        self._layer = layer
        self._receiver = layer.receiver()
        self._commits = Committer(self._receiver, channels)
        self.counts = self._commits.counts
        self._caller = Caller(layer, router, self.counts)
        self._reads = bool(channels)
        self._has_threads = has_threads
        self._stopping = False
        self._is_copy = False
        self._absence = Absence()
        self._asleep = False
        self._running = 0
        """Messages of the own receiver that are being consumed."""
        self._tasks: dict[Message, asyncio.Task[None]] = {}
        """Tasks that have not ended, by what they consume; event loops themselves hold none. A
        task removes itself: a callback when it is done would cost half as much as the task."""
        self._jobs: deque[_Job] = deque()
        self._returns: dict[ConsumerThread, list[Result]] = {}
        forks.parts.add(self)

    async def run(self) -> None:
        """Consume until `stop`.

        Raises `LayerUnavailable` when the layer is lost; one that comes back is waited for.
        """
        try:
            while not self._is_over():
                self._take_over()
                # A consumer that holds up the loop would hold up what it was handed.
                self._receiver.eager = not self._tasks
                try:
                    deliveries = await self._commits.aexchange(self._limit())
                except LayerUnavailable as error:
                    if self._stopping or not self._receiver.blocks:
                        raise
                    await self._receiver.async_wait(self._absence.pause(error))
                    continue
                self._absence.end()
                if deliveries:
                    await self._begin_all(deliveries)
                    # Most tasks end in their first step: their results share an exchange.
                    await asyncio.sleep(0)
                elif not self._commits.finished and not self._jobs and not self._is_over():
                    await self._sleep()
        except BaseException:
            for thread in list(self._returns):
                self._give_back(thread)
            await self._commits.arescue()
            raise
        finally:
            await self._receiver.aclose()

    def stop(self) -> None:
        """Let `run` end when all that is running has ended. Safe from any thread and signal."""
        self._stopping = True
        self._receiver.interrupt()

    def release(self) -> None:
        """Say that all consumer threads have ended. Safe from any thread."""
        self._has_threads = False
        self._receiver.interrupt()

    def disown(self) -> None:
        """See `busway.app.forks`."""
        self._is_copy = True

    def submit(
        self, thread: ConsumerThread, delivery: Delivery, found: Found, message: Message
    ) -> None:
        """Run an async consumer; `thread.take_back` gets its result. Safe from any thread."""
        self._jobs.append(_Job(thread, delivery, found, message))
        if len(self._jobs) == 1:  # those before it were announced
            self._receiver.interrupt()

    def _is_over(self) -> bool:
        if not self._stopping or not self._commits.is_idle:
            return False
        # One that was cancelled before its first step is still there.
        running = any(not task.done() for task in self._tasks.values())
        return not (self._has_threads or self._jobs or running or self._returns)

    def _limit(self) -> int:
        if self._stopping or not self._reads:
            return 0
        return 1 if self._commits.is_blocked else min(MAX_BATCH, self.concurrency - self._running)

    async def _sleep(self) -> None:
        self._asleep = True
        try:
            await self._receiver.async_wait(self._commits.patience())
        finally:
            self._asleep = False

    def _wake(self) -> None:
        if self._asleep:
            self._asleep = False
            self._receiver.interrupt()

    async def _begin_all(self, deliveries: Sequence[Delivery]) -> None:
        receiver = self._receiver
        # With the last one, all are begun: the bus is asked once.
        await receiver.abegin(max(deliveries, key=attrgetter("place")))
        for delivery in deliveries:
            if await receiver.abegin(delivery) if receiver.blocks else receiver.begin(delivery):
                self._begin(delivery)

    def _begin(self, delivery: Delivery) -> None:
        """Have a message of the own receiver consumed."""
        message = Message(delivery.message, delivery.channel, self._layer)
        found = self._caller.find(message)
        if isinstance(found, list):
            self._commits.finished.append(Result(delivery, found, "no consumer"))
        else:
            self._running += 1
            self._start(self._consume(delivery, found, message), found, message)

    def _take_over(self) -> None:
        """Have the messages consumed that threads have submitted."""
        while self._jobs:
            job = self._jobs.popleft()
            self._start(self._consume_for(job), job.found, job.message)

    def _start(self, steps: Coroutine[Any, Any, None], found: Found, message: Message) -> None:
        loop, name = asyncio.get_running_loop(), found[0].name
        if sys.version_info >= (3, 12):
            task = asyncio.Task(steps, loop=loop, name=name, eager_start=True)
        else:
            task = asyncio.Task(steps, loop=loop, name=name)
        if not task.done():
            self._tasks[message] = task

    async def _consume(self, delivery: Delivery, found: Found, message: Message) -> None:
        try:
            operations = await self._caller.acall(found, message)
        finally:
            self._tasks.pop(message, None)  # not there when it ended in its first step
        if self._is_copy:
            forks.end_copy()  # at once: even the loop's selector is shared with the parent
        self._running -= 1
        self._commits.finished.append(Result(delivery, operations, found[0].name))
        self._wake()

    async def _consume_for(self, job: _Job) -> None:
        try:
            operations = await self._caller.acall(job.found, job.message)
        finally:
            self._tasks.pop(job.message, None)
        if self._is_copy:
            forks.end_copy()
        result = Result(job.delivery, operations, job.found[0].name)
        results = self._returns.get(job.thread)
        if results is not None:
            results.append(result)
            return
        # The results of one step of the loop go back together.
        self._returns[job.thread] = [result]
        asyncio.get_running_loop().call_soon(self._give_back, job.thread)

    def _give_back(self, thread: ConsumerThread) -> None:
        thread.take_back(self._returns.pop(thread, ()))
        self._wake()
