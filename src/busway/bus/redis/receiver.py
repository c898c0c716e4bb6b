"""The reader of a Redis layer: connections to the shards, waiting, and the end."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

from busway.bus.codec import encode
from busway.bus.errors import BusError, LayerClosed, LayerUnavailable
from busway.bus.operations import Delivery, Operation, Outcome
from busway.bus.receiver import Receiver
from busway.bus.redis import packing
from busway.bus.redis.bell import Bell
from busway.bus.redis.books import Books
from busway.bus.redis.complaints import ServerError, is_passing
from busway.bus.redis.connections import LinkBroken
from busway.bus.redis.exchanges import Exchanges, Steps
from busway.bus.redis.links import Links, persist
from busway.bus.redis.scripts import script
from busway.bus.redis.seats import NOTHING, Call, Mark, Seat
from busway.bus.redis.wire import HELD

if TYPE_CHECKING:
    from busway.bus.redis.layer import RedisChannelLayer

T = TypeVar("T")

_LARGE = 64 * 1024
"""Bytes from which a server that does not read may hold up who sends them."""

LOOK_INTERVAL = 5.0
"""Seconds after which a receiver looks without having been woken: a connection may have died and
not said so."""


UNKNOWN = "UNKNOWN"
"""What an error begins with when a shard has thought the process dead."""


class RedisReceiver(Receiver):
    """A reader of a Redis layer."""

    blocks = True

    def __init__(self, layer: "RedisChannelLayer", name: str) -> None:
        """Make the reader `name` of `layer`."""
        self.name = name
        self._layer = layer
        self._bell = Bell()
        self._links = Links(layer.link)
        seats = [Seat(shard, layer, self._links, name) for shard in layer.parts]
        self._books = Books(layer, name, seats)
        self._exchanges = Exchanges(layer, self._books, self._bell.ring)
        self._closed = False

    @property
    def eager(self) -> bool:
        """See `Receiver.eager`."""
        return self._books.eager

    @eager.setter
    def eager(self, eager: bool) -> None:
        self._books.eager = eager

    # -- exchange -----------------------------------------------------------------------

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
        """See `Receiver.exchange`. It blocks for a round trip."""
        self._check_open()
        exchanges = self._exchanges
        outcome = self._at_hand(operations, done, channels, limit, wake_below, hold=hold)
        if outcome is not None:
            return outcome
        call = exchanges.begin(operations, done, channels, limit, wake_below, hold=hold)
        if call is None:
            steps = exchanges.steps(operations, done, channels, limit, wake_below, hold=hold)
            return self._drive(steps)
        return self._finish(call, self._ask(call))

    def _at_hand(
        self,
        operations: Sequence[Operation],
        done: Sequence[Delivery],
        channels: Sequence[str],
        limit: int,
        wake_below: int,
        *,
        hold: bool,
    ) -> Outcome | None:
        """Return the outcome of an exchange that needs no call: what it wants came with rings."""
        bell = self._bell
        if bell.letters and self._goes_on(channels, limit, hold=hold):
            # Before all else: of what a server hands over and then loses nobody else knows.
            self._exchanges.accept(bell.letters)
            if limit and not operations and not done:
                found = self._exchanges.at_hand(limit)
                if found:
                    order = self._books.seats[0].order
                    sleeps = (
                        order.credit >= limit // 2 if order.number else len(found) >= wake_below
                    )
                    self._look_again(not sleeps)
                    return Outcome(found, [], self._books.take_joined())
        if channels:
            bell.has_rung = False
        return None

    def _goes_on(self, channels: Sequence[str], limit: int, *, hold: bool) -> bool:
        """Say whether the receiver wants what it was handed; else an exchange gives it back."""
        if not channels:
            return True
        books = self._books
        is_held = books.seats[0].order.awaits == HELD
        return limit > 0 and is_held == hold and tuple(channels) == books.channels

    def handed(self, limit: int) -> Sequence[Delivery] | None:
        """See `Receiver.handed`."""
        bell, books = self._bell, self._books
        if not bell.letters:
            return ()
        if self._exchanges.is_unsettled:
            return None
        self._exchanges.accept(bell.letters)
        found = self._exchanges.at_hand(limit)
        if found:
            self._look_again(len(found) == limit or books.seats[0].order.credit < limit // 2)
        return found

    def _look_again(self, wanted: bool) -> None:
        """Wake this receiver if it is `wanted`, or if it was woken for more than it was handed."""
        if wanted or self._bell.has_rung:
            self._bell.ring()

    def _finish(self, call: Call, reply: Any) -> Outcome:
        """Do what is left of an exchange when its first call is done."""
        found = self._exchanges.end(call, reply)
        return found if isinstance(found, Outcome) else self._drive(found)

    def _drive(self, steps: Steps, replies: Sequence[Any] | None = None) -> Outcome:
        """Make the calls of `steps`, which `replies` let go on, or which are to begin."""
        try:
            calls = next(steps) if replies is None else steps.send(replies)
            while True:
                if not self._is_ready(calls):
                    self._ready(calls)
                calls = steps.send(self._run(calls))
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome

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
        """See `Receiver.aexchange`.

        When it is cancelled, what was taken goes back in front of the others.
        """
        self._check_open()
        exchanges = self._exchanges
        outcome = self._at_hand(operations, done, channels, limit, wake_below, hold=hold)
        if outcome is not None:
            return outcome
        call = exchanges.begin(operations, done, channels, limit, wake_below, hold=hold)
        if call is None:
            steps = exchanges.steps(operations, done, channels, limit, wake_below, hold=hold)
            return await self._adrive(steps)
        replies = await self._aask((call,), lambda replies: self._finish(call, replies[0]))
        found = exchanges.end(call, replies[0])
        return found if isinstance(found, Outcome) else await self._adrive(found)

    async def _adrive(self, steps: Steps) -> Outcome:
        """Do a `_drive` from async code."""
        try:
            calls = next(steps)
            while True:
                replies = await self._aask(calls, partial(self._drive, steps))
                calls = steps.send(replies)
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome

    async def _aask(
        self, calls: Sequence[Call], finish: Callable[[Sequence[Any]], Outcome]
    ) -> list[Any]:
        """Make calls; `finish` does with their replies what is left when it is cancelled."""
        if not self._is_ready(calls):
            await _in_thread(self._ready, calls)
        replies: list[Any] = []
        try:
            await self._arun(calls, replies)
        except asyncio.CancelledError:
            await _in_thread(self._undo, calls, replies, finish)
            raise
        return replies

    def _undo(
        self,
        calls: Sequence[Call],
        replies: list[Any],
        finish: Callable[[Sequence[Any]], Outcome],
    ) -> None:
        """Finish an exchange that nobody waits for any more, and put back what it took."""
        try:
            replies += [self._receive(call) for call in calls[len(replies) :]]
            self._ask_again(calls, replies)
            self._exchanges.doubt = ()
            taken = finish(replies).deliveries
        except BusError:
            return
        self._give_back(taken)

    def _give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Put back what was taken for somebody who is gone: if not now, with the next exchange."""
        if self._books.seats[0].order.awaits > 0:
            # Of its own prefix; newer messages may have been handed over meanwhile.
            self._exchanges.keep(deliveries)
            self._bell.ring()
            return
        held = {each.place: each for each in deliveries if each.place}
        self._books.given_up.update(held)
        with suppress(BusError):
            self._restore(deliveries)
            if held:
                self.exchange()

    def _restore(self, deliveries: Sequence[Delivery]) -> None:
        """Put back what is not held. Raises `LayerUnavailable`."""
        calls = []
        for seat in self._books.seats:
            mine = [
                each
                for each in deliveries
                if not each.place and self._books.home(each) == seat.shard.number
            ]
            if mine:
                batch = packing.restored(mine, map(self._layer.repack, mine))
                calls.append(self._books.call(seat, NOTHING, batch))
                calls[-1].request.full = True  # it was there before
        if calls:
            self._run(calls)

    # -- calls ------------------------------------------------------------------------

    def _is_ready(self, calls: Sequence[Call]) -> bool:
        """Say whether all connections are there that `calls` need."""
        for call in calls:
            seat = call.seat
            if not seat.link.is_connected:
                return False
            if call.request.wake_below and not self._bell.listens(seat.shard.server, seat.bell):
                return False
        return True

    def _ready(self, calls: Sequence[Call]) -> None:
        """See to it that they are there. Raises `LayerUnavailable`."""
        for call in calls:
            shard = call.seat.shard
            server = shard.server
            try:
                self._connect(call)
            except LayerUnavailable:
                shard.look_again()
                if shard.server is server:
                    raise
                self._connect(call)

    def _connect(self, call: Call) -> None:
        self._meet(call)
        server, name = call.seat.shard.server, call.seat.bell
        if call.request.wake_below and not self._bell.listens(server, name):
            # Before it is registered: nobody rings a bell that is not heard.
            self._bell.listen(server, name)

    def _meet(self, call: Call) -> None:
        """Connect; a server that turns out to have lost its data is told who asks."""
        seat = call.seat
        seat.link.connect()
        if seat.epoch != self._layer.epoch(seat.shard):
            call.request.over += call.request.came
            call.request.came = 0
            if call.asked.limit:
                call.request.process = self._layer.process

    def _run(self, calls: Sequence[Call]) -> list[Any]:
        self._exchanges.doubt = calls
        self._send(calls)
        replies = [self._receive(call) for call in calls]
        self._ask_again(calls, replies)
        self._exchanges.doubt = ()
        return replies

    def _ask(self, call: Call) -> Any:
        """Make a call; returns the reply, or the error that came instead."""
        calls = (call,)
        if not self._is_ready(calls):
            self._ready(calls)
        self._exchanges.doubt = calls
        try:
            call.seat.send(call)
            reply = call.answering.receive()
        except (ServerError, LinkBroken) as error:
            reply = self._asked_again(call, error)
        self._exchanges.doubt = ()
        return reply

    def _send(self, calls: Sequence[Call]) -> None:
        for call in calls:
            with suppress(LayerUnavailable):  # noticed when the reply is to be received
                call.seat.send(call)

    def _receive(self, call: Call) -> Any:
        """Return the reply to a call, or the error that came instead."""
        try:
            return call.answering.receive()
        except (ServerError, LinkBroken) as error:
            return error

    async def _arun(self, calls: Sequence[Call], replies: list[Any]) -> None:
        """Do a `_run` from async code; the replies so far are in `replies` when cancelled."""
        self._exchanges.doubt = calls
        if _size(calls) < _LARGE:
            self._send(calls)
        else:
            await _in_thread(self._send, calls)
        failed = False
        for call in calls:
            try:
                replies.append(await call.answering.areceive())
            except (ServerError, LinkBroken) as error:
                replies.append(error)
                failed = True
        if failed:
            await _in_thread(self._ask_again, calls, replies)
        self._exchanges.doubt = ()

    def _ask_again(self, calls: Sequence[Call], replies: list[Any]) -> None:
        """Replace errors that end by themselves with what comes when asked again.

        Only when all replies are there: several calls may share a connection.
        """
        for place, (call, reply) in enumerate(zip(calls, replies, strict=True)):
            if isinstance(reply, Exception):
                replies[place] = self._asked_again(call, reply)

    def _asked_again(self, call: Call, error: Exception) -> Any:
        if not isinstance(error, ServerError):
            return self._insist(call)
        text = str(error)
        is_full = text.startswith("OOM") and call.batch is None and not call.request.full
        if is_full:
            call.request.full = True  # what is taken makes room
        if is_full or text.startswith(("NOSCRIPT", UNKNOWN)) or is_passing(error):
            return self._insist(call)
        return error

    def _insist(self, call: Call) -> Any:
        """Ask again what may have been done or not, on new connections."""
        call.request.again = True
        try:
            return persist(call.seat.shard, lambda: self._run_known(call))
        except ServerError as error:
            return error

    def _run_known(self, call: Call) -> Any:
        """Run a call, and once more when the shard has to be told who asks."""
        self._meet(call)
        try:
            return call.seat.run(call)
        except ServerError as error:
            if not str(error).startswith(UNKNOWN):
                raise
        self._layer.revive(call.life)
        call.life = self._layer.life
        call.request.process = self._layer.process
        call.seat.order.forget()
        call.request.came = 0
        return call.seat.run(call)

    # -- begun ------------------------------------------------------------------------

    def begin(self, delivery: Delivery) -> bool:
        """See `Receiver.begin`.

        It blocks for a round trip, but for what the shard has already marked as begun: for quick
        consumers one mark takes many messages along, and most take theirs with the exchange. So
        what is begun here goes to nobody else, however long this process is cut off from then on;
        what is marked and not begun is lost with it, if it dies. When it takes too long, the
        delivery goes back later, and all that come after it.
        """
        found = self._books.begin(delivery)
        return self._ask_to_begin(delivery) if found is None else found

    async def abegin(self, delivery: Delivery) -> bool:
        """See `Receiver.abegin`."""
        found = self._books.begin(delivery)
        return await _in_thread(self._ask_to_begin, delivery) if found is None else found

    def _ask_to_begin(self, delivery: Delivery) -> bool:
        books = self._books
        found = None
        if not books.still_given_up():
            start = time.monotonic()
            for mark in books.marks(delivery.place):
                self._mark(mark)
            books.pace.leave_out(time.monotonic() - start)
            found = books.begin(delivery)
        if found is None:
            books.given_up[delivery.place] = delivery
        return bool(found)

    def _mark(self, mark: Mark) -> None:
        """Have a shard mark what is begun; returns when it has, or does not answer."""
        firsts = (str(bundle.first).encode() for bundle in mark.bundles)
        arguments = (self.name.encode(), str(mark.place).encode(), *firsts)
        with suppress(LayerUnavailable, ServerError):
            missing = self._links.run(script("mark"), mark.seat.shard, *arguments)
            self._books.mark(mark, missing)

    # -- waiting ----------------------------------------------------------------------

    def wait(self, timeout: float | None = None) -> bool:
        """See `Receiver.wait`."""
        self._check_open()
        patience = self.patience()
        if timeout is not None and timeout <= patience:
            return self._bell.wait(max(0.0, timeout))
        self._bell.wait(patience)
        return True

    async def async_wait(self, timeout: float | None = None) -> bool:
        """See `Receiver.async_wait`."""
        self._check_open()
        patience = self.patience()
        if timeout is not None and timeout <= patience:
            return await self._bell.async_wait(max(0.0, timeout))
        await self._bell.async_wait(patience)
        return True

    def _check_open(self) -> None:
        if self._closed:
            raise LayerClosed("receiver")
        if self._layer.is_closed:
            raise LayerClosed("channel layer")

    def patience(self) -> float:
        """See `Receiver.patience`."""
        now = self._layer.now
        waits = (seat.due - now(seat.shard) for seat in self._books.seats if seat.due)
        return max(0.0, min(min(waits, default=inf) + 0.001, LOOK_INTERVAL))

    def interrupt(self) -> None:
        """See `Receiver.interrupt`."""
        self._bell.ring()

    def fileno(self) -> int:
        """See `Receiver.fileno`."""
        return self._bell.fileno()

    def drain(self) -> None:
        """See `Receiver.drain`."""
        self._bell.drain()

    # -- the end ----------------------------------------------------------------------

    def abandon(self) -> None:
        """Close a forked child's copy, and leave the parent's as it is."""
        self._closed = True
        self._release()

    def close(self) -> None:
        """See `Receiver.close`."""
        if self._closed:
            return
        self._closed = True
        try:
            if not self._layer.is_closed:
                with suppress(BusError):
                    leftover = self._leftover()
                    if leftover and self._books.seats[0].order.number:
                        # They go back in front of what was handed over, which so goes back first.
                        self._drive(
                            self._exchanges.steps((), (), self._books.channels, 0, 0, hold=False)
                        )
                    self._restore(leftover)
                for seat in self._books.seats:
                    if seat.life or seat.subscription:
                        self._leave(seat)
        finally:
            self._release()

    def _leftover(self) -> list[Delivery]:
        """Return what was taken for nobody; each shard is asked once."""
        steps = self._exchanges.leftover()
        try:
            calls = next(steps)
            while True:
                replies = []
                for call in calls:
                    try:
                        replies.append(call.seat.run(call))
                    except ServerError as error:
                        replies.append(error)
                    except LayerUnavailable as error:
                        replies.append(ServerError(str(error)))
                self._exchanges.doubt = ()
                calls = steps.send(replies)
        except StopIteration as end:
            found: list[Delivery] = end.value
            return found

    def _leave(self, seat: Seat) -> None:
        arguments = (
            self._layer.process.encode(),
            self.name.encode(),
            str(self._books.held.begun).encode(),
            seat.subscription.encode(),
            encode(seat.channels),
            str(max(seat.order.awaits, 1)).encode(),
            str(seat.order.pending()).encode(),
        )
        for _ in range(2):  # the connection may have ended since
            with suppress(BusError, ServerError):
                seat.link.run(script("leave"), seat.shard.key, *arguments)
                break

    def _release(self) -> None:
        self._links.close()
        self._bell.close()


def _size(calls: Sequence[Call]) -> int:
    return sum(len(data) for call in calls for data in call.arguments)


async def _in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Call what blocks in a thread. When cancelled, its end is awaited first."""
    future = asyncio.get_running_loop().run_in_executor(None, function, *arguments)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([future])
        if not future.cancelled():
            future.exception()  # nobody else asks for it
        raise
