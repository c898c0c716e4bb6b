"""The IPC layer keeps the contract."""

from collections.abc import Iterator
from functools import partial
from tempfile import TemporaryDirectory

import pytest

from busway.bus.conformance import Factory, Suite
from busway.bus.ipc import IPCChannelLayer


class TestIPC(Suite):
    """Every test of the contract, on the IPC layer."""

    across_processes = True

    @pytest.fixture
    def layer_factory(self) -> Iterator[Factory]:
        """Return what makes layers on a small bus of this test's own."""
        with TemporaryDirectory(dir="/dev/shm", prefix="busway-test-") as path:
            yield partial(IPCChannelLayer, name="test", directory=path, size=8 * 1024 * 1024)
