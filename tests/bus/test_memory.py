"""The memory layer keeps the contract."""

import gc
import weakref

import pytest

from busway.bus.conformance import Factory, Suite
from busway.bus.errors import ChannelFull
from busway.bus.memory import MemoryChannelLayer


class TestMemory(Suite):
    """Every test of the contract, on the memory layer."""

    @pytest.fixture
    def layer_factory(self) -> Factory:
        """Return the same layer to everybody."""
        made: list[MemoryChannelLayer] = []

        def make(**options: object) -> MemoryChannelLayer:
            if not made:
                made.append(MemoryChannelLayer(**options))
            return made[0]

        return make


def test_an_error_that_was_handled_is_not_kept() -> None:
    layer = MemoryChannelLayer(capacity=1)
    layer.send("work", {})
    errors = []
    for _ in range(3):
        try:
            layer.send("work", {})
        except ChannelFull as error:
            errors.append(weakref.ref(error))
    gc.collect()
    assert [error() for error in errors] == [None] * 3
    layer.close()
