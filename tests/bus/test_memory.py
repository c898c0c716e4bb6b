"""The memory layer keeps the contract."""

import pytest

from busway.bus.conformance import Factory, Suite
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
