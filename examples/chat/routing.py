"""The channels of the chat."""

from busway.django import route
from chat import consumers

path = r"^/(?P<slug>[\w-]+)/$"
channel_routing = [
    route("websocket.connect", consumers.connect, path=path),
    route("websocket.receive", consumers.receive, path=path),
    route("websocket.disconnect", consumers.disconnect, path=path),
]
