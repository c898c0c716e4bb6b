"""How a WebSocket ends when it is this server that ends it."""

import msgspec

from busway.interfaces.web.replies import Headers


class Ending(msgspec.Struct, frozen=True, gc=False):
    """How a connection ends: a close frame, or before it is open an HTTP response."""

    code: int
    reason: str = ""
    status: int = 503
    headers: Headers = []
    content: bytes = b""


LOST = Ending(1006)
SLOW = Ending(1013, "too slow; reconnect")
RESTART = Ending(1012, "service restart; reconnect")
EXPIRED = Ending(1001, "longest connection time reached; reconnect")
_RETRY = [(b"retry-after", b"1")]
UNAVAILABLE = Ending(1013, "busy; reconnect", 503, _RETRY, b"The service is busy. Try again.")
UNANSWERED = Ending(1013, "no answer; reconnect", 503, _RETRY, b"Nobody answered in time.")
FAULT = Ending(1011, "internal error", 500, [], b"Internal error.")
TOO_BIG = Ending(1009, "message too big for the bus")
