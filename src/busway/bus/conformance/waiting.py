"""Sleeping and waking: nobody sleeps while a message lies there, and nobody is woken for nothing.

One message wakes one sleeper. If that one does not take it, because it was cancelled, closed or
busy, another is woken: work is conserved.
"""

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from busway.bus.conformance.harness import (
    MOMENT,
    Bus,
    Reader,
    Task,
    Topic,
    eventually,
    promptly,
)
from busway.bus.conformance.peers import PATIENCE
from busway.bus.operations import GroupAdd, GroupSend, Send
from busway.bus.receiver import Receiver

SOURCES = [("normal", "normal"), ("single?x", "single?x"), ("proc.x!a", "proc.x!")]
"""Each kind of channel, and how it is received."""


class Sleeping(Topic):
    """One receiver goes to sleep and is woken."""

    def test_waiting_ends_when_the_time_is_up(self, bus: Bus) -> None:
        reader = bus.layer().reader()
        reader.listen("silent")
        start = time.monotonic()
        while reader.wait(MOMENT):
            assert time.monotonic() < start + PATIENCE, "woken without end"
        assert time.monotonic() - start >= MOMENT * 0.9

    def test_receiving_ends_when_the_time_is_up(self, bus: Bus) -> None:
        layer = bus.layer()
        start = time.monotonic()
        assert layer.receive("silent", timeout=MOMENT) == (None, None)
        assert MOMENT * 0.9 <= time.monotonic() - start < PATIENCE

    @pytest.mark.parametrize(("channel", "name"), SOURCES)
    def test_a_message_wakes_a_sleeping_receiver(self, bus: Bus, channel: str, name: str) -> None:
        layer = bus.layer()
        reader = layer.reader()
        reader.listen(name)
        task = Task(partial(reader.fetch, name))
        bus.layer().send(channel, {"n": 1})
        assert [each.channel for each in task.result()] == [channel]

    @pytest.mark.parametrize(("channel", "name"), SOURCES)
    def test_receive_returns_the_message_it_waited_for(
        self, bus: Bus, channel: str, name: str
    ) -> None:
        layer = bus.layer()
        with promptly():
            task = Task(lambda: layer.receive("other", name, timeout=PATIENCE))
            bus.layer().send(channel, {"n": 1})
            assert task.result() == (channel, {"n": 1})

    def test_a_message_between_exchange_and_wait_is_not_missed(self, bus: Bus) -> None:
        layer = bus.layer()
        reader = layer.reader()
        for n in range(50):
            reader.listen("work")
            layer.send("work", {"n": n})
            assert [each.message["n"] for each in reader.fetch("work")] == [n]

    def test_any_of_its_channels_wakes_a_receiver(self, bus: Bus) -> None:
        layer = bus.layer()
        reader = layer.reader()
        names = ["a", "b?x", "proc.x!"]
        for target in ("b?x", "proc.x!1", "a", "proc.x!2"):
            reader.listen(*names)
            layer.send(target, {})
            assert [each.channel for each in reader.fetch(*names)] == [target]

    def test_a_receiver_that_got_too_few_is_woken_by_the_next(self, bus: Bus) -> None:
        layer = bus.layer()
        reader = layer.reader()
        layer.send("work", {"n": 1})
        outcome = reader.exchange((), (), ["work"], 10, wake_below=10)
        assert len(outcome.deliveries) == 1
        layer.send("work", {"n": 2})
        assert [each.message["n"] for each in reader.fetch("work")] == [2]

    def test_a_receiver_sleeps_on_what_it_asked_for_last(self, bus: Bus) -> None:
        layer = bus.layer()
        reader, other = layer.reader(), layer.reader()
        reader.listen("first")
        reader.listen("second")
        other.listen("first")
        layer.send("first", {})
        assert len(other.fetch("first")) == 1
        layer.send("second", {})
        assert len(reader.fetch("second")) == 1

    def test_receivers_wake_again_and_again(self, bus: Bus) -> None:
        layer = bus.layer()
        other = bus.layer()
        with promptly():
            task = Task(lambda: [layer.next_message("ping", timeout=PATIENCE) for _ in range(20)])
            for n in range(20):
                other.send("ping", {"n": n})
                eventually(lambda: layer.statistics().messages_pending == 0, "it is taken")
            assert task.result() == [{"n": n} for n in range(20)]


