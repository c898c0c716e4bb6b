"""The channels of the thumbnails. "thumbnails.make" is one of our own: the view sends to it."""

from busway.django import route
from thumbnails import consumers

channel_routing = [
    route("thumbnails.make", consumers.make),
    route("websocket.connect", consumers.connect, path=r"^/thumbnails/$"),
]
