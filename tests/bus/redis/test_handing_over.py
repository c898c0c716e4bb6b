"""Messages that come along with the ring, and what becomes of those that do not."""

import asyncio
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any
from unittest.mock import Mock

import pytest

from busway.bus.conformance.harness import PROMPT, eventually
from busway.bus.conformance.peers import PATIENCE
from busway.bus.errors import LayerUnavailable
from busway.bus.operations import Delivery, GroupAdd, Return, Send
from busway.bus.receiver import Receiver
from busway.bus.redis import RedisChannelLayer
from busway.bus.redis.bell import Bell
from busway.bus.redis.connections import LinkBroken
from busway.bus.redis.receiver import RedisReceiver
from busway.bus.redis.seats import Call
from busway.bus.redis.wire import ORDER
from servers.redis import RedisServer

P = "busway:{0}:"
OWN = "proc.x!a"
PREFIX = ("proc.x!",)
KINDS = ["work", OWN]
"""A channel whose messages are held, and one whose messages are done on delivery."""


@pytest.fixture
def other(server: RedisServer) -> Iterator[RedisChannelLayer]:
    """Return a layer like `layer`, as another process has it."""
    other = RedisChannelLayer(server.url)
    yield other
    other.close()


@pytest.fixture
def reader(layer: RedisChannelLayer) -> Iterator[RedisReceiver]:
    """Return an eager receiver."""
    reader = layer.receiver()
    assert isinstance(reader, RedisReceiver)
    reader.eager = True
    yield reader
    reader.close()


def ask(reader: Receiver, name: str, done: Sequence[Delivery] = ()) -> list[Delivery]:
    """Exchange as workers and interface servers do: for all there is, or else asleep."""
    if name == OWN:
        return reader.exchange((), (), PREFIX, 8, wake_below=8, hold=False).deliveries
    return reader.exchange((), done, (name,), 8, wake_below=1).deliveries


def await_ring(reader: Receiver) -> None:
    """Wait until the receiver was woken, and take note of that."""
    assert select.select([reader.fileno()], [], [], PROMPT)[0], "nobody woke the receiver"
    reader.drain()


def numbers(deliveries: Sequence[Delivery]) -> list[int]:
    return [each.message["n"] for each in deliveries]


def exchanges(server: RedisServer) -> int:
    """Return how many scripts the server has run."""
    found = str(server.call("INFO", "commandstats"))
    _, _, counts = found.partition("cmdstat_evalsha")
    return int(counts.partition("calls': ")[2].partition(",")[0])


@pytest.mark.parametrize("name", KINDS)
def test_a_handed_message_needs_no_exchange(
    server: RedisServer, other: RedisChannelLayer, reader: RedisReceiver, name: str
) -> None:
    assert ask(reader, name) == []
    other.send(name, {"n": 1})
    await_ring(reader)
    before = exchanges(server)
    found = ask(reader, name)
    assert numbers(found) == [1]
    assert exchanges(server) == before
    assert other.statistics().messages_pending == 0
    assert all(map(reader.begin, found))
    assert ask(reader, name, found) == []


@pytest.mark.parametrize("name", KINDS)
def test_who_is_not_eager_is_only_woken(
    server: RedisServer,
    layer: RedisChannelLayer,
    other: RedisChannelLayer,
    name: str,
) -> None:
    with layer.receiver() as reader:
        assert ask(reader, name) == []
        other.send(name, {"n": 1})
        await_ring(reader)
        assert other.statistics().messages_pending == 1
        before = exchanges(server)
        assert numbers(ask(reader, name)) == [1]
        assert exchanges(server) == before + 1


def test_a_prefix_is_handed_its_messages_until_the_credit_is_used_up(
    other: RedisChannelLayer, reader: RedisReceiver
) -> None:
    assert ask(reader, OWN) == []
    for n in range(20):
        other.send(OWN, {"n": n})
    assert other.statistics().messages_pending == 12
    await_ring(reader)
    found: list[Delivery] = []
    while more := ask(reader, OWN):
        found += more
    assert numbers(found) == list(range(20))
    other.send(OWN, {"n": 20})
    while not (more := ask(reader, OWN)):
        await_ring(reader)
    assert numbers(more) == [20]


def test_what_is_too_large_for_the_credit_waits_in_the_queue(
    other: RedisChannelLayer, reader: RedisReceiver
) -> None:
    assert ask(reader, OWN) == []
    other.send(OWN, {"n": 0, "text": "x" * 100_000})
    assert other.statistics().messages_pending == 1
    await_ring(reader)
    assert numbers(ask(reader, OWN)) == [0]


