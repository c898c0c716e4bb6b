from channels import route

from .consumers import (
    chat_join,
    chat_leave,
    chat_send,
    ws_connect,
    ws_disconnect,
    ws_receive,
)

websocket_routing = [
    route("websocket.connect", ws_connect, path=r"^/$"),
    route("websocket.receive", ws_receive, path=r"^/$"),
    route("websocket.disconnect", ws_disconnect, path=r"^/$"),
]

custom_routing = [
    route("chat.receive", chat_join, command="^join$"),
    route("chat.receive", chat_leave, command="^leave$"),
    route("chat.receive", chat_send, command="^send$"),
]
