from channels import include, route
from chat.consumers import http_health

# Everything below /chat/stream/ is for the chat's sockets. Commands do not have a
# path: they are dispatched again on a channel of our own, by their name.
channel_routing = [
    route("http.request", http_health, path=r"^/health/$", method="GET"),
    include("chat.routing.websocket_routing", path=r"^/chat/stream"),
    include("chat.routing.custom_routing"),
]
