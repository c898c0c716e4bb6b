"""Which consumer handles which message. Requests that are not named here go to the views."""

from busway.django import include

channel_routing = [
    include("chat.routing.channel_routing", path=r"^/chat"),
    include("tasks.routing.channel_routing", path=r"^/tasks"),
    include("news.routing.channel_routing"),
    include("thumbnails.routing.channel_routing"),
]