@pytest.mark.parametrize("name", KINDS)
def test_what_is_lost_on_the_way_comes_with_the_next_exchange(
    other: RedisChannelLayer, reader: RedisReceiver, name: str
) -> None:
    for n in range(3):
        assert ask(reader, name) == []
        other.send(name, {"n": n})
        await_ring(reader)
        reader._bell.letters.clear()
        found = ask(reader, name)
        assert numbers(found) == [n]
        assert all(map(reader.begin, found))
        if name != OWN:
            reader.exchange((), found)
    assert ask(reader, name) == []
    assert other.statistics().messages_pending == 0


def test_what_comes_behind_a_lost_one_waits_for_it(
    other: RedisChannelLayer, reader: RedisReceiver
) -> None:
    assert ask(reader, OWN) == []
    for n in range(3):
        other.send(OWN, {"n": n})
    while len(reader._bell.letters) < 3:
        await_ring(reader)
    del reader._bell.letters[1]
    found = list(reader.handed(8) or ())
    assert numbers(found) == [0]
    await_ring(reader)
    assert not reader.handed(8)
    assert numbers(ask(reader, OWN)) == [1, 2]


@pytest.mark.parametrize("name", KINDS)
def test_where_nobody_hears_the_ring_nothing_is_handed_over(
    server: RedisServer, other: RedisChannelLayer, reader: RedisReceiver, name: str
) -> None:
    assert ask(reader, name) == []
    server.call("CLIENT", "KILL", "TYPE", "pubsub")
    other.send(name, {"n": 1})
    assert other.statistics().messages_pending == 1
    await_ring(reader)
    assert numbers(ask(reader, name)) == [1]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("turn", ["nothing", "elsewhere", "close"])
def test_who_turns_away_gives_back_what_was_handed_over(
    layer: RedisChannelLayer, other: RedisChannelLayer, reader: RedisReceiver, name: str, turn: str
) -> None:
    assert ask(reader, name) == []
    other.exchange([Send(name, {"n": n}) for n in range(3)])
    with layer.receiver() as second:
        assert ask(second, name) == []
        if turn == "nothing":
            reader.exchange((), (), PREFIX if name == OWN else (name,))
        elif turn == "elsewhere":
            assert ask(reader, "elsewhere") == []
        else:
            reader.close()
        await_ring(second)
        assert numbers(ask(second, name)) == [0, 1, 2]
        assert other.statistics().messages_pending == 0


def test_what_others_have_got_is_not_taken_from_the_letter(
    layer: RedisChannelLayer, other: RedisChannelLayer, reader: RedisReceiver
) -> None:
    assert ask(reader, "work") == []
    other.send("work", {"n": 1})
    await_ring(reader)  # the letter is here
    reader.exchange((), (), ("work",))
    assert layer.receive(["work"]) == ("work", {"n": 1})
    assert ask(reader, "work") == []


def test_who_wants_less_than_it_was_handed_gets_that(
    layer: RedisChannelLayer, other: RedisChannelLayer, reader: RedisReceiver
) -> None:
    assert ask(reader, "work") == []
    other.exchange([Send("work", {"n": n}) for n in range(4)])
    first = reader.exchange([Send("more", {})], (), ("work",), 1, wake_below=1).deliveries
    assert numbers(first) == [0]
    assert numbers(ask(reader, "work")) == [1, 2, 3]
    assert layer.receive(["more"]) == ("more", {})


def test_what_was_handed_over_can_be_given_back(
    layer: RedisChannelLayer, other: RedisChannelLayer, reader: RedisReceiver
) -> None:
    assert ask(reader, "work") == []
    other.exchange([Send("work", {"n": n}) for n in range(3)])
    await_ring(reader)
    first, second, third = ask(reader, "work")
    reader.exchange([Return(second), Return(third)], [first])
    assert numbers(layer.exchange((), ["work"], 9).deliveries) == [1, 2]


def test_what_was_handed_to_who_died_goes_to_others(
    layer: RedisChannelLayer, other: RedisChannelLayer, reader: RedisReceiver
) -> None:
    assert ask(reader, "work") == []
    other.exchange([Send("work", {"n": n}) for n in range(3)])
    other._ask("leave", layer.process.encode(), b"", b"", b"", b"")
    assert numbers(other.exchange((), ["work"], 9).deliveries) == [0, 1, 2]


