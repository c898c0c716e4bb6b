"""An IPC layer for each machine and Redis between them keep the contract."""

import asyncio
import select
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from bus.topics import LONG, OfServers
from busway.bus.conformance import Factory, Suite
from busway.bus.errors import ConfigurationError
from busway.bus.ipc import IPCChannelLayer
from busway.bus.local_and_remote_receiver import LocalAndRemoteReceiver
from busway.bus.operations import Outcome, Send
from busway.bus.redis import RedisLocalChannelLayer, links
from busway.bus.urls import check_url, open_layer
from servers.redis import RedisServer

MIB = 1 << 20


class TestIPCAndRedis(Suite if LONG else OfServers):  # type: ignore[misc]
    """The contract on this machine's bus and a server."""

    across_processes = True

    @pytest.fixture
    def layer_factory(self, redis_server: RedisServer) -> Iterator[Factory]:
        """Return what makes layers on two buses of this test's own."""
        with TemporaryDirectory(dir="/dev/shm", prefix="busway-test-") as path:
            yield partial(
                RedisLocalChannelLayer,
                redis_server.unix_url,
                directory=path,
                size=8 * MIB,
                prefix=token_hex(4),
            )

    # See `TestLocalAndRemote`: these are about members of a group that are ordinary channels.
    test_a_full_member_is_skipped_and_counted = None
    test_an_exchange_does_what_finds_room_and_returns_the_rest = None
    test_drops_are_counted_by_reason = None
    test_channels_leave_their_groups_when_a_message_to_them_expires_unread = None
    test_the_layer_behaves_like_the_model = None


@pytest.fixture
def layer(redis_server: RedisServer) -> Iterator[RedisLocalChannelLayer]:
    with TemporaryDirectory(dir="/dev/shm", prefix="busway-test-") as path:
        found = RedisLocalChannelLayer(
            redis_server.unix_url, directory=path, size=8 * MIB, prefix=token_hex(4)
        )
        yield found
        found.close()


async def test_who_is_woken_before_the_answer_has_come_looks_again(
    layer: RedisLocalChannelLayer,
) -> None:
    question = ((), (), ["proc.x!"], 9)
    async with layer.receiver() as receiver:
        await receiver.aexchange(*question, wake_below=9)  # connects
        layer.send("proc.x!y", {"n": 1})
        await receiver.aexchange(*question)
        asking = asyncio.create_task(receiver.aexchange(*question, wake_below=9, hold=False))
        await asyncio.sleep(0)  # now it is asked
        layer.send("proc.x!y", {"n": 2})
        select.select([receiver.fileno()], [], [], 1)
        receiver.drain()
        found = (await asking).deliveries
        assert found or (await receiver.aexchange(*question, hold=False)).deliveries


def test_what_stays_on_the_machine_asks_nothing_of_redis(
    server: RedisServer, bus_place: Path
) -> None:
    def asked() -> int:
        return sum(each["calls"] for each in server.info("commandstats").values())

    layer = RedisLocalChannelLayer(server.unix_url, directory=bus_place / "bus", size=8 * MIB)
    with closing(layer), layer.receiver() as receiver:
        assert receiver.exchange((), (), ["work"], 9, wake_below=1).deliveries == []
        before = asked()
        for n in range(100):
            layer.send("work", {"n": n})
            assert receiver.wait(10)
            held = receiver.exchange((), (), ["work"], 9, wake_below=1).deliveries
            assert [each.message for each in held] == [{"n": n}]
            assert receiver.exchange((), held, ["work"], 9, wake_below=1).deliveries == []
        assert asked() - before < 50  # it says that it is alive


def test_what_is_done_here_is_done_once_though_redis_cannot_be_told_of_the_rest(
    bus_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "PERSISTENCE", 0.1)
    with RedisServer(persistent=True, options={"appendfsync": "always"}) as server:
        layer = RedisLocalChannelLayer(
            server.unix_url,
            directory=bus_place / "bus",
            size=8 * MIB,
            policies={"work": {"ordering": "key"}},
        )
        with closing(layer), layer.receiver() as receiver:
            assert isinstance(receiver, LocalAndRemoteReceiver)
            layer.group_add("group", "work")
            for n in range(2):
                layer.group_send("group", {"key": "a", "n": n})
            held = receiver.exchange((), (), ["work"], 9).deliveries
            exchange = receiver._local.exchange

            def vanish(*args: Any, **options: Any) -> Outcome:
                server.kill()
                return exchange(*args, **options)

            monkeypatch.setattr(receiver._local, "exchange", vanish)
            operations = [Send("here", {})]
            receiver.exchange(operations, held)
            monkeypatch.undo()
            server.start()
            assert layer.local.statistics("here").messages_pending == 1
            receiver.exchange()
            found = receiver.exchange((), (), ["work"], 9).deliveries
            assert [each.message["n"] for each in held + found] == [0, 1]


# -- what describes it -------------------------------------------------------------------------


def test_a_url_describes_both_parts(redis_server: RedisServer, bus_place: Path) -> None:
    place = f"local=chat&directory={bus_place}/bus&size={MIB}&prefix={token_hex(4)}"
    options = "capacity=7&message_size=1000&encryption_keys=a+key+of+many+letters"
    with closing(open_layer(f"local+{redis_server.unix_url}?{place}&{options}")) as layer:
        assert isinstance(layer, RedisLocalChannelLayer)
        assert isinstance(layer.local, IPCChannelLayer)
        assert layer.local.name == "chat"
        for part in (layer, layer.local, layer.remote):
            assert (part.policies.find("work")[1].capacity, part.message_size) == (7, 1000)
        assert layer.local.seal
        assert layer.remote.seal
        assert [shard.healthy for shard in layer.shards()] == [True, True]


@pytest.mark.parametrize(
    "url",
    [
        "local+redis://user:secret@host:6379/0?local=chat&prefix=chat",
        "local+redis://one,two,three",
        "local+rediss://host?ssl_ca_certs=/etc/ssl/redis.pem&size=4194304",
        "local+unix:///run/redis.sock?db=1",
        "local+redis+cluster://one:7000,two:7000?slots=8",
        "local+rediss+cluster://one:7000",
        "local+redis+sentinel://one:26379/main,other",
        "local+rediss+sentinel://one:26379/main",
    ],
)
def test_every_url_of_redis_may_have_a_local_part(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("local+redis://host?local=no/name", "no/name"),
        ("local+redis://host?size=1", "size"),
        ("local+redis://host?slots=8", "'slots' is for a cluster"),
        ("local+redis://host?colour=red", "unknown option 'colour'.*local"),
        ("local+redis://host?capacity=0", "capacity"),
        ("local+redis+sentinel://one:26379", "names no service"),
        ("redis://host?local=chat", "unknown option 'local'"),
    ],
)
def test_what_is_wrong_is_said_without_opening_anything(url: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        check_url(url)
