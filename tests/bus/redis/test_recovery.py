"""Servers that go away and come back."""

import asyncio
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from unittest.mock import Mock

import pytest

from busway.bus.conformance.harness import eventually
from busway.bus.conformance.peers import PATIENCE
from busway.bus.errors import BusError, InvalidArgument, LayerUnavailable
from busway.bus.operations import GroupAdd, GroupDiscard, Operation, Return, Send
from busway.bus.redis import RedisChannelLayer, bell, links
from busway.bus.redis.bell import Bell
from busway.bus.redis.complaints import ServerError
from busway.bus.redis.connections import Link
from busway.bus.redis.receiver import LOOK_INTERVAL, RedisReceiver
from busway.bus.redis.scripts import script
from busway.bus.redis.seats import Call
from busway.bus.redis.servers import Server
from servers.redis import RedisServer


def receiver_of(layer: RedisChannelLayer) -> RedisReceiver:
    reader = layer.receiver()
    assert isinstance(reader, RedisReceiver)
    return reader


def vanish_after_the_next_exchange(server: RedisServer, reader: RedisReceiver) -> None:
    """Let a server do the reader's next exchange, and end before anybody hears of it."""
    reader.exchange()
    link = reader._books.seats[0].link
    receive = link.receive

    def vanish() -> object:
        receive()
        link.receive = receive  # type: ignore[method-assign]
        server.kill()
        link.close()
        return receive()

    link.receive = vanish  # type: ignore[method-assign]


@pytest.fixture
def other(server: RedisServer) -> Iterator[RedisChannelLayer]:
    """Return a layer like `layer`, as another process has it."""
    other = RedisChannelLayer(server.url)
    yield other
    other.close()


def receive(layer: RedisChannelLayer, channel: str) -> dict[str, object]:
    """Receive a message, whatever is in the way for a while."""

    def attempt() -> dict[str, object] | None:
        try:
            return layer.receive([channel], timeout=1)[1]
        except BusError:
            return None

    found = eventually(attempt, "a message comes")
    assert found is not None
    return found


def test_a_layer_goes_on_after_a_restart(server: RedisServer, layer: RedisChannelLayer) -> None:
    layer.send("work", {"n": 1})
    server.restart()
    layer.send("work", {"n": 2})
    assert layer.receive(["work"]) == ("work", {"n": 2})


def test_forgotten_scripts_are_sent_again(server: RedisServer, layer: RedisChannelLayer) -> None:
    layer.send("work", {"n": 1})
    server.call("SCRIPT", "FLUSH")
    layer.send("work", {"n": 2})
    assert layer.receive(["work"]) == ("work", {"n": 1})


def test_a_sleeping_receiver_wakes_after_a_restart(
    server: RedisServer, layer: RedisChannelLayer
) -> None:
    found: list[dict[str, object]] = []
    task = threading.Thread(target=lambda: found.append(receive(layer, "work")))
    task.start()
    eventually(lambda: int(server.info("stats")["pubsub_channels"]) > 0, "it sleeps")
    server.restart()
    other = RedisChannelLayer(server.url)
    other.send("work", {"n": 1})
    task.join(PATIENCE)
    other.close()
    assert found == [{"n": 1}]


def test_an_unreachable_server_is_said_and_nothing_hangs(
    server: RedisServer, layer: RedisChannelLayer
) -> None:
    layer.send("work", {"n": 1})
    server.kill()
    with pytest.raises(LayerUnavailable, match="is the server running"):
        layer.send("work", {"n": 2})


def test_members_are_members_again_after_data_was_lost(
    server: RedisServer, layer: RedisChannelLayer
) -> None:
    reader = layer.receiver()
    reader.exchange([GroupAdd("group", "proc.x!a")], (), ["proc.x!"], 10, wake_below=10)
    reader.exchange((), (), ["proc.x!"], 10, wake_below=10)
    server.restart()
    other = RedisChannelLayer(server.url)

    def is_member() -> bool:
        try:
            reader.exchange((), (), ["proc.x!"], 10, wake_below=10, hold=False)
            return other.group_channels("group") == ["proc.x!a"]
        except BusError:
            return False

    eventually(is_member, "it is a member again")
    other.group_send("group", {"n": 1})
    found = reader.exchange((), (), ["proc.x!"], 10).deliveries
    assert [each.members for each in found] == [("proc.x!a",)]
    other.close()
    reader.close()


