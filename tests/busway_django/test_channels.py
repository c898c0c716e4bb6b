"""Channels and groups with aliases."""

from busway.bus.memory import MemoryChannelLayer
from busway.django import Channel, Group, channel_layers


def test_a_layer_counts_before_an_alias() -> None:
    layer = MemoryChannelLayer()
    assert Channel("jobs", channel_layer=layer).channel_layer is layer
    assert Group("all", alias="default", channel_layer=layer).channel_layer is layer
    layer.close()


def test_without_either_it_is_the_current_layer() -> None:
    assert Channel("jobs").channel_layer is None
    assert Channel("jobs", alias="default").channel_layer is channel_layers["default"]
