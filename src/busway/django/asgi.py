"""The layers of the settings; the module's name is that of Channels 1."""

from busway.django.layers import channel_layers, get_channel_layer

__all__ = ["channel_layers", "get_channel_layer"]