def test_an_exchange_whose_reply_was_lost_is_not_done_twice(
    server: RedisServer, layer: RedisChannelLayer
) -> None:
    reader = receiver_of(layer)
    reader.exchange([Send("work", {"n": n}) for n in range(3)])
    link = reader._books.seats[0].link
    receive, lost = link.receive, list[object]()

    def lose() -> object:
        if not lost:
            lost.append(receive())
            link.close()
        return receive()

    link.receive = lose  # type: ignore[method-assign]
    found = reader.exchange([Send("sent", {})], (), ["work"], 2).deliveries
    assert lost
    assert [each.message["n"] for each in found] == [0, 1]
    assert layer.statistics("sent").messages_count == 1
    assert layer.receive(["work"]) == ("work", {"n": 2})
    reader.close()
    assert [layer.receive(["work"])[1] for _ in range(3)] == [{"n": 0}, {"n": 1}, None]


def test_a_reply_that_is_given_again_has_what_is_held_and_what_is_not(
    layer: RedisChannelLayer,
) -> None:
    reader = receiver_of(layer)
    reader.exchange([Send("work", {"n": 0}), Send("one?x", {"n": 1})])
    link = reader._books.seats[0].link
    receive, lost = link.receive, list[object]()

    def lose() -> object:
        if not lost:
            lost.append(receive())
            link.close()
        return receive()

    link.receive = lose  # type: ignore[method-assign]
    found = reader.exchange((), (), ["work", "one?x"], 4).deliveries
    assert lost
    assert sorted(each.message["n"] for each in found) == [0, 1]
    reader.close()
    assert receive_all(layer, "work") == [0]


def receive_all(layer: RedisChannelLayer, channel: str) -> list[object]:
    """Receive what waits; returns the numbers of the messages."""
    found: list[object] = []
    while (message := layer.receive([channel])[1]) is not None:
        found.append(message["n"])
    return found


def test_an_operation_in_doubt_is_done_once_when_it_is_given_again(server: RedisServer) -> None:
    layer = RedisChannelLayer(server.url, connection_kwargs={"socket_timeout": 0.3})
    reader = layer.receiver()
    operations = [Send("work", {"n": n}) for n in range(3)]
    reader.exchange(operations[:1])
    server.pause()
    with pytest.raises(LayerUnavailable):
        reader.exchange(operations[1:2])
    server.resume()
    reader.exchange(operations[1:])
    assert [layer.receive(["work"])[1] for _ in range(4)] == [{"n": 0}, {"n": 1}, {"n": 2}, None]
    reader.close()
    layer.close()


def test_connections_do_not_grow(server: RedisServer, layer: RedisChannelLayer) -> None:
    for n in range(20):
        layer.send("work", {"n": n})
        layer.receive(["work", "other"], timeout=0.001)
    before = server.connections()
    for _ in range(20):
        with layer.receiver() as reader:
            reader.exchange((), (), ["work"], 1, wake_below=1)
    eventually(lambda: server.connections() <= before, "connections are closed")


def test_what_is_given_back_to_shards_that_lost_their_data_is_counted(
    server: RedisServer,
) -> None:
    channels = [f"work{n}" for n in range(8)]  # on both shards
    with RedisServer() as other:
        layer = RedisChannelLayer([server.url, other.url])
        with layer.receiver() as reader:
            reader.exchange([Send(channel, {}) for channel in channels])
            held = reader.exchange((), (), channels, 8).deliveries
            server.restart()
            other.restart()
            reader.exchange((), (), channels, 1)
            reader.exchange([Return(each) for each in held])
            reader.exchange()
        assert layer.statistics().dropped == {"server restarted": 8}
        layer.close()


