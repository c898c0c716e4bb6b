"""The bus side: batches, order under refusal, and one bad message among good ones."""

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from busway.bus.codec import Kind
from busway.bus.errors import BuswayError, LayerUnavailable
from busway.bus.layer import ChannelLayer
from busway.bus.memory import MemoryChannelLayer
from busway.bus.operations import Delivery, Operation, Outcome, Send
from busway.interfaces.web.bus import Bus
from busway.interfaces.web.gateway import Gateway


class Sender:
    """Something that sends, and is patient."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.waiting: deque[Send] | None = None
        self.failed: list[BuswayError] = []
        self.was_drained = asyncio.Event()

    def message(self, number: int) -> Send:
        return Send("websocket.receive", {"reply_channel": self.name, "number": number})

    def refused(self, send: Send) -> bool:
        return True

    def impossible(self, send: Send, error: BuswayError) -> None:
        self.failed.append(error)

    def drained(self) -> None:
        self.was_drained.set()


@asynccontextmanager
async def running(
    layer: ChannelLayer, got: list[Delivery], *, limit: int = 500, budget: int = 20_000
) -> AsyncIterator[Bus]:
    def deliver(inbox: deque[Delivery], budget: int) -> None:
        while inbox and budget:
            budget -= 1
            got.append(inbox.popleft())

    bus = Bus(layer, ("p.x!",), deliver, lambda: None, lambda _: None, limit=limit, budget=budget)
    bus.start()
    try:
        yield bus
    finally:
        await bus.stop()
        layer.close()


async def drain(layer: ChannelLayer, count: int) -> list[tuple[str, int]]:
    found = []
    for _ in range(count):
        _, message = await layer.areceive(["websocket.receive"], timeout=10)
        assert message is not None
        found.append((message["reply_channel"], message["number"]))
    return found


async def test_a_tick_is_one_exchange_in_order() -> None:
    layer = MemoryChannelLayer()
    async with running(layer, []) as bus:
        sender = Sender("a")
        for number in range(10):
            bus.post(sender.message(number), sender)
        assert await drain(layer, 10) == [("a", number) for number in range(10)]


async def test_what_is_refused_waits_and_keeps_each_senders_order() -> None:
    layer = MemoryChannelLayer(capacity=5, lane_capacity=3)
    async with running(layer, []) as bus:
        senders = [Sender(name) for name in "abcdefgh"]
        for number in range(30):
            for sender in senders:
                bus.post(sender.message(number), sender)
            if number % 7 == 0:
                await bus.flushed()
        found = await drain(layer, 240)
        for sender in senders:
            assert [n for name, n in found if name == sender.name] == list(range(30))
            await asyncio.wait_for(sender.was_drained.wait(), 10)
        assert bus.idle


async def test_a_message_that_cannot_be_sent_harms_no_other() -> None:
    layer = MemoryChannelLayer(message_size=1000)
    async with running(layer, []) as bus:
        good, bad = Sender("good"), Sender("bad")
        bus.post(good.message(1), good)
        bus.post(Send("websocket.receive", {"reply_channel": "bad", "x": b"x" * 2000}), bad)
        bus.post(Send("not a name", {}), bad)
        bus.post(good.message(2), good)
        await bus.flushed()
        assert await drain(layer, 2) == [("good", 1), ("good", 2)]
        assert len(bad.failed) == 2
        assert not good.failed


async def test_deliveries_beyond_the_limit_and_the_budget_all_arrive() -> None:
    layer = MemoryChannelLayer(capacity=1000)
    got: list[Delivery] = []
    async with running(layer, got, limit=7, budget=3) as bus:
        for number in range(100):
            layer.send("p.x!y", {"number": number})
        for _ in range(100):
            await bus.flushed()
    assert [delivery.message["number"] for delivery in got] == list(range(100))


async def test_they_do_so_without_delay_where_exchanges_take_their_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer = MemoryChannelLayer(capacity=1000)
    got: list[Delivery] = []
    async with running(layer, got, limit=20, budget=1) as bus:
        exchange = bus._receiver.exchange

        async def aexchange(*args: Any, **options: Any) -> Outcome:
            for _ in range(30):
                await asyncio.sleep(0)
            return exchange(*args, **options)

        monkeypatch.setattr(bus._receiver, "blocks", True, raising=False)
        monkeypatch.setattr(bus._receiver, "aexchange", aexchange)
        for number in range(100):
            layer.send("p.x!y", {"number": number})
        async with asyncio.timeout(0.5):  # before the next look
            await got_all(got, 100)
    assert [delivery.message["number"] for delivery in got] == list(range(100))


async def test_what_comes_with_a_ring_is_handed_out_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer = MemoryChannelLayer()
    got: list[Delivery] = []
    letters = [_delivery(()), _delivery(())]
    under_way, gate = asyncio.Event(), asyncio.Event()
    async with running(layer, got) as bus:
        await bus.flushed()
        exchange = bus._receiver.exchange

        async def aexchange(*args: Any, **options: Any) -> Outcome:
            under_way.set()
            await gate.wait()
            return exchange(*args, **options)

        def handed(limit: int) -> Sequence[Delivery] | None:
            is_unsure = under_way.is_set() and not gate.is_set()
            return None if is_unsure else [letters.pop()] if letters else ()

        monkeypatch.setattr(bus._receiver, "blocks", True, raising=False)
        monkeypatch.setattr(bus._receiver, "aexchange", aexchange)
        monkeypatch.setattr(bus._receiver, "handed", handed)
        bus._woken()
        assert len(got) == 1
        bus.wake()
        await under_way.wait()
        bus._woken()
        assert len(got) == 1  # it may come with the exchange, too
        gate.set()
        async with asyncio.timeout(0.5):
            await got_all(got, 2)


async def got_all(got: Sequence[Delivery], count: int) -> None:
    while len(got) < count:  # noqa: ASYNC110  (it is what users see)
        await asyncio.sleep(0)


async def test_what_is_given_up_is_not_sent() -> None:
    layer = MemoryChannelLayer(capacity=1, lane_capacity=1)
    async with running(layer, []) as bus:
        sender = Sender("a")
        for number in range(10):
            bus.post(sender.message(number), sender)
        await bus.flushed()
        bus.abandon(sender)
        assert bus.idle
        bus.post(sender.message(99), sender)
        assert await drain(layer, 3) == [("a", 0), ("a", 1), ("a", 99)]


async def test_who_goes_away_as_its_turn_comes_stops_nobody_else() -> None:
    layer = MemoryChannelLayer(capacity=2, lane_capacity=1)
    async with running(layer, []) as bus:

        class Leaver(Sender):
            turns = 0

            def refused(self, send: Send) -> bool:
                if self.waiting is None and not self.turns:
                    return True  # it waits from now on
                self.turns += 1
                bus.abandon(self)
                return False

        others = [Sender(name) for name in "abcd"]
        leavers = [Leaver("x"), Leaver("y")]
        for sender in (*others[:2], *leavers, *others[2:]):
            for number in range(10):
                bus.post(sender.message(number), sender)
        found: dict[str, list[int]] = {sender.name: [] for sender in (*others, *leavers)}
        while any(len(found[sender.name]) < 10 for sender in others):
            for name, number in await drain(layer, 1):
                found[name].append(number)
        assert [found[sender.name] for sender in others] == [list(range(10))] * 4
        assert bus.idle
        assert all(leaver.turns for leaver in leavers)
        assert all(len(found[leaver.name]) < 10 for leaver in leavers)


async def test_what_is_sent_while_the_bus_is_out_of_reach_waits_for_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("busway.interfaces.web.bus._LOOK_INTERVAL", 0.01)
    layer = MemoryChannelLayer()
    async with running(layer, []) as bus:
        exchange = bus._receiver.exchange

        def fail(*_: Any, **__: Any) -> Outcome:
            raise LayerUnavailable("no bus")

        monkeypatch.setattr(bus._receiver, "exchange", fail)
        sender = Sender("a")
        for number in range(3):
            bus.post(sender.message(number), sender)
        await bus.flushed()
        assert len(sender.waiting or ()) == 3
        monkeypatch.setattr(bus._receiver, "exchange", exchange)
        assert await drain(layer, 3) == [("a", number) for number in range(3)]
    assert "no bus" in caplog.text
    assert "available again" in caplog.text


def test_a_gateway_hands_out_as_much_as_the_budget_allows() -> None:
    gateway = Gateway(MemoryChannelLayer())
    inbox = deque(_delivery(members) for members in ((), ("x!1", "x!2", "x!3"), (), ()))
    gateway._deliver(inbox, 3)
    assert len(inbox) == 2
    gateway._deliver(inbox, 1)
    assert len(inbox) == 1


def _delivery(members: tuple[str, ...]) -> Delivery:
    message = {"text": "hello"}
    return Delivery(0.0, Kind.MESSAGE, 1, "x!1", 0.0, message, members=members)


async def test_stopping_says_what_is_lost() -> None:
    layer = MemoryChannelLayer(capacity=1, lane_capacity=1)
    bus = Bus(layer, ("p.x!",), lambda *_: None, lambda: None, lambda _: None)
    bus.start()
    sender = Sender("a")
    for number in range(5):
        bus.post(sender.message(number), sender)
    assert await bus.stop() == 3
    layer.close()


@pytest.mark.parametrize(("count", "stays"), [(1, True), (20, False)])
async def test_the_loop_stays_awake_for_answers_to_few_messages(
    monkeypatch: pytest.MonkeyPatch, count: int, stays: bool
) -> None:
    layer = MemoryChannelLayer()
    offers: list[None] = []
    monkeypatch.setattr(os, "sched_yield", lambda: offers.append(None))
    async with running(layer, []) as bus:
        sender = Sender("a")
        bus.post(sender.message(0), sender)
        await bus.flushed()
        bus._woken()  # as by an answer that came soon
        for number in range(count):
            bus.post(sender.message(number), sender)
        await bus.flushed()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert bool(offers) is stays


async def test_of_many_that_wait_few_try_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = MemoryChannelLayer()
    tried = 0
    async with running(layer, []) as bus:
        exchange = bus._receiver.exchange

        def count(operations: Sequence[Operation], *rest: Any, **options: Any) -> Outcome:
            nonlocal tried
            tried += len(operations)
            return exchange(operations, *rest, **options)

        monkeypatch.setattr(bus._receiver, "exchange", count)
        senders = [Sender(str(number)) for number in range(1000)]
        for sender in senders:
            bus.post(sender.message(0), sender)
        await bus.flushed()
        worker = layer.receiver()
        found = tried = 0
        while found < 900:
            outcome = worker.exchange((), (), ["websocket.receive"], 30, hold=False)
            found += len(outcome.deliveries)
            await asyncio.sleep(0)  # the bell is heard
            await bus.flushed()
        assert tried < 2 * found
        worker.close()


async def test_what_is_sent_behind_others_is_not_even_tried() -> None:
    layer = MemoryChannelLayer(capacity=1)
    async with running(layer, []) as bus:
        first, second, third = Sender("a"), Sender("b"), Sender("c")
        bus.post(first.message(0), first)
        bus.post(second.message(0), second)
        await bus.flushed()
        refused = layer.statistics("websocket.receive").channel_full_count
        bus.post(third.message(0), third)
        bus.post(third.message(1), third)
        await bus.flushed()
        assert layer.statistics("websocket.receive").channel_full_count == refused
        found = await drain(layer, 4)
        assert found == [("a", 0), ("b", 0), ("c", 0), ("c", 1)]


async def test_all_that_waits_is_sent_at_once_when_there_is_room() -> None:
    layer = MemoryChannelLayer(capacity=1, lane_capacity=200)
    async with running(layer, []) as bus:
        others, sender = Sender("a"), Sender("b")
        bus.post(others.message(0), others)
        for number in range(150):
            bus.post(sender.message(number), sender)
        await bus.flushed()
        assert len(sender.waiting or ()) == 150
        await drain(layer, 1)
        await asyncio.wait_for(sender.was_drained.wait(), 0.5)  # before the next look


async def test_room_that_comes_while_an_exchange_is_under_way_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer = MemoryChannelLayer(capacity=1)
    async with running(layer, []) as bus:
        exchange = bus._receiver.exchange

        async def aexchange(*args: Any, **options: Any) -> Outcome:
            outcome = exchange(*args, **options)
            if outcome.refused:
                await drain(layer, 1)
                bus._woken()
            return outcome

        monkeypatch.setattr(bus._receiver, "blocks", True, raising=False)
        monkeypatch.setattr(bus._receiver, "aexchange", aexchange)
        first, second = Sender("a"), Sender("b")
        bus.post(first.message(0), first)
        bus.post(second.message(0), second)
        await asyncio.wait_for(second.was_drained.wait(), 0.5)  # before the next look


async def test_what_one_sends_last_stays_last_where_exchanges_take_their_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer = MemoryChannelLayer(
        policies={"websocket.*": {"ordering": "reply_channel", "capacity": 1}}
    )
    gate, under_way = asyncio.Event(), asyncio.Event()
    gate.set()
    async with running(layer, []) as bus:
        exchange = bus._receiver.exchange

        async def aexchange(*args: Any, **options: Any) -> Outcome:
            under_way.set()
            await gate.wait()
            return exchange(*args, **options)

        monkeypatch.setattr(bus._receiver, "blocks", True, raising=False)
        monkeypatch.setattr(bus._receiver, "aexchange", aexchange)
        gone, waits, quick, sender = map(Sender, ("gone", "waits", "quick", "sender"))
        for one in (gone, waits):  # the second finds no room: others stand behind it
            bus.post(Send("websocket.disconnect", {"reply_channel": one.name, "number": 0}), one)
        await bus.flushed()
        assert waits.waiting
        gate.clear()
        under_way.clear()
        bus.post(quick.message(1), quick)  # takes the room
        bus.post(sender.message(1), sender)
        await under_way.wait()
        bus.post(sender.message(2), sender)
        bus.post(Send("websocket.disconnect", {"reply_channel": "sender", "number": 3}), sender)
        gate.set()
        await bus.flushed()
        assert [send.message["number"] for send in sender.waiting or ()] == [1, 2, 3]


async def test_who_stops_makes_one_exchange_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = MemoryChannelLayer()
    under_way = most = 0
    begun, gate = asyncio.Event(), asyncio.Event()
    bus = Bus(layer, ("p.x!",), lambda *_: None, lambda: None, lambda _: None)
    bus.start()
    await bus.flushed()
    exchange = bus._receiver.exchange

    async def aexchange(*args: Any, **options: Any) -> Outcome:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        begun.set()
        await gate.wait()
        await asyncio.sleep(0)
        under_way -= 1
        return exchange(*args, **options)

    monkeypatch.setattr(bus._receiver, "blocks", True, raising=False)
    monkeypatch.setattr(bus._receiver, "aexchange", aexchange)
    sender = Sender("a")
    bus.post(sender.message(0), sender)
    await begun.wait()
    bus.post(sender.message(1), sender)
    gate.set()
    await bus.stop()
    assert most == 1
    assert await drain(layer, 2) == [("a", 0), ("a", 1)]
    layer.close()
