"""Messages that flow while a server is troubled: what was sent, what came, and who still works."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import count
from secrets import token_hex
from types import TracebackType
from typing import Any, Self

from busway.bus.conformance.harness import Task
from busway.bus.errors import BusError
from busway.bus.operations import Send
from busway.bus.redis import RedisChannelLayer
from servers.starting import until

CHANNEL = "work"

CONNECTIONS = 14
"""What a `Traffic` may have: each receiver two, each layer that receives one for its heart."""


class Party:
    """A writer or a worker: a layer of its own, and a thread that ends only when told to."""

    def __init__(self, layer: RedisChannelLayer, stop: threading.Event) -> None:
        self.layer = layer
        self.stop = stop
        self.ids: list[str] = []
        """Of the messages that it has sent, or handled."""
        self.task = Task(self.run)

    def run(self) -> None:
        """Work until told to stop, whatever the bus says."""
        raise NotImplementedError

    def pause(self) -> None:
        """Let a moment pass after an error."""
        self.stop.wait(0.02)


class Writer(Party):
    """Sends numbered messages one by one; what failed is given again."""

    def run(self) -> None:
        """See `Party`."""
        name = token_hex(4)
        receiver = self.layer.receiver()
        for n in count():
            send = Send(CHANNEL, {"id": f"{name}.{n}"})
            is_refused = True
            while is_refused:
                if self.stop.is_set():
                    return receiver.close()
                try:
                    is_refused = bool(receiver.exchange([send], wake_below=1).refused)
                    if is_refused:
                        receiver.wait(0.1)
                except BusError:
                    self.pause()
            self.ids.append(send.message["id"])
            self.stop.wait(0.001)
        return None


class Worker(Party):
    """Takes messages as a worker does: holds them, begins each, and says what is done."""

    def run(self) -> None:
        """See `Party`."""
        receiver = self.layer.receiver()
        done: list[Any] = []
        while not (self.stop.is_set() and not done):
            limit = 0 if self.stop.is_set() else 10
            try:
                found = receiver.exchange((), done, [CHANNEL], limit, wake_below=1).deliveries
            except BusError:
                self.pause()
                continue
            done = [each for each in found if receiver.begin(each)]
            self.ids += [each.message["id"] for each in done]
            if not found:
                receiver.wait(0.5)
        receiver.close()


class AsyncWorker(Party):
    """The same on an event loop, that sleeps until its descriptor says that it was woken."""

    def run(self) -> None:
        """See `Party`."""
        asyncio.run(self.work())

    async def work(self) -> None:
        """Take messages that count as handled when they come, as an interface server does."""
        receiver = self.layer.receiver()
        while not self.stop.is_set():
            try:
                outcome = await receiver.aexchange((), (), [CHANNEL], 10, wake_below=10, hold=False)
            except BusError:
                await asyncio.sleep(0.02)
                continue
            self.ids += [each.message["id"] for each in outcome.deliveries]
            if len(outcome.deliveries) < 10:
                await receiver.async_wait(0.5)
        receiver.close()


class Traffic:
    """Two writers and three workers, from `with` to its end."""

    def __init__(self, url: str, **options: Any) -> None:
        """Let them use the bus at `url`."""
        options = {**RedisChannelLayer.url_options(url), **options}
        self._make: Callable[[], RedisChannelLayer] = partial(RedisChannelLayer, **options)
        self._stack = ExitStack()
        self._stop = threading.Event()
        self._stop_writing = threading.Event()
        self.writers: list[Party] = []
        self.workers: list[Party] = []

    def __enter__(self) -> Self:
        self.layer = self._layer()
        self.writers = [Writer(self._layer(), self._stop_writing) for _ in range(2)]
        self.workers = [Worker(self._layer(), self._stop) for _ in range(2)]
        self.workers.append(AsyncWorker(self._layer(), self._stop))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop_writing.set()
        self._stop.set()
        for party in (*self.writers, *self.workers):
            party.task.join(30)
        self._stack.close()

    def goes_on(self, messages: int = 30) -> None:
        """Wait until everybody has sent or handled some more messages than now."""
        goals = [(party, len(party.ids) + messages) for party in (*self.writers, *self.workers)]
        until(lambda: all(len(party.ids) >= goal for party, goal in goals), "everybody goes on")

    def end(self, *, wait: bool = True) -> None:
        """Stop writing, and `wait` until nothing is left; raises what a thread has raised."""
        self._stop_writing.set()
        for writer in self.writers:
            writer.task.result()
        if wait:
            until(self._is_empty, "all is handled")
        self._stop.set()
        for worker in self.workers:
            worker.task.result()

    def _is_empty(self) -> bool:
        try:
            return self.layer.statistics().messages_pending == 0
        except BusError:
            return False

    @property
    def lost(self) -> set[str]:
        """What was sent and not handled."""
        sent = {each for writer in self.writers for each in writer.ids}
        return sent - {each for worker in self.workers for each in worker.ids}

    @property
    def doubled(self) -> list[str]:
        """What was handled more than once."""
        handled = Counter(each for worker in self.workers for each in worker.ids)
        return [each for each, times in handled.items() if times > 1]

    def _layer(self) -> RedisChannelLayer:
        layer = self._make()
        self._stack.callback(layer.close)
        return layer