class TestLost:
    """What a receiver has in hand when a server restarts without its data."""

    def test_it_is_counted_though_the_connection_ends_meanwhile(
        self, server: RedisServer, layer: RedisChannelLayer
    ) -> None:
        reader = layer.receiver()
        reader.exchange([Send("work", {"n": n}) for n in range(2)])
        held = reader.exchange((), (), ["work"], 2).deliveries
        server.restart()
        reader.exchange((), (), ["work"], 1)
        server.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        reader.exchange([Return(each) for each in held])
        assert layer.statistics("work").dropped == {"server restarted": 2}
        reader.close()

    def test_it_can_be_given_back_again_when_that_has_failed(
        self, server: RedisServer, layer: RedisChannelLayer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(links, "PERSISTENCE", 0.1)
        reader = layer.receiver()
        reader.exchange([Send("work", {"n": n}) for n in range(2)])
        held = reader.exchange((), (), ["work"], 2).deliveries
        server.restart()
        reader.exchange((), (), ["work"], 1)
        server.kill()
        for _ in range(3):
            with pytest.raises(LayerUnavailable):
                reader.exchange([Return(each) for each in held])
        server.start()
        reader.exchange([Return(each) for each in held])
        assert layer.statistics("work").dropped == {"server restarted": 2}
        with pytest.raises(InvalidArgument):
            reader.exchange([Return(held[0])])
        reader.close()

    def test_it_is_counted_though_it_was_given_up_before(
        self, server: RedisServer, layer: RedisChannelLayer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(links, "PERSISTENCE", 0.1)
        reader = layer.receiver()
        reader.exchange([Send("work", {"n": n}) for n in range(2)])
        held = reader.exchange((), (), ["work"], 2).deliveries
        server.kill()
        assert [reader.begin(each) for each in held] == [False, False]
        server.start()
        assert reader.exchange((), (), ["work"], 2).deliveries == []
        assert layer.statistics("work").dropped == {"server restarted": 2}
        reader.close()


@pytest.mark.parametrize("notices", [True, False])
def test_who_takes_from_a_server_that_lost_its_data_is_known_to_it(
    server: RedisServer, layer: RedisChannelLayer, other: RedisChannelLayer, *, notices: bool
) -> None:
    reader = receiver_of(layer)
    reader.exchange((), (), ["work"], 1)
    server.restart()
    if notices:
        reader._links.close()
    other.send("work", {"n": 1})
    assert len(reader.exchange((), (), ["work"], 1).deliveries) == 1
    bury(other, layer)
    assert receive_all(other, "work") == [1]
    reader.close()


async def test_what_goes_back_finds_room_on_a_full_server(
    server: RedisServer, layer: RedisChannelLayer
) -> None:
    reader = receiver_of(layer)
    reader.exchange([Send("work", {"n": 1})])
    reader.exchange((), (), ["work"], 0)
    arun = reader._arun

    async def be_cancelled(calls: Sequence[Call], replies: list[object]) -> None:
        await arun(calls, replies)
        server.call("CONFIG", "SET", "maxmemory", "1")
        raise asyncio.CancelledError

    reader._arun = be_cancelled  # type: ignore[method-assign]
    with pytest.raises(asyncio.CancelledError):
        await reader.aexchange((), (), ["work"], 1, hold=False)
    server.call("CONFIG", "SET", "maxmemory", "0")
    assert receive_all(layer, "work") == [1]
    reader.close()


@pytest.mark.parametrize("hold", [True, False])
async def test_what_a_server_that_is_away_cannot_take_back_goes_back_later(
    monkeypatch: pytest.MonkeyPatch, *, hold: bool
) -> None:
    monkeypatch.setattr(links, "PERSISTENCE", 0.1)
    with RedisServer(persistent=True, options={"appendfsync": "always"}) as server:
        layer = RedisChannelLayer(server.url)
        reader = receiver_of(layer)
        reader.exchange([Send("work", {"n": 1})])
        arun = reader._arun

        async def be_cancelled(calls: Sequence[Call], replies: list[object]) -> None:
            await arun(calls, replies)
            server.kill()
            reader._links.close()
            raise asyncio.CancelledError

        reader._arun = be_cancelled  # type: ignore[method-assign]
        with pytest.raises(asyncio.CancelledError):
            await reader.aexchange((), (), ["work"], 1, hold=hold)
        server.start()
        reader.exchange()
        assert receive_all(layer, "work") == [1]
        reader.close()
        layer.close()


class TestSubscriptions:
    """A connection on which nothing is ever sent does not notice that its other end is gone."""

    def test_a_server_that_answers_is_kept(
        self, server: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bell, "QUIET", 0.1)
        hears = Bell()
        its = Server(server.url, {})
        hears.listen(its, b"name")
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            assert hears.listens(its, b"name")
            hears.wait(0.01)
        hears.close()

    def test_a_server_that_is_silent_is_left(
        self, server: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bell, "QUIET", 0.02)
        hears = Bell()
        its = Server(server.url, {})
        hears.listen(its, b"name")
        server.pause()
        eventually(lambda: not hears.listens(its, b"name"), "the subscription is given up")
        server.resume()
        hears.listen(its, b"name")
        assert hears.listens(its, b"name")
        hears.close()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # the child does nothing
def test_a_fork_leaves_the_bells_of_its_parent_alone(
    server: RedisServer, layer: RedisChannelLayer
) -> None:
    reader = receiver_of(layer)
    reader.exchange((), (), ["work"], 1, wake_below=1)
    layer._lay_by(reader)
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    server.call("PUBLISH", reader._books.seats[0].bell, "")
    assert reader.wait(LOOK_INTERVAL / 2)


async def test_who_is_cancelled_waits_for_the_thread_that_connects(server: RedisServer) -> None:
    layer = RedisChannelLayer(server.url)
    server.pause()
    task = asyncio.create_task(layer.areceive(["work"], timeout=None))
    for _ in range(6):
        await asyncio.sleep(0.05)  # it is connecting, in a thread
        task.cancel()
    await asyncio.sleep(0.05)
    assert not task.done()
    server.resume()
    await asyncio.gather(task, return_exceptions=True)
    layer.close()
    eventually(lambda: server.connections() == 0, "its connections are closed")


class TestDoubt:
    """An exchange was done, and the server vanished before it could say so."""

    @pytest.fixture(autouse=True)
    def _haste(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(links, "PERSISTENCE", 0.1)

    @pytest.fixture
    def server(self) -> Iterator[RedisServer]:
        """Return a server that remembers."""
        with RedisServer(persistent=True, options={"appendfsync": "always"}) as server:
            yield server

    def test_an_operation_is_done_once_however_often_connecting_fails(
        self, server: RedisServer, layer: RedisChannelLayer
    ) -> None:
        reader = receiver_of(layer)
        operations = [Send("work", {"n": n}) for n in range(2)]
        vanish_after_the_next_exchange(server, reader)
        for _ in range(3):
            with pytest.raises(LayerUnavailable):
                reader.exchange(operations[:1])
        server.start()
        reader.exchange(operations)
        assert [layer.receive(["work"])[1] for _ in range(3)] == [{"n": 0}, {"n": 1}, None]
        reader.close()

    def test_operations_are_done_once_though_they_are_given_again_in_parts(
        self, server: RedisServer, layer: RedisChannelLayer
    ) -> None:
        reader = receiver_of(layer)
        operations = [Send("work", {"n": n}) for n in range(4)]
        vanish_after_the_next_exchange(server, reader)
        with pytest.raises(LayerUnavailable):
            reader.exchange(operations)
        server.start()
        reader.exchange()
        reader.exchange(operations[:2])
        reader.exchange(operations[2:])
        reader.exchange(operations[:1])  # of which there was no doubt any more
        found = [layer.receive(["work"])[1] for _ in range(6)]
        assert found == [{"n": 0}, {"n": 1}, {"n": 2}, {"n": 3}, {"n": 0}, None]
        reader.close()

    def test_what_was_taken_is_handed_over_to_who_asks_for_that_channel(
        self, server: RedisServer, layer: RedisChannelLayer
    ) -> None:
        reader = receiver_of(layer)
        reader.exchange([Send("work", {"n": 1}), Send("other", {"n": 2})])
        vanish_after_the_next_exchange(server, reader)
        with pytest.raises(LayerUnavailable):
            reader.exchange((), (), ["work"], 2, wake_below=2)
        server.start()
        found = [reader.exchange((), (), [name], 2).deliveries for name in ("other", "work")]
        assert [[each.message["n"] for each in some] for some in found] == [[2], [1]]
        reader.close()

    def test_who_is_handed_over_what_was_taken_looks_for_more(
        self, server: RedisServer, layer: RedisChannelLayer
    ) -> None:
        reader = receiver_of(layer)
        reader.exchange([Send("work", {"n": 1})])
        vanish_after_the_next_exchange(server, reader)
        with pytest.raises(LayerUnavailable):
            reader.exchange((), (), ["work"], 2, wake_below=2)
        server.start()
        reader.exchange()
        reader.drain()
        assert len(reader.exchange((), (), ["work"], 2, wake_below=2).deliveries) == 1
        assert reader.wait(LOOK_INTERVAL / 2)
        reader.close()

    @pytest.mark.parametrize("hold", [True, False])
    def test_what_was_taken_goes_back_when_nobody_asks_for_it(
        self, server: RedisServer, layer: RedisChannelLayer, *, hold: bool
    ) -> None:
        reader = receiver_of(layer)
        reader.exchange([Send("work", {"n": n}) for n in range(3)])
        vanish_after_the_next_exchange(server, reader)
        with pytest.raises(LayerUnavailable):
            reader.exchange((), (), ["work"], 2, hold=hold)
        server.start()
        reader.close()
        assert [layer.receive(["work"])[1] for _ in range(3)] == [{"n": n} for n in range(3)]

    async def test_who_is_cancelled_meanwhile_finds_it_out_later(
        self, server: RedisServer, layer: RedisChannelLayer
    ) -> None:
        reader = receiver_of(layer)
        reader.exchange([Send("work", {"n": 1})])
        vanish_after_the_next_exchange(server, reader)

        async def be_cancelled(calls: Sequence[Call], replies: list[object]) -> None:
            reader._exchanges.doubt = calls
            reader._send(calls)
            raise asyncio.CancelledError

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reader, "_arun", be_cancelled)
            with pytest.raises(asyncio.CancelledError):
                await reader.aexchange((), (), ["work"], 1, hold=False)
        server.start()
        found = reader.exchange((), (), ["work"], 1, hold=False).deliveries
        assert [each.message for each in found] == [{"n": 1}]
        reader.close()

    def test_what_is_counted_as_dropped_is_counted_once(
        self, server: RedisServer, layer: RedisChannelLayer
    ) -> None:
        reader = receiver_of(layer)
        reader.exchange([Send("work", {})])
        held = reader.exchange((), (), ["work"], 1).deliveries
        server.restart(empty=True)
        vanish_after_the_next_exchange(server, reader)
        link = reader._books.seats[0].link
        vanish, receive = link.receive, type(link).receive

        def wait_for_the_next() -> object:
            link.receive = vanish  # type: ignore[method-assign]
            return receive(link)

        link.receive = wait_for_the_next  # type: ignore[method-assign]
        with pytest.raises(LayerUnavailable):
            reader.exchange([Return(each) for each in held])
        server.start()
        reader.exchange([Return(each) for each in held])
        assert layer.statistics("work").dropped == {"server restarted": 1}
        reader.close()

    def test_what_one_shard_gave_goes_back_though_another_is_away(
        self, server: RedisServer
    ) -> None:
        with RedisServer() as other:
            layer = RedisChannelLayer([server.url, other.url])
            names = {layer.shard_of(name, ""): name for name in ("a", "b", "c", "d", "e")}
            channels = [names[0], names[1]]
            reader = receiver_of(layer)
            reader.exchange([Send(channel, {"n": 1}) for channel in channels])
            vanish_after_the_next_exchange(server, reader)
            with pytest.raises(LayerUnavailable):
                reader.exchange((), (), channels, 2, hold=False)
            reader.close()
            server.start()
            assert receive_all(layer, names[1]) == [1]
            layer.close()

    def test_a_receive_that_fails_leaves_its_message_to_others(
        self, server: RedisServer, layer: RedisChannelLayer
    ) -> None:
        reader = receiver_of(layer)
        reader.exchange([Send("work", {"n": 1})])
        vanish_after_the_next_exchange(server, reader)
        close = reader.close

        def come_back() -> None:
            server.start()
            close()

        reader.close = come_back  # type: ignore[method-assign]
        layer._lay_by(reader)
        with pytest.raises(LayerUnavailable):
            layer.receive(["work"])
        assert layer.receive(["other"]) == (None, None)
        assert layer.receive(["work"]) == ("work", {"n": 1})


def test_what_cannot_be_begun_for_sure_goes_back_later() -> None:
    with RedisServer(persistent=True, options={"appendfsync": "always"}) as server:
        layer = RedisChannelLayer(server.url)
        with layer.receiver() as reader:
            reader.exchange([Send("work", {"n": n}) for n in range(2)])
            held = reader.exchange((), (), ["work"], 2).deliveries
            server.kill()
            assert [reader.begin(each) for each in held] == [False, False]
            server.start()
            found = reader.exchange((), (), ["work"], 2).deliveries
            assert [each.message["n"] for each in found] == [0, 1]
            assert [reader.begin(each) for each in found] == [True, True]
        layer.close()


def test_what_a_full_server_has_not_done_yet_is_done_when_it_is_given_again(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "PERSISTENCE", 0.1)
    with RedisServer(persistent=True, options={"appendfsync": "always"}) as first:
        layer = RedisChannelLayer([first.url, server.url])
        names = {layer.shard_of(name, ""): name for name in ("a", "b", "c", "d", "e")}
        with layer.receiver() as reader:
            reader.exchange([GroupAdd("group", names[0]), Send(names[1], {})])
            assert isinstance(reader, RedisReceiver)
            link = reader._books.seats[0].link
            receive = link.receive

            def vanish() -> object:
                link.receive = receive  # type: ignore[method-assign]
                try:
                    return receive()
                finally:
                    first.kill()
                    link.close()

            link.receive = vanish  # type: ignore[method-assign]
            first.call("CONFIG", "SET", "maxmemory", "1")
            operations: list[Operation] = [
                Send(names[0], {}),
                GroupDiscard("group", names[0]),
                Send(names[1], {}),
            ]
            with pytest.raises(LayerUnavailable):
                reader.exchange(operations)
            first.start()
            assert reader.exchange(operations).refused == []
        assert layer.group_channels("group") == []
        assert layer.statistics().messages_count == 3
        layer.close()


def test_what_one_shard_took_back_can_be_given_again_while_another_is_away(
    server: RedisServer,
) -> None:
    with RedisServer(persistent=True, options={"appendfsync": "always"}) as first:
        layer = RedisChannelLayer([first.url, server.url])
        names = {layer.shard_of(name, ""): name for name in ("a", "b", "c", "d", "e")}
        channels = [names[0], names[1]]
        reader = receiver_of(layer)
        reader.exchange([Send(channel, {"n": 1}) for channel in channels])
        held = reader.exchange((), (), channels, 2).deliveries
        assert [each.channel for each in held] == channels
        first.kill()
        reader._books.seats[0].link.close()
        for _ in range(2):
            with pytest.raises(LayerUnavailable):
                reader.exchange([Return(held[1])], held[:1])
        first.start()
        reader.exchange([Return(held[1])], held[:1])
        assert [receive_all(layer, channel) for channel in channels] == [[], [1]]
        reader.close()
        layer.close()


def test_each_server_is_asked_for_what_it_gave(server: RedisServer) -> None:
    with RedisServer(persistent=True, options={"appendfsync": "always"}) as first:
        layer = RedisChannelLayer([first.url, server.url])
        names = {layer.shard_of(name, ""): name for name in ("a", "b", "c", "d", "e")}
        channels = [names[0], names[1]]
        with layer.receiver() as reader:
            reader.exchange([Send(channel, {}) for channel in channels])
            found = reader.exchange((), (), channels, 2).deliveries
            assert [each.channel for each in found] == channels
            first.kill()
            assert reader.begin(found[1])
            first.start()
            assert reader.begin(found[0])
            reader.exchange((), found)
            assert reader.exchange((), (), channels, 2).deliveries == []
        layer.close()


def test_a_process_that_was_thought_dead_is_in_its_groups_again(
    server: RedisServer, layer: RedisChannelLayer
) -> None:
    reader = layer.receiver()
    reader.exchange([GroupAdd("group", "proc.x!a")], (), ["proc.x!"], 10, wake_below=10)
    reader.exchange((), (), ["proc.x!"], 10, wake_below=10)
    eventually(lambda: layer._heard_by, "its heart beats")
    other = RedisChannelLayer(server.url)
    bury(other, layer)
    assert other.group_channels("group") == []

    def is_member() -> bool:
        reader.exchange((), (), ["proc.x!"], 10, wake_below=10, hold=False)
        return other.group_channels("group") == ["proc.x!a"]

    eventually(is_member, "it is a member again")
    other.close()
    reader.close()


def test_nobody_is_buried_when_everybody_was_away(
    server: RedisServer, layer: RedisChannelLayer
) -> None:
    reader = layer.receiver()
    reader.exchange((), (), ["proc.x!"], 1, wake_below=1)
    reader.exchange([Send("proc.x!a", {})])
    key = "busway:{0}:processes"
    for process in server.call("ZRANGE", key, 0, -1):
        server.call("ZADD", key, 1, process)
    found = layer.statistics()
    assert (found.messages_pending, found.dropped) == (1, {})
    reader.close()


@pytest.mark.parametrize("step", [-300, 300])
def test_who_sets_his_clock_is_on_time_again_after_one_exchange(
    layer: RedisChannelLayer, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    layer.send("work", {"n": 1})
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + step)
    layer.send("other", {})  # too early to know
    layer.send("work", {"n": 2})
    assert [layer.receive(["work"])[1] for _ in range(3)] == [{"n": 1}, {"n": 2}, None]
    layer.exchange([Send("in?x", {})])
    assert layer.exchange((), ["in?x"], 1).deliveries[0].sent == pytest.approx(clock(), abs=1)


class Late:
    """A request that was sent on a connection that was given up, and comes later than it should."""

    def __init__(self, reader: RedisReceiver) -> None:
        """Catch the next request of `reader`; its connection ends, and it is asked again."""
        self._seat = seat = reader._books.seats[0]
        send = seat.send

        def catch(call: Call) -> None:
            self.arguments = (call.request.encode(), *call.arguments)
            seat.send = send  # type: ignore[method-assign]
            seat.link.close()

        seat.send = catch  # type: ignore[method-assign]

    def come(self) -> None:
        """Have it come now, on a connection of its own."""
        link = Link(self._seat.shard.server)
        try:
            link.run(script("exchange"), self._seat.shard.key, *self.arguments)
        finally:
            link.close()


class TestLate:
    """What TCP still delivers of a connection that was given up."""

    def test_a_request_that_was_asked_again_meanwhile_does_nothing(
        self, layer: RedisChannelLayer
    ) -> None:
        reader = receiver_of(layer)
        reader.exchange([Send("work", {"n": n}) for n in range(4)])
        late = Late(reader)
        found = reader.exchange([Send("sent", {})], (), ["work"], 2).deliveries
        with pytest.raises(ServerError, match=r"^LATE"):
            late.come()
        more = reader.exchange((), found[:1], ["work"], 1).deliveries
        with pytest.raises(ServerError, match=r"^LATE"):
            late.come()
        assert [each.message["n"] for each in (*found, *more)] == [0, 1, 2]
        assert layer.statistics("sent").messages_count == 1
        reader.close()
        assert [receive(layer, "work")["n"] for _ in range(3)] == [1, 2, 3]

    def test_a_request_that_found_nothing_takes_nothing_later(
        self, layer: RedisChannelLayer
    ) -> None:
        reader = receiver_of(layer)
        reader.exchange((), (), ["work"], 1)
        late = Late(reader)
        assert reader.exchange((), (), ["work"], 1).deliveries == []
        reader.exchange((), (), ["work"], 1)
        layer.send("work", {"n": 0})
        with pytest.raises(ServerError, match=r"^LATE"):
            late.come()
        assert receive(layer, "work") == {"n": 0}
        reader.close()

    @pytest.mark.parametrize("end", ["it has left", "its process was thought dead"])
    def test_a_request_of_a_receiver_that_is_gone_takes_nothing(
        self, layer: RedisChannelLayer, other: RedisChannelLayer, end: str
    ) -> None:
        reader = receiver_of(other)
        reader.exchange((), (), ["work"], 1)
        late = Late(reader)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reader, "_insist", lambda _: ServerError("it is killed before"))
            with pytest.raises(LayerUnavailable):
                reader.exchange([Send("sent", {})], (), ["work"], 1)
        if end == "it has left":
            reader.close()
        else:
            bury(layer, other)
        layer.send("work", {"n": 0})
        with pytest.raises(ServerError, match=r"^UNKNOWN"):
            late.come()
        assert receive(layer, "work") == {"n": 0}
        assert layer.statistics("sent").messages_count == 0
        reader.close()

    def test_a_mark_takes_back_nothing(
        self, server: RedisServer, layer: RedisChannelLayer, other: RedisChannelLayer
    ) -> None:
        reader = receiver_of(layer)
        reader.exchange([Send("work", {"n": n}) for n in range(4)])
        held = reader.exchange((), (), ["work"], 4).deliveries
        assert reader.begin(held[2])
        assert layer._ask("mark", reader.name.encode(), b"1", b"1") == [[]]  # as if sent before
        bury(other, layer)
        found = layer.statistics("work")
        assert (found.messages_pending, found.dropped) == (1, {"receiver died": 3})
        assert layer._ask("mark", reader.name.encode(), b"4", b"1") == [[b"1"]]
        assert not server.call("EXISTS", f"busway:{{0}}:h:{reader.name}")
        reader.close()


class TestThoughtDead:
    """A process that is cut off until the others have shared out what it had."""

    def test_what_it_had_begun_is_its_own_and_the_rest_is_not(
        self, layer: RedisChannelLayer, other: RedisChannelLayer
    ) -> None:
        reader = receiver_of(layer)
        reader.exchange([Send("work", {"n": n}) for n in range(6)])
        held = reader.exchange((), (), ["work"], 3).deliveries
        assert reader.begin(held[0])
        bury(other, layer)
        held += reader.exchange((), held[:1], ["work"], 3).deliveries
        assert [each.message["n"] for each in held] == [0, 1, 2, 1, 2, 3]
        assert [reader.begin(each) for each in held[1:]] == [False, False, True, True, True]
        reader.exchange([Return(held[1])], held[3:])
        assert [receive(other, "work")["n"] for _ in range(2)] == [4, 5]
        assert other.statistics("work").dropped == {"receiver died": 1}
        reader.close()

    def test_what_was_marked_before_marks_nothing_of_what_it_takes_later(
        self, layer: RedisChannelLayer, other: RedisChannelLayer
    ) -> None:
        reader = receiver_of(layer)
        reader.exchange([Send("work", {"n": n}) for n in range(6)])
        reader._books.pace.reach = 8  # it was quick
        reader.exchange((), reader.exchange((), (), ["work"], 2).deliveries)
        bury(other, layer)
        reader._books.pace.reach = 1
        held = reader.exchange((), (), ["work"], 1).deliveries
        assert reader.begin(held[0])
        bury(other, layer)
        assert receive_all(other, "work") == [3, 4, 5]
        assert other.statistics("work").dropped == {"receiver died": 1}
        reader.close()

    def test_what_it_takes_before_it_knows_is_not_lost_with_it(
        self, layer: RedisChannelLayer, other: RedisChannelLayer
    ) -> None:
        reader = receiver_of(layer)
        reader.exchange((), (), ["work"], 1)
        bury(other, layer)
        life = layer.life
        reader.exchange([Send("work", {"n": 0})], (), ["work"], 1)
        assert layer.life == life + 1
        bury(other, layer)
        assert receive(other, "work") == {"n": 0}
        reader.close()

    def test_its_prefixes_are_its_own_again(
        self, layer: RedisChannelLayer, other: RedisChannelLayer
    ) -> None:
        reader = receiver_of(layer)
        for _ in range(2):
            reader.exchange((), (), ["proc.x!"], 1, wake_below=1)
            other.send("proc.x!a", {})
            bury(other, layer)
        assert other.statistics().dropped == {"receiver died": 2}
        reader.close()


def bury(layer: RedisChannelLayer, dead: RedisChannelLayer) -> None:
    """Have `layer` do what it does when nothing is heard of `dead`."""
    layer._ask("leave", dead.process.encode(), b"", b"", b"", b"")


def test_what_failed_exchanges_took_is_kept_for_one_that_does_not_fail(
    layer: RedisChannelLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer.send("work", {"n": 1})
    with layer.receiver() as receiver:
        assert isinstance(receiver, RedisReceiver)
        taken = receiver.exchange((), (), ["work"], 1).deliveries
        receiver._exchanges._taken = list(taken)  # as if it had failed behind that
        with monkeypatch.context() as patch:
            patch.setattr(receiver, "_run", Mock(side_effect=LayerUnavailable("away")))
            with pytest.raises(LayerUnavailable):
                receiver.exchange((), (), ["work"], 1)
        found = receiver.exchange((), (), ["work"], 1).deliveries
        assert [each.message for each in found] == [{"n": 1}]


def test_an_answer_is_read_where_the_question_went(server: RedisServer) -> None:
    with (
        RedisServer() as other,
        closing(RedisChannelLayer([server.url, other.url])) as layer,
        layer.receiver() as receiver,
    ):
        assert isinstance(receiver, RedisReceiver)
        first, second = layer.parts
        here, there = first.server, second.server
        second.server = here
        names = [f"work-{number}" for number in range(12)]
        for name in names:
            layer.send(name, {})
        seat = receiver._books.seats[0]
        send = seat.send

        def send_and_move(call: Call) -> None:
            send(call)
            first.server = there  # as somebody else has learnt meanwhile

        seat.send = send_and_move  # type: ignore[method-assign]
        found = receiver.exchange((), (), names, 12).deliveries
        seat.send, first.server = send, here  # type: ignore[method-assign]
        found += receiver.exchange((), (), names, 12).deliveries
        assert sorted(each.channel for each in found) == sorted(names)
        for each in found:
            assert receiver._books.home(each) == layer.shard_of(each.channel, "")


def test_an_answer_that_was_interrupted_is_not_taken_for_the_next(
    layer: RedisChannelLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer.send("first", {})
    layer.send("second", {})
    with layer.receiver() as receiver:
        assert isinstance(receiver, RedisReceiver)
        receiver.exchange()
        channel = receiver._books.seats[0].link._open()
        with monkeypatch.context() as patch:
            patch.setattr(channel, "wait", Mock(side_effect=KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                receiver.exchange((), (), ["first"], 1)
        assert not receiver._books.seats[0].link.is_connected
        found = [
            each.channel
            for _ in range(3)
            for each in receiver.exchange((), (), ["first", "second"], 1).deliveries
        ]
        assert sorted(found) == ["first", "second"]
