"""The worker: runs the consumers of a routing, in threads and on an event loop."""

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from types import FrameType

from busway.app.commits import Counts
from busway.app.consumer_thread import ConsumerThread
from busway.app.context import set_layer
from busway.app.event_loop import AsyncConsumers
from busway.app.guard import Guard
from busway.app.routing import Router
from busway.bus.errors import ConfigurationError
from busway.bus.layer import ChannelLayer

logger = logging.getLogger("busway.worker")


class Worker:
    """Consumes the messages of a router's channels.

    Sync consumers run in `threads` threads, the one that calls `run` among them. Async
    consumers run on an event loop: in that same thread if there are no others, else in one of
    its own. Messages are acknowledged when their consumers have ended, with what they sent.
    """

    def __init__(
        self,
        layer: ChannelLayer,
        router: Router,
        *,
        threads: int = 1,
        concurrency: int = 1000,
        only_channels: Sequence[str] = (),
        exclude_channels: Sequence[str] = (),
        ready: Callable[[], None] | None = None,
        idle: Callable[[], None] | None = None,
    ) -> None:
        """Prepare to run.

        Args:
            layer: where the messages come from. It stays open after `run`.
            router: finds the consumers; it does not change any more.
            threads: sync consumers that run at a time.
            concurrency: async consumers that run at a time (of each thread, where a channel
                has sync and async ones).
            only_channels: globs; other channels are left to other workers. Empty: all.
            exclude_channels: globs; such channels are left to other workers.
            ready: called once, when the worker is about to take its first message.
            idle: called in a consumer thread that has had nothing to do for some seconds, once
                each time: to let go of what is held for the next message.

        Raises `ConfigurationError` for values out of range, when no channel is left, and when
        a consumer relies on an order that the layer does not keep.
        """
        if threads < 1 or concurrency < 1:
            raise ConfigurationError(
                f"threads is {threads} and concurrency is {concurrency}; expected 1 or more"
            )
        self.channels = select_channels(router.channels, only_channels, exclude_channels)
        """The channels that this worker reads, sorted."""
        router.check_ordering(layer.policies)
        self._layer = layer
        self._router = router
        self._ready = ready
        self._idle = idle
        self._concurrency = concurrency
        self._thread_count = threads
        self._guard = Guard()
        self._threads: list[ConsumerThread] = []
        self._async: AsyncConsumers | None = None
        self._stopping = False
        self._error: BaseException | None = None

    def run(self) -> None:
        """Consume until `stop`, or SIGTERM or SIGINT when this is the main thread.

        Then what is running is finished, what was not begun goes back to the bus, and everything
        is committed. A second signal ends the process at once. A worker runs once.

        Raises `LayerUnavailable` when the layer is lost.
        """
        self._prepare()
        before = set_layer(self._layer)
        try:
            with self._signals():
                self._run()
        finally:
            set_layer(before)
            logger.info("stopped after %s", describe(self.statistics()))
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Let `run` end as after a SIGTERM. Safe from any thread and signal handler."""
        self._stopping = True
        for thread in self._threads:
            thread.stop()
        if self._async is not None:
            self._async.stop()

    def statistics(self) -> Counts:
        """Return what this worker has done so far."""
        total = Counts()
        parts: list[ConsumerThread | AsyncConsumers] = [*self._threads]
        if self._async is not None:
            parts.append(self._async)
        for part in parts:
            for field in Counts.__struct_fields__:
                setattr(total, field, getattr(total, field) + getattr(part.counts, field))
        return total

    def _prepare(self) -> None:
        """Decide who reads what. Channels with async consumers only need no thread."""
        targets = {channel: self._router.targets(channel) for channel in self.channels}
        alone = [c for c, found in targets.items() if found and all(t.is_async for t in found)]
        threaded = [channel for channel in self.channels if channel not in alone]
        mixed = any(
            targets[channel] is None or any(t.is_async for t in targets[channel] or ())
            for channel in threaded
        )
        if alone or mixed:
            self._async = AsyncConsumers(
                self._layer,
                self._router,
                alone,
                concurrency=self._concurrency,
                has_threads=bool(threaded),
            )
        if threaded:
            self._threads = [
                ConsumerThread(
                    self._layer,
                    self._router,
                    threaded,
                    takeover=self._async,
                    watch=self._guard.watch,
                    idle=self._idle,
                )
                for _ in range(self._thread_count)
            ]
        if self._stopping:
            self.stop()

    def _run(self) -> None:
        if not self._threads:
            self._end_all_on_error(self._announce)
            self._end_all_on_error(self._run_loop)
            return
        loop = threading.Thread(
            target=self._end_all_on_error, args=(self._run_loop,), name="busway-loop"
        )
        others = [
            threading.Thread(
                target=self._end_all_on_error, args=(thread.run,), name=f"busway-{number}"
            )
            for number, thread in enumerate(self._threads[1:], start=2)
        ]
        if self._async is not None:
            loop.start()
        for other in others:
            other.start()
        self._guard.start(self._threads)
        self._end_all_on_error(self._announce)
        self._end_all_on_error(self._threads[0].run)
        for other in others:
            other.join()
        if self._async is not None:
            self._async.release()
            loop.join()
        self._guard.close()

    def _run_loop(self) -> None:
        if self._async is None:
            return
        try:
            asyncio.run(self._async.run())
        finally:
            for thread in self._threads:
                thread.abandon()

    def _end_all_on_error(self, run: Callable[[], None]) -> None:
        """Run a part of the worker; an error of the machinery ends the others as well."""
        try:
            run()
        except BaseException as error:  # noqa: BLE001  (raised again by `run`)
            self._error = self._error or error
            self.stop()

    def _announce(self) -> None:
        logger.info("consuming %s", ", ".join(self.channels))
        if self._ready is not None:
            self._ready()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Let SIGTERM and SIGINT stop this worker, if this is the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def end(number: int, _frame: FrameType | None) -> None:
            for wanted in before:
                signal.signal(wanted, signal.SIG_DFL)
            self.stop()
            logger.info(
                "stopping on %s: finishing what is running; a second one ends it at once",
                signal.Signals(number).name,
            )

        before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def describe(counts: Counts) -> str:
    """Return words for what a worker has done: "5 message(s) consumed, 1 failed"."""
    others = [
        f", {number} {field}"
        for field in Counts.__struct_fields__
        if field != "consumed" and (number := getattr(counts, field))
    ]
    return f"{counts.consumed} message(s) consumed" + "".join(others)


def select_channels(
    channels: Sequence[str] | frozenset[str], only: Sequence[str], exclude: Sequence[str]
) -> list[str]:
    """Return the sorted names in `channels` that match a glob in `only` and none in `exclude`.

    An empty `only` matches all. Raises `ConfigurationError` when none is left.
    """
    selected = [
        name
        for name in sorted(channels)
        if (not only or any(fnmatchcase(name, glob) for glob in only))
        and not any(fnmatchcase(name, glob) for glob in exclude)
    ]
    if not selected:
        raise ConfigurationError(
            "no channel is left to consume: the routing has "
            f"{', '.join(sorted(channels)) or 'none'}, only_channels is {list(only)}, "
            f"exclude_channels is {list(exclude)}"
        )
    return selected
