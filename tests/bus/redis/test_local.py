"""An IPC layer for each machine and Redis between them keep the contract."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory

import pytest

from busway.bus.conformance import Factory, Suite
from busway.bus.errors import ConfigurationError
from busway.bus.ipc import IPCChannelLayer
from busway.bus.redis import RedisLocalChannelLayer
from busway.bus.urls import check_url, open_layer
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
