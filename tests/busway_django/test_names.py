"""A project moves by replacing `channels` by `busway.django` in its imports."""

from importlib import import_module

import pytest

NAMES = {
    "": "Channel Group route route_class include channel_layers DEFAULT_CHANNEL_LAYER",
    ".asgi": "channel_layers get_channel_layer",
    ".binding": "Binding",
    ".binding.base": "Binding CREATE UPDATE DELETE",
    ".binding.websockets": "WebsocketBinding WebsocketBindingWithMembers",
    ".channel": "Channel Group",
    ".exceptions": "ConsumeLater DenyConnection ResponseLater RequestTimeout RequestAborted "
    "ChannelSocketException WebsocketCloseException SendNotAvailableOnDemultiplexer "
    "InvalidChannelLayerError",
    ".generic": "BaseConsumer",
    ".generic.base": "BaseConsumer",
    ".generic.websockets": "WebsocketConsumer JsonWebsocketConsumer WebsocketDemultiplexer "
    "WebsocketMultiplexer",
    ".handler": "AsgiRequest AsgiHandler",
    ".message": "Message",
    ".routing": "Router Route Include route route_class include null_consumer",
    ".signals": "consumer_started consumer_finished worker_ready worker_process_ready",
    ".staticfiles": "StaticFilesHandler StaticFilesConsumer",
    ".worker": "Worker",
}


@pytest.mark.parametrize("module", NAMES)
def test_a_module_has_the_names_of_channels_1(module: str) -> None:
    found = import_module(f"busway.django{module}")
    for name in NAMES[module].split():
        assert hasattr(found, name), name
