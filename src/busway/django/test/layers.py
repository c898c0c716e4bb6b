"""Fresh channel layers for one test."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from busway.bus.layer import ChannelLayer
from busway.bus.memory import MemoryChannelLayer
from busway.django.layers import channel_layers


@contextmanager
def memory_layers(aliases: Iterable[str]) -> Iterator[Mapping[str, ChannelLayer]]:
    """Put an empty memory layer in place of each alias meanwhile; alias → layer is given.

    Raises `ConfigurationError` for an alias that is not in CHANNEL_LAYERS.
    """
    layers = {alias: MemoryChannelLayer() for alias in aliases}
    with replaced_layers(layers):
        yield layers


@contextmanager
def replaced_layers(layers: Mapping[str, ChannelLayer]) -> Iterator[None]:
    """Put `layers` in place of what their aliases stand for meanwhile, then close them."""
    with ExitStack() as stack:
        for layer in layers.values():
            stack.callback(layer.close)
        for alias, layer in layers.items():
            channel_layers.config(alias)
            stack.callback(channel_layers.set, alias, channel_layers.set(alias, layer))
        yield