class Interrupting(Topic):
    """Waking a receiver by hand, and from event loops."""

    def test_interrupt_wakes_a_waiting_receiver(self, bus: Bus) -> None:
        reader = bus.layer().reader()
        reader.listen("silent")
        with promptly():
            task = Task(lambda: reader.wait(None))
            reader.receiver.interrupt()
            assert task.result()

    def test_an_interrupt_before_the_wait_is_not_missed(self, bus: Bus) -> None:
        reader = bus.layer().reader()
        reader.listen("silent")
        reader.receiver.interrupt()
        reader.sleep()

    def test_interrupt_works_without_having_asked_to_be_woken(self, bus: Bus) -> None:
        reader = bus.layer().reader()
        with promptly():
            task = Task(lambda: reader.wait(None))
            reader.receiver.interrupt()
            assert task.result()

    def test_interrupt_works_from_a_signal_handler(self, one_bus: Bus) -> None:
        reader = one_bus.layer().reader()
        reader.listen("silent")
        with promptly(), alarm(MOMENT / 2, reader.receiver.interrupt):
            assert reader.wait(None)

    def test_the_descriptor_is_readable_once_woken_and_until_drained(self, bus: Bus) -> None:
        layer = bus.layer()
        reader = layer.reader()
        reader.receiver.drain()
        assert not reader.is_woken()
        for n in range(3):
            reader.listen("work")
            layer.send("work", {"n": n})
            eventually(reader.is_woken, "the descriptor is readable")
            reader.receiver.drain()
            assert not reader.is_woken()
            assert len(reader.take("work")) == 1

    def test_the_descriptor_tells_an_interrupt(self, bus: Bus) -> None:
        reader = bus.layer().reader()
        reader.receiver.interrupt()
        eventually(reader.is_woken, "the descriptor is readable")
        reader.receiver.drain()
        assert not reader.is_woken()

    def test_an_event_loop_can_watch_the_descriptor(self, one_bus: Bus) -> None:
        layer = one_bus.layer()

        async def watch(receiver: Receiver) -> list[int]:
            loop, enough = asyncio.get_running_loop(), asyncio.Event()
            found: list[int] = []

            def readable() -> None:
                receiver.drain()
                outcome = receiver.exchange((), (), ["work"], 10, wake_below=10, hold=False)
                found.extend(each.message["n"] for each in outcome.deliveries)
                if len(found) == 20:
                    enough.set()

            loop.add_reader(receiver.fileno(), readable)
            readable()
            for n in range(20):
                await layer.layer.asend("work", {"n": n})
                await asyncio.sleep(0)
            async with asyncio.timeout(PATIENCE):
                await enough.wait()
            loop.remove_reader(receiver.fileno())
            return found

        assert asyncio.run(watch(layer.reader().receiver)) == list(range(20))


