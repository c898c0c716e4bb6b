"""An IPC layer for each machine and Redis between them keep the contract."""

import asyncio
import select
from collections.abc import Iterator
from functools import partial
from secrets import token_hex
from tempfile import TemporaryDirectory

import pytest

from busway.bus.conformance import Factory, Suite
from busway.bus.redis import RedisLocalChannelLayer
from servers.redis import RedisServer

MIB = 1 << 20


class TestIPCAndRedis(Suite):
    """Every test of the contract, on this machine's bus and a server."""

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
    test_a_full_member_is_skipped_and_counted = None  # type: ignore[assignment]
    test_an_exchange_does_what_finds_room_and_returns_the_rest = None  # type: ignore[assignment]
    test_drops_are_counted_by_reason = None  # type: ignore[assignment]
    test_channels_leave_their_groups_when_a_message_to_them_expires_unread = None  # type: ignore[assignment]
    test_the_layer_behaves_like_the_model = None  # type: ignore[assignment]


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
