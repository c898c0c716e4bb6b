"""Channels and groups, with the alias of a layer in the settings."""

from busway.app import channels
from busway.bus.layer import ChannelLayer
from busway.django.layers import channel_layers


class Channel(channels.Channel):
    """A channel to send to: see `busway.app.channels.Channel`."""

    __slots__ = ()

    def __init__(
        self, name: str, alias: str | None = None, channel_layer: ChannelLayer | None = None
    ) -> None:
        """Take a full channel name, and the alias of its layer, or the layer.

        None for both: the running consumer's layer, or else the default one.
        """
        super().__init__(name, channel_layer=_layer(alias, channel_layer))


class Group(channels.Group):
    """A group of channels: see `busway.app.channels.Group`."""

    __slots__ = ()

    def __init__(
        self, name: str, alias: str | None = None, channel_layer: ChannelLayer | None = None
    ) -> None:
        """Take a group name, and the alias of its layer, or the layer.

        None for both: the running consumer's layer, or else the default one.
        """
        super().__init__(name, channel_layer=_layer(alias, channel_layer))


def _layer(alias: str | None, layer: ChannelLayer | None) -> ChannelLayer | None:
    return channel_layers[alias] if layer is None and alias is not None else layer