@pytest.mark.parametrize("age", [0.0, 1.2])
def test_who_was_not_heard_of_for_a_second_has_to_ask_before_it_begins(
    server: RedisServer, other: RedisChannelLayer, reader: RedisReceiver, age: float
) -> None:
    reader._books.pace.reach = 8
    assert ask(reader, "work") == []
    time.sleep(age)
    other.send("work", {"n": 1})
    marked = server.call("HGET", f"{P}h:{reader.name}", "b")
    assert marked == (None if age else b"1")
    await_ring(reader)
    (delivery,) = ask(reader, "work")
    assert reader.begin(delivery)
    assert server.call("HGET", f"{P}h:{reader.name}", "b") is not None


def test_a_sender_that_was_refused_is_woken_when_the_rest_was_handed_over(
    server: RedisServer,
) -> None:
    layer = RedisChannelLayer(server.url, capacity=2)
    sender, reader = layer.receiver(), layer.receiver()
    reader.eager = True
    assert ask(reader, "work") == []
    refused = sender.exchange([Send("work", {"n": n}) for n in range(5)], wake_below=1).refused
    assert len(refused) == 3
    await_ring(sender)
    assert not sender.exchange([each.operation for each in refused[:2]], wake_below=1).refused
    await_ring(reader)
    assert numbers(ask(reader, "work")) == [0, 1]
    reader.close()
    sender.close()
    layer.close()


def test_a_flush_forgets_what_was_handed_over(
    other: RedisChannelLayer, reader: RedisReceiver
) -> None:
    assert ask(reader, OWN) == []
    other.send(OWN, {"n": 1})
    await_ring(reader)
    reader._bell.letters.clear()
    other.flush()
    other.send(OWN, {"n": 2})
    await_ring(reader)
    assert numbers(ask(reader, OWN)) == [2]


def test_nothing_is_left_of_it(
    server: RedisServer, other: RedisChannelLayer, reader: RedisReceiver
) -> None:
    for name in KINDS:
        assert ask(reader, name) == []
        other.send(name, {"n": 1})
        await_ring(reader)
        assert all(map(reader.begin, ask(reader, name)))
    reader.close()
    for kind in "aph":
        assert server.call("KEYS", f"{P}{kind}:*") == []


def test_what_comes_while_an_exchange_is_under_way_comes_once(server: RedisServer) -> None:
    layer = RedisChannelLayer(server.url, capacity=10_000)
    reader = layer.receiver()
    reader.eager = True
    found: list[int] = []

    async def send() -> None:
        for n in range(1000):
            await layer.asend(OWN, {"n": n})

    async def look() -> None:
        outcome = await reader.aexchange((), (), PREFIX, 8, wake_below=8, hold=False)
        found.extend(numbers(outcome.deliveries))

    async def gateway() -> None:
        def rung() -> None:
            reader.drain()
            found.extend(numbers(reader.handed(8) or ()))

        asyncio.get_running_loop().add_reader(reader.fileno(), rung)
        sender = asyncio.create_task(send())
        async with asyncio.timeout(3 * PATIENCE):
            while len(found) < 1000:
                await look()  # at any time, whatever is on its way
                await asyncio.sleep(0)
        asyncio.get_running_loop().remove_reader(reader.fileno())
        await sender

    asyncio.run(gateway())
    reader.close()
    layer.close()
    assert found == list(range(1000))


class TestWaiting:
    """How many messages wait, of which a server that loses its data loses as many."""

    @pytest.mark.parametrize("name", KINDS)
    @pytest.mark.parametrize("has_come", [True, False])
    def test_what_was_on_its_way_to_a_reader_is_counted(
        self,
        server: RedisServer,
        other: RedisChannelLayer,
        reader: RedisReceiver,
        name: str,
        has_come: bool,
    ) -> None:
        assert ask(reader, name) == []
        other.exchange([Send(name, {"n": n}) for n in range(3)])
        if has_come:
            await_ring(reader)
            assert numbers(ask(reader, name)) == [0, 1, 2]
        server.restart()
        while not (found := other.statistics().dropped):
            reader._bell.letters.clear()
            with suppress(LayerUnavailable):
                ask(reader, name)
        if not has_come:
            assert found == {"server restarted": 3}
        eventually(lambda: counted(reader, other, name) == (0 if has_come else 3), "it is counted")

    @pytest.mark.parametrize("name", KINDS)
    @pytest.mark.parametrize("end", ["done", "close", "turn away", "bury", "flush"])
    def test_none_are_left(
        self,
        server: RedisServer,
        layer: RedisChannelLayer,
        other: RedisChannelLayer,
        reader: RedisReceiver,
        name: str,
        end: str,
    ) -> None:
        assert ask(reader, name) == []
        other.exchange([Send(name, {"n": n}) for n in range(3)])
        assert server.call("GET", f"{P}waiting") == b"3"
        if end == "done":
            await_ring(reader)
            ask(reader, name, ask(reader, name))
            ask(reader, name)
            reader.exchange((), (), PREFIX)
        elif end == "close":
            reader.close()
        elif end == "turn away":
            reader.exchange((), (), PREFIX if name == OWN else (name,))
        elif end == "bury":
            other._ask("leave", layer.process.encode(), b"", b"", b"", b"")
        else:
            other.flush()
        left = int(server.call("GET", f"{P}waiting") or 0)
        assert left == other.statistics().messages_pending
        layer.exchange((), PREFIX if name == OWN else (name,), 9)
        assert int(server.call("GET", f"{P}waiting") or 0) == 0


