"""The public types of the bus, for users with a type checker; mypy does the testing."""

from collections.abc import Mapping
from typing import Any, assert_type

from busway.bus.layer import ChannelLayer
from busway.bus.memory import MemoryChannelLayer
from busway.bus.operations import Delivery, Outcome, Refusal, Return, Send
from busway.bus.receiver import Receiver
from busway.bus.statistics import Statistics
from busway.bus.urls import open_layer


def test_the_operations_have_the_types_of_the_contract() -> None:
    layer = MemoryChannelLayer()
    assert_type(layer.send("a", {"n": 1}, delay=0.0), None)
    assert_type(layer.receive(["a"], timeout=None), tuple[str, dict[str, Any]] | tuple[None, None])
    assert_type(layer.group_add("g", "a"), None)
    assert_type(layer.group_channels("g"), list[str])
    assert_type(layer.new_channel("a?"), str)
    assert_type(layer.statistics(), Statistics)
    assert_type(layer.statistics("a").dropped, Mapping[str, int])
    layer.close()


async def test_the_twins_have_the_types_of_the_operations() -> None:
    layer = MemoryChannelLayer()
    assert_type(await layer.asend("a", {"n": 1}), None)
    assert_type(await layer.areceive(["a"]), tuple[str, dict[str, Any]] | tuple[None, None])
    assert_type(await layer.agroup_channels("g"), list[str])
    assert_type(await layer.astatistics(), Statistics)
    layer.close()


def test_an_exchange_has_the_types_of_the_contract() -> None:
    layer = open_layer("memory://")
    assert_type(layer, ChannelLayer)
    with layer.receiver() as receiver:
        assert_type(receiver, Receiver)
        outcome = receiver.exchange([Send("a", {})], (), ["a"], 1)
        assert_type(outcome, Outcome)
        assert_type(outcome.deliveries, list[Delivery])
        assert_type(outcome.refused, list[Refusal])
        assert_type(outcome.deliveries[0].members, tuple[str, ...])
        assert_type(receiver.wait(0), bool)
        receiver.exchange([Return(outcome.deliveries[0])])
    layer.close()
