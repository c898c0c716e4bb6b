from channels import include

# Everything below /chat/stream/ is for the chat's sockets. Commands do not have a
# path: they are dispatched again on a channel of our own, by their name.
channel_routing = [
    include("chat.routing.websocket_routing", path=r"^/chat/stream"),
    include("chat.routing.custom_routing"),
]