def counted(reader: RedisReceiver, layer: RedisChannelLayer, name: str) -> int:
    """Return how many messages count as lost, after another exchange."""
    with suppress(LayerUnavailable):
        ask(reader, name)
    return layer.statistics().dropped.get("server restarted", 0)


class TestTrouble:
    """What goes wrong on the way, and what comes in between."""

    @pytest.mark.parametrize("name", KINDS)
    def test_an_exchange_whose_answer_was_lost_is_not_done_again(
        self, other: RedisChannelLayer, reader: RedisReceiver, name: str
    ) -> None:
        assert ask(reader, name) == []
        lose_the_next_answer(reader, lambda: other.send(name, {"n": 1}))
        assert ask(reader, name) == []
        other.send(name, {"n": 2})
        found: list[Delivery] = []
        with_patience = time.monotonic() + PROMPT
        while len(found) < 2 and time.monotonic() < with_patience:
            reader.wait(PROMPT)
            found += (more := ask(reader, name))
            assert all(map(reader.begin, more))
        assert numbers(found) == [1, 2]
        assert ask(reader, name, found) == []

    def test_what_comes_while_an_exchange_connects_comes_once(
        self,
        server: RedisServer,
        other: RedisChannelLayer,
        reader: RedisReceiver,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        handed: list[int] = []
        has_come = threading.Event()
        ready = reader._ready

        def connect(calls: Sequence[Call]) -> None:
            ready(calls)
            other.send(OWN, {"n": 1})
            assert has_come.wait(PATIENCE)

        def rung() -> None:
            reader.drain()
            more = reader.handed(8) or ()
            handed.extend(numbers(more))
            if more:
                has_come.set()

        async def gateway() -> list[Delivery]:
            loop = asyncio.get_running_loop()
            await reader.aexchange((), (), PREFIX, 8, wake_below=8, hold=False)
            server.call("CLIENT", "KILL", "TYPE", "pubsub")
            await asyncio.to_thread(await_ring, reader)
            monkeypatch.setattr(reader, "_ready", connect)
            loop.add_reader(reader.fileno(), rung)
            outcome = await reader.aexchange((), (), PREFIX, 8, wake_below=8, hold=False)
            loop.remove_reader(reader.fileno())
            return outcome.deliveries

        assert numbers(asyncio.run(gateway())) == []
        assert handed == [1]

    def test_marks_do_not_reach_beyond_what_was_handed_over(
        self, server: RedisServer, other: RedisChannelLayer, reader: RedisReceiver
    ) -> None:
        reader._books.pace.reach = 100
        other.send("work", {"n": 1})
        found = ask(reader, "work")
        assert server.call("HGET", f"{P}h:{reader.name}", "b") == b"1"
        reader._books.pace.reach = 100
        reader.exchange((), found, ("work",), 8, wake_below=1)
        time.sleep(1.2)  # it may be cut off
        other.send("work", {"n": 2})
        assert server.call("HGET", f"{P}h:{reader.name}", "b") == b"1"

    @pytest.mark.parametrize("name", KINDS)
    def test_a_server_without_memory_refuses_what_comes_with_an_exchange(
        self, server: RedisServer, other: RedisChannelLayer, reader: RedisReceiver, name: str
    ) -> None:
        assert ask(reader, name) == []
        other.send(name, {"n": 1})
        await_ring(reader)
        found = ask(reader, name)
        assert numbers(found) == [1]
        server.call("CONFIG", "SET", "maxmemory", "1")
        sends = [Send("more", {"n": n}) for n in range(5)]
        if name == OWN:
            outcome = reader.exchange(sends, (), PREFIX, 8, wake_below=8, hold=False)
        else:
            outcome = reader.exchange(sends, found, (name,), 8, wake_below=1)
        assert len(outcome.refused) == 5
        assert outcome.deliveries == []
        server.call("CONFIG", "SET", "maxmemory", "0")
        assert other.statistics("more").messages_pending == 0

    def test_a_server_that_took_over_may_know_less(
        self, server: RedisServer, other: RedisChannelLayer, reader: RedisReceiver
    ) -> None:
        assert ask(reader, OWN) == []
        order = server.call("GET", f"{P}a:{reader.name}")
        for n in range(2):
            other.send(OWN, {"n": n})
            await_ring(reader)
            assert numbers(reader.handed(8) or ()) == [n]
        server.call("DEL", f"{P}p:{reader.name}")
        server.call("SET", f"{P}a:{reader.name}", order)
        other.send(OWN, {"n": 2})
        await_ring(reader)
        assert numbers(ask(reader, OWN)) == [2]

    def test_who_takes_more_than_it_was_handed_hears_of_the_rest(
        self, other: RedisChannelLayer, reader: RedisReceiver
    ) -> None:
        assert ask(reader, OWN) == []
        other.exchange([Send(OWN, {"n": 1}), GroupAdd("all", OWN)])  # the notice waits
        await_ring(reader)
        found = ask(reader, OWN)
        await_ring(reader)
        found += ask(reader, OWN)
        assert numbers(found) == [1]
        other.send(OWN, {"n": 2})
        await_ring(reader)
        assert numbers(ask(reader, OWN)) == [2]

    def test_who_closes_gives_everything_back_in_order(
        self, layer: RedisChannelLayer, other: RedisChannelLayer, reader: RedisReceiver
    ) -> None:
        assert ask(reader, OWN) == []
        other.exchange([Send(OWN, {"n": n}) for n in range(4)])
        await_ring(reader)
        assert numbers(reader.handed(2) or ()) == [0, 1]
        other.exchange([Send(OWN, {"n": n}) for n in range(4, 6)])
        reader.close()
        assert numbers(layer.exchange((), PREFIX, 9).deliveries) == [2, 3, 4, 5]

    def test_who_closes_on_a_connection_that_has_ended_gives_back_too(
        self,
        server: RedisServer,
        layer: RedisChannelLayer,
        other: RedisChannelLayer,
        reader: RedisReceiver,
    ) -> None:
        assert ask(reader, "work") == []
        other.send("work", {"n": 1})
        server.call("CLIENT", "KILL", "TYPE", "normal")
        reader.close()
        assert receive_soon(layer) == {"n": 1}

    def test_letters_that_come_in_pieces_are_read(self, reader: RedisReceiver) -> None:
        theirs, ours = socket.socketpair()
        place = Mock(name="server", timeout=5.0)
        place.connect.return_value._sock = ours
        letter = (ORDER.pack(7, 499, 1, -1), b"\0\0\1" + b"b" * 60)
        bell = Bell()
        theirs.sendall(reply(b"subscribe", b"n", b"1") + reply(b"message", b"n", letter[0]))
        bell.listen(place, b"n")
        theirs.sendall(reply(b"message", b"n", letter[1]))
        for part in letter:
            for byte in reply(b"message", b"n", part):
                theirs.sendall(bytes([byte]))
                bell.drain()
        bell.drain()
        assert bell.letters == [letter, letter]
        bell.close()
        theirs.close()


def lose_the_next_answer(reader: RedisReceiver, between: Callable[[], None]) -> None:
    """Let the server do the next exchange and the reader not hear of it; `between` comes then."""
    link = reader._books.seats[0].link
    receive = link.receive

    def lose() -> object:
        link.receive = receive  # type: ignore[method-assign]
        receive()
        between()
        link.close()
        raise LinkBroken("lost")

    link.receive = lose  # type: ignore[method-assign]


def reply(*parts: bytes) -> bytes:
    """Return what a server says, as it is written."""
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(p), p) for p in parts)


def receive_soon(layer: RedisChannelLayer) -> dict[str, Any] | None:
    """Receive from the channel "work", over connections that have ended, too."""
    while True:
        with suppress(LayerUnavailable):
            return layer.receive(["work"], timeout=PROMPT)[1]
