"""The reader of two layers as one: what belongs to a machine, and what machines share."""

import asyncio
import selectors
import time
from collections.abc import Generator, Sequence
from operator import attrgetter
from typing import NamedTuple

from busway.bus import names
from busway.bus.codec import encode_message
from busway.bus.errors import LayerClosed, LayerUnavailable
from busway.bus.operations import (
    Delivery,
    GroupAdd,
    GroupDiscard,
    GroupSend,
    Leave,
    Operation,
    Outcome,
    Refusal,
    Return,
    Send,
)
from busway.bus.parcels import check_delay
from busway.bus.receiver import Receiver


class _Request(NamedTuple):
    """An exchange with one of the two layers."""

    remote: bool
    given: tuple[Sequence[Operation], Sequence[Delivery], Sequence[str], int]
    """Operations, done, channels, limit."""
    wake_below: int = 0


class LocalAndRemoteReceiver(Receiver):
    """A reader of two layers.

    The remote layer is asked first: it is the one that may be out of reach, and then nothing has
    been done. While the remote reader is registered and was not woken, it is not asked for
    messages, but when its patience ends.
    """

    def __init__(self, local: Receiver, remote: Receiver, limit: int) -> None:
        """Join readers of the two layers, closed with this one; `limit` is a message's bytes."""
        self._limit = limit
        self._local = local
        self._remote = remote
        self._from_remote: set[int] = set()
        """Ids of deliveries in hand that the remote layer gave."""
        self._owed: list[Delivery] = []
        """Those that are done, and the remote layer could not be told so."""
        self._asleep: tuple[str, ...] = ()
        """The channels for which the remote reader is registered, and was not woken since."""
        self._awake_at = 0.0
        """When it is asked even so, by `time.monotonic`."""
        self._was_rung = False
        """Whether it was woken since it was last asked: perhaps before its answer came."""
        self.blocks = self._local.blocks or self._remote.blocks
        self._closed = False
        self._selector = selectors.DefaultSelector()
        for part in (self._local, self._remote):
            self._selector.register(part.fileno(), selectors.EVENT_READ, part)

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
        """See `Receiver.exchange`; it is atomic on each of the two layers."""
        steps = self._exchange(operations, done, channels, limit, wake_below, hold)
        try:
            request = next(steps)
            while True:
                reader = self._remote if request.remote else self._local
                try:
                    outcome = reader.exchange(
                        *request.given, wake_below=request.wake_below, hold=hold
                    )
                except LayerUnavailable as error:
                    request = steps.throw(error)
                else:
                    request = steps.send(outcome)
        except StopIteration as end:
            return _outcome(end)

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
        """See `Receiver.aexchange`."""
        steps = self._exchange(operations, done, channels, limit, wake_below, hold)
        try:
            request = next(steps)
            while True:
                reader = self._remote if request.remote else self._local
                try:
                    outcome = await reader.aexchange(
                        *request.given, wake_below=request.wake_below, hold=hold
                    )
                except LayerUnavailable as error:
                    request = steps.throw(error)
                else:
                    request = steps.send(outcome)
        except StopIteration as end:
            return _outcome(end)

    def _exchange(
        self,
        operations: Sequence[Operation],
        done: Sequence[Delivery],
        channels: Sequence[str],
        limit: int,
        wake_below: int,
        hold: bool,
    ) -> Generator[_Request, Outcome, Outcome]:
        """Yield the exchanges to make; the outcome of them all is returned."""
        self._check_open()
        ours, theirs = self._split(operations)
        done_here, done_there = self._whose(done)
        here = [name for name in channels if "!" not in name]
        deliveries: list[Delivery] = []
        refused: list[Refusal] = []
        joined: Sequence[str] = ()

        if self._asleep and channels and self._is_awake():
            self._asleep = ()
        looks = bool(channels) and tuple(channels) != self._asleep
        acknowledges = bool(done_there) and not ours
        if theirs or looks or acknowledges:
            if ours:  # later, when something has been done, none of them may turn out to be wrong
                _check_all(operations, self._limit)
            share = (limit + 1) // 2 if here else limit
            wake = min(wake_below, share) if looks else wake_below
            if looks:
                self._was_rung = False
            outcome = yield _Request(
                True,
                (
                    [operations[index] for index in theirs],
                    done_there if acknowledges else (),
                    channels if looks else (),
                    share if looks else 0,
                ),
                wake,
            )
            refused += _placed(outcome.refused, theirs)
            deliveries += outcome.deliveries
            joined = outcome.joined
            if looks:
                asleep = len(outcome.deliveries) < wake and limit > 0 and not self._was_rung
                self._asleep = tuple(channels) if asleep else ()
                self._awake_at = time.monotonic() + self._remote.patience()
            if hold:
                self._from_remote.update(d.id for d in outcome.deliveries if d.place or d.lane)
            if acknowledges and not refused:
                self._forget(done_there)
        got = len(deliveries)
        if ours or done_here or here:
            outcome = yield _Request(
                False,
                (
                    [operations[index] for index in ours],
                    () if refused else done_here,
                    here,
                    limit - got if here else 0,
                ),
                max(0, wake_below - got),
            )
            refused += _placed(outcome.refused, ours)
            deliveries += outcome.deliveries
        if done_there and not acknowledges and not refused:
            yield from self._tell(done_there)
        returned = [each.delivery.id for each in operations if isinstance(each, Return)]
        self._from_remote.difference_update(returned)
        return Outcome(deliveries, sorted(refused, key=attrgetter("index")), joined)

    def _whose(self, done: Sequence[Delivery]) -> tuple[list[Delivery], list[Delivery]]:
        """Return what is done of the local layer's deliveries, and of the remote one's."""
        theirs = [each for each in done if each.id in self._from_remote]
        ours = [each for each in done if each.id not in self._from_remote]
        return ours, theirs + [each for each in self._owed if each not in theirs]

    def _tell(self, done: list[Delivery]) -> Generator[_Request, Outcome, None]:
        """Tell the remote layer what is done; it may be told later, for all else is done."""
        try:
            yield _Request(True, ((), done, (), 0))
        except LayerUnavailable:
            self._owed = done
        else:
            self._forget(done)

    def _forget(self, done: Sequence[Delivery]) -> None:
        self._from_remote.difference_update(each.id for each in done)
        self._owed = []

    def _split(self, operations: Sequence[Operation]) -> tuple[list[int], list[int]]:
        """Return the places of the local layer's operations, and those of the remote one's."""
        ours: list[int] = []
        theirs: list[int] = []
        for index, operation in enumerate(operations):
            match operation:
                case Send(channel):
                    remote = "!" in str(channel)
                case Return(delivery):
                    remote = delivery.id in self._from_remote
                case _:
                    remote = True
            (theirs if remote else ours).append(index)
        return ours, theirs

    def begin(self, delivery: Delivery) -> bool:
        """See `Receiver.begin`."""
        reader = self._remote if delivery.id in self._from_remote else self._local
        return reader.begin(delivery)

    async def abegin(self, delivery: Delivery) -> bool:
        """See `Receiver.abegin`."""
        reader = self._remote if delivery.id in self._from_remote else self._local
        return await reader.abegin(delivery)

    # -- waiting ------------------------------------------------------------------------

    def wait(self, timeout: float | None = None) -> bool:
        """See `Receiver.wait`."""
        self._check_open()
        patience = self.patience()
        in_time = timeout is None or timeout > patience
        rung = self._selector.select(patience if in_time else timeout)
        return self._note(rung) or in_time

    async def async_wait(self, timeout: float | None = None) -> bool:
        """See `Receiver.async_wait`."""
        self._check_open()
        patience = self.patience()
        in_time = timeout is None or timeout > patience
        loop, rung = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self.fileno(), rung.set)
        try:
            async with asyncio.timeout(patience if in_time else timeout):
                await rung.wait()
        except TimeoutError:
            pass
        finally:
            loop.remove_reader(self.fileno())
        return self._note(self._selector.select(0)) or in_time

    def _check_open(self) -> None:
        if self._closed:
            raise LayerClosed("receiver")

    def patience(self) -> float:
        """See `Receiver.patience`."""
        return min(self._local.patience(), self._remote.patience())

    def _is_awake(self) -> bool:
        """Say whether the remote reader was woken, though nobody has waited, or has to look."""
        if any(key.data is self._remote for key, _ in self._selector.select(0)):
            self._remote.drain()
            return True
        return time.monotonic() >= self._awake_at

    def _note(self, rung: Sequence[tuple[selectors.SelectorKey, int]]) -> bool:
        """Forget the bells that have rung; the remote reader looks again if it was its own."""
        for key, _ in rung:
            key.data.drain()
            if key.data is self._remote:
                self._asleep, self._was_rung = (), True
        return bool(rung)

    def interrupt(self) -> None:
        """See `Receiver.interrupt`."""
        self._local.interrupt()

    def fileno(self) -> int:
        """See `Receiver.fileno`."""
        return self._selector.fileno()

    def drain(self) -> None:
        """See `Receiver.drain`."""
        self._note(self._selector.select(0))

    def close(self) -> None:
        """See `Receiver.close`."""
        if self._closed:
            return
        self._closed = True
        self._selector.close()
        try:
            self._remote.close()
        finally:
            self._local.close()

    def abandon(self) -> None:
        """See `Receiver.abandon`."""
        self._closed = True
        self._selector.close()
        self._remote.abandon()
        self._local.abandon()


def _outcome(end: StopIteration) -> Outcome:
    outcome: Outcome = end.value
    return outcome


def _placed(refused: Sequence[Refusal], places: Sequence[int]) -> list[Refusal]:
    """Return refusals of one layer's operations with their places among all."""
    return [Refusal(places[each.index], each.operation, each.error) for each in refused]


def _check_all(operations: Sequence[Operation], limit: int) -> None:
    for operation in operations:
        _check(operation, limit)


def _check(operation: Operation, limit: int) -> None:
    match operation:
        case Send(channel, message, delay):
            names.check_channel(channel)
            check_delay(delay)
            encode_message(message, channel, limit, checked=operation.checked)
        case GroupSend(group, message):
            names.check_group(group)
            encode_message(message, group, limit, checked=operation.checked)
        case GroupAdd(group, channel) | GroupDiscard(group, channel):
            names.check_group(group)
            names.check_channel(channel)
        case Leave(channel):
            names.check_channel(channel)
