"""Which consumer takes which message: `busway serve busway.demo.routing:routing`."""

from busway import route
from busway.demo import consumers, pages

ROOM = r"/room/(?P<room>[a-z0-9-]{1,32})/"

routing = [
    route("websocket.connect", consumers.enter_lobby, path=r"^/ws/lobby/$"),
    route("websocket.receive", consumers.enter_lobby, path=r"^/ws/lobby/$"),
    route("websocket.connect", consumers.connect, path=rf"^/ws{ROOM}$"),
    route("websocket.receive", consumers.receive, path=rf"^/ws{ROOM}$"),
    route("websocket.disconnect", consumers.disconnect, path=rf"^/ws{ROOM}$"),
    route("http.request", pages.lobby, path=r"^/$"),
    route("http.request", pages.room, path=rf"^{ROOM}?$"),
    route("http.request", pages.asset, path=r"^/static/(?P<name>[a-z-]+\.[a-z]+)$"),
    route("http.request", pages.not_found),
]