@contextmanager
def alarm(seconds: float, handler: Callable[[], None]) -> Iterator[None]:
    """Call `handler` from a signal handler of the main thread in `seconds`."""
    before = signal.signal(signal.SIGALRM, lambda *_: handler())
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Conservation(Topic):
    """Several receivers asleep: enough are woken, and not all for one message."""

    def test_one_message_wakes_one_receiver(self, bus: Bus) -> None:
        layer = bus.layer()
        readers = [layer.reader() for _ in range(4)]
        for reader in readers:
            reader.listen("work")
        layer.send("work", {})
        eventually(lambda: any(map(Reader.is_woken, readers)), "one is woken")
        assert sum(map(Reader.is_woken, readers)) == 1

    def test_the_longest_sleeper_is_not_forgotten(self, bus: Bus) -> None:
        layer = bus.layer()
        readers = [layer.reader() for _ in range(3)]
        for reader in readers:
            reader.listen("work")
        woken = set()
        for _ in range(3):
            layer.send("work", {})
            eventually(lambda: any(map(Reader.is_woken, readers)), "one is woken")
            for place, reader in enumerate(readers):
                if reader.is_woken():
                    reader.receiver.drain()
                    assert len(reader.take("work")) == 1
                    woken.add(place)
        assert woken == {0, 1, 2}

    def test_every_message_of_a_batch_finds_a_sleeper(self, bus: Bus) -> None:
        layer = bus.layer()
        readers = [layer.reader() for _ in range(4)]
        for reader in readers:
            reader.listen("work")
        layer.reader().exchange([Send("work", {"n": n}) for n in range(4)])
        found = []
        for reader in readers:
            found += reader.fetch("work", limit=1)
        assert sorted(each.message["n"] for each in found) == [0, 1, 2, 3]

    def test_who_takes_less_than_there_is_wakes_another(self, bus: Bus) -> None:
        layer = bus.layer()
        first, second = layer.reader(), layer.reader()
        first.exchange([Send("work", {"n": n}) for n in range(5)])
        second.exchange((), (), ["elsewhere"], 1, wake_below=1)
        first.take("work")
        second.listen("work")
        layer.reader().exchange([Send("work", {"n": n}) for n in range(5)])
        first.take("work", limit=1)
        assert len(second.fetch("work")) == 4

    @pytest.mark.parametrize("leave", ["close", "take nothing", "listen elsewhere"])
    def test_a_woken_receiver_that_turns_away_wakes_another(self, bus: Bus, leave: str) -> None:
        layer = bus.layer()
        readers = [layer.reader() for _ in range(3)]
        for reader in readers:
            reader.listen("work")
        layer.send("work", {"n": 1})
        eventually(lambda: any(map(Reader.is_woken, readers)), "one is woken")
        first = next(filter(Reader.is_woken, readers))
        readers.remove(first)
        if leave == "close":
            first.close()
        elif leave == "take nothing":
            first.take("work", limit=0)
        else:
            first.listen("elsewhere")
        eventually(lambda: any(map(Reader.is_woken, readers)), "another is woken")
        second = next(filter(Reader.is_woken, readers))
        assert [each.message["n"] for each in second.take("work")] == [1]

    def test_a_woken_receiver_that_turns_away_wakes_one_that_listens_to_more(
        self, bus: Bus
    ) -> None:
        layer = bus.layer()
        first, second = layer.reader(), layer.reader()
        first.listen("work")
        second.listen("other", "work")
        layer.send("work", {"n": 1})
        eventually(lambda: first.is_woken() or second.is_woken(), "one is woken")
        for reader, another in ((first, second), (second, first)):
            if reader.is_woken() and not another.is_woken():
                reader.close()
                assert len(another.fetch("work")) == 1
                return
        pytest.fail("one of the two was to be woken")

    def test_a_receiver_that_takes_less_than_it_could_is_woken_for_the_rest(self, bus: Bus) -> None:
        layer = bus.layer()
        reader = layer.reader()
        reader.exchange([Send("work", {"n": n}) for n in range(3)])
        outcome = reader.exchange((), (), ["work"], 1, wake_below=5)
        assert len(outcome.deliveries) == 1
        assert len(reader.fetch("work")) == 2

    def test_a_sleeper_that_turns_away_unwoken_is_not_rung(self, bus: Bus) -> None:
        layer = bus.layer()
        first, second = layer.reader(), layer.reader()
        first.listen("work")
        second.listen("work")
        first.take("work", limit=0)
        layer.send("work", {"n": 1})
        assert len(second.fetch("work")) == 1

    def test_receivers_of_overlapping_channels_wake_for_what_they_share(self, bus: Bus) -> None:
        layer = bus.layer()
        both, one = layer.reader(), layer.reader()
        both.listen("a", "b")
        one.listen("a")
        layer.reader().exchange([Send("a", {}), Send("a", {})])
        assert len(both.fetch("a", "b", limit=1)) == 1
        assert len(one.fetch("a", limit=1)) == 1

    def test_a_receiver_woken_for_another_channel_leaves_no_message_lying(self, bus: Bus) -> None:
        layer = bus.layer()
        both, one = layer.reader(), layer.reader()
        both.listen("a", "b")
        one.listen("a")
        layer.send("b", {})
        layer.send("a", {})
        both.sleep()
        assert both.exchange((), (), ["b"], 1).deliveries != []
        assert len(one.fetch("a")) == 1

    def test_group_messages_wake_a_receiver_of_each_member(self, bus: Bus) -> None:
        layer = bus.layer()
        readers = {name: layer.reader() for name in ("plain", "one?x", "proc.x!", "proc.y!")}
        channels = ["plain", "one?x", "proc.x!a", "proc.x!b", "proc.y!a"]
        layer.reader().exchange([GroupAdd("group", channel) for channel in channels])
        for name, reader in readers.items():
            reader.listen(name)
        layer.reader().exchange([GroupSend("group", {})])
        for name, reader in readers.items():
            assert len(reader.fetch(name)) == 1


class Room(Topic):
    """A sender that was refused can sleep until there may be room."""

    @pytest.mark.parametrize(("channel", "name"), SOURCES)
    def test_a_refused_sender_wakes_when_there_is_room(
        self, bus: Bus, channel: str, name: str
    ) -> None:
        layer = bus.layer(capacity=2)
        sender = layer.reader()
        operations = [Send(channel, {"n": n}) for n in range(3)]
        refused = sender.exchange(operations, wake_below=1).refused
        assert [each.operation for each in refused] == operations[2:]
        task = Task(sender.sleep)
        assert layer.next_message(name) == {"n": 0}
        task.result()
        assert sender.exchange([operations[2]], wake_below=1).refused == []

    def test_a_refused_sender_still_wakes_for_messages(self, bus: Bus) -> None:
        layer = bus.layer(capacity=1)
        gateway = layer.reader()
        operations = [Send("full", {"n": n}) for n in range(2)]
        gateway.exchange(operations, (), ["proc.x!"], 1, wake_below=1)
        layer.send("proc.x!a", {"n": 3})
        assert len(gateway.fetch("proc.x!")) == 1

    def test_all_refused_senders_get_their_turn(self, bus: Bus) -> None:
        layer = bus.layer(capacity=1)
        layer.send("full", {"n": -1})

        def insist(n: int) -> None:
            sender = layer.reader()
            while sender.exchange([Send("full", {"n": n})], wake_below=1).refused:
                sender.sleep()

        with promptly():
            tasks = [Task(partial(insist, n)) for n in range(4)]
            found = [layer.next_message("full", timeout=PATIENCE)["n"] for _ in range(5)]
            for task in tasks:
                task.result()
        assert sorted(found) == [-1, 0, 1, 2, 3]
