"""The life of a connection as tables: what happens in which state, and what is then done.

Pure data. `websocket` and `http` carry the actions out; the adapters below them know a server.
"""

from collections.abc import Mapping
from enum import IntEnum, StrEnum


class WS(IntEnum):
    """States of a WebSocket."""

    CONNECTING = 0
    """The handshake is held until a worker accepts or denies it."""
    OPEN = 1
    CLOSING = 2
    """A close frame was sent; the client's, or the end of the transport, is awaited."""
    CLOSED = 3


# Every message is held against a state, and a look-up in an Enum is a slow one in Python 3.11.
CONNECTING, OPEN, CLOSING, CLOSED = WS.CONNECTING, WS.OPEN, WS.CLOSING, WS.CLOSED


class WSEvent(IntEnum):
    """What can happen to a WebSocket."""

    # from the client
    MESSAGE = 0
    CLOSE_FRAME = 1
    BROKE_PROTOCOL = 2
    LOST = 3
    """The transport ended."""
    # from workers
    ACCEPT = 4
    SEND = 5
    CLOSE = 6
    # from this server
    REFUSED = 7
    """There was no room on the bus for the connect."""
    CUT = 8
    """It has to end now: slow client, shutdown, lifetime, timeout of the connect, bad reply."""
    DEAD = 9
    """The client did not answer a ping, or a close, in time."""


class WSAction(StrEnum):
    """What is done; the methods of `WebSocketConnection` have these names."""

    ACCEPT = "_accept"
    """Complete the handshake, then forward what was held."""
    DENY = "_deny"
    """Answer the handshake with an HTTP status."""
    HOLD = "_hold"
    FORWARD = "_forward"
    """Send the client's message to the bus."""
    WRITE = "_write"
    CLOSE = "_close"
    """Send a close frame, and give the client some time to answer it."""
    ECHO = "_echo"
    """Answer the client's close frame and end the transport."""
    END = "_end"
    """End the transport once everything is written."""
    ABORT = "_abort"
    """End the transport now."""
    DISCONNECT = "_disconnect"
    """Tell the bus that the connection is gone."""
    FORGET = "_forget"
    """Nobody was told of the connection, or who was told ended it: only take it off the books."""
    DROP = "_drop"
    """Count a reply that came too late."""


_S, _E, _A = WS, WSEvent, WSAction

WEBSOCKET: Mapping[tuple[WS, WSEvent], tuple[WS, tuple[WSAction, ...]]] = {
    (_S.CONNECTING, _E.MESSAGE): (_S.CONNECTING, (_A.HOLD,)),
    (_S.CONNECTING, _E.CLOSE_FRAME): (_S.CLOSED, (_A.DISCONNECT, _A.END)),
    (_S.CONNECTING, _E.BROKE_PROTOCOL): (_S.CLOSED, (_A.DISCONNECT, _A.DENY)),
    (_S.CONNECTING, _E.LOST): (_S.CLOSED, (_A.DISCONNECT,)),
    (_S.CONNECTING, _E.ACCEPT): (_S.OPEN, (_A.ACCEPT,)),
    (_S.CONNECTING, _E.SEND): (_S.OPEN, (_A.ACCEPT, _A.WRITE)),
    (_S.CONNECTING, _E.CLOSE): (_S.CLOSED, (_A.FORGET, _A.DENY)),
    (_S.CONNECTING, _E.REFUSED): (_S.CLOSED, (_A.FORGET, _A.DENY)),
    (_S.CONNECTING, _E.CUT): (_S.CLOSED, (_A.DISCONNECT, _A.DENY)),
    (_S.CONNECTING, _E.DEAD): (_S.CLOSED, (_A.DISCONNECT, _A.ABORT)),
    (_S.OPEN, _E.MESSAGE): (_S.OPEN, (_A.FORWARD,)),
    (_S.OPEN, _E.CLOSE_FRAME): (_S.CLOSED, (_A.DISCONNECT, _A.ECHO)),
    (_S.OPEN, _E.BROKE_PROTOCOL): (_S.CLOSING, (_A.DISCONNECT, _A.CLOSE)),
    (_S.OPEN, _E.LOST): (_S.CLOSED, (_A.DISCONNECT,)),
    (_S.OPEN, _E.ACCEPT): (_S.OPEN, ()),
    (_S.OPEN, _E.SEND): (_S.OPEN, (_A.WRITE,)),
    (_S.OPEN, _E.CLOSE): (_S.CLOSING, (_A.DISCONNECT, _A.CLOSE)),
    (_S.OPEN, _E.REFUSED): (_S.OPEN, ()),
    (_S.OPEN, _E.CUT): (_S.CLOSING, (_A.DISCONNECT, _A.CLOSE)),
    (_S.OPEN, _E.DEAD): (_S.CLOSED, (_A.DISCONNECT, _A.ABORT)),
    (_S.CLOSING, _E.MESSAGE): (_S.CLOSING, ()),
    (_S.CLOSING, _E.CLOSE_FRAME): (_S.CLOSED, (_A.END,)),
    (_S.CLOSING, _E.BROKE_PROTOCOL): (_S.CLOSED, (_A.END,)),
    (_S.CLOSING, _E.LOST): (_S.CLOSED, ()),
    (_S.CLOSING, _E.ACCEPT): (_S.CLOSING, (_A.DROP,)),
    (_S.CLOSING, _E.SEND): (_S.CLOSING, (_A.DROP,)),
    (_S.CLOSING, _E.CLOSE): (_S.CLOSING, ()),
    (_S.CLOSING, _E.REFUSED): (_S.CLOSING, ()),
    (_S.CLOSING, _E.CUT): (_S.CLOSING, ()),
    (_S.CLOSING, _E.DEAD): (_S.CLOSED, (_A.ABORT,)),
    (_S.CLOSED, _E.MESSAGE): (_S.CLOSED, ()),
    (_S.CLOSED, _E.CLOSE_FRAME): (_S.CLOSED, ()),
    (_S.CLOSED, _E.BROKE_PROTOCOL): (_S.CLOSED, ()),
    (_S.CLOSED, _E.LOST): (_S.CLOSED, ()),
    (_S.CLOSED, _E.ACCEPT): (_S.CLOSED, (_A.DROP,)),
    (_S.CLOSED, _E.SEND): (_S.CLOSED, (_A.DROP,)),
    (_S.CLOSED, _E.CLOSE): (_S.CLOSED, ()),
    (_S.CLOSED, _E.REFUSED): (_S.CLOSED, ()),
    (_S.CLOSED, _E.CUT): (_S.CLOSED, ()),
    (_S.CLOSED, _E.DEAD): (_S.CLOSED, (_A.ABORT,)),
}


class HTTP(IntEnum):
    """States of an HTTP request."""

    WAITING = 0
    """No worker has answered."""
    STREAMING = 1
    """The first part of the response was sent, more is to come."""
    DONE = 2


WAITING, DONE = HTTP.WAITING, HTTP.DONE  # see `CONNECTING`


class HTTPEvent(IntEnum):
    """What can happen to an HTTP request."""

    PART = 0
    """A part of the response, not the last."""
    LAST = 1
    """The last part, or the only one."""
    GONE = 2
    """The client went away."""
    REFUSED = 3
    """There was no room on the bus for the request."""
    LATE = 4
    """No worker answered in time, or one that streams fell silent."""
    STALLED = 5
    """The client stopped sending its body."""
    CUT = 6
    """The client is too slow for the response, or the server stops."""
    FAULT = 7
    """A worker's reply cannot be sent, or the worker gives the response up."""


class HTTPAction(StrEnum):
    """What is done; the methods of `HTTPConnection` have these names."""

    WRITE = "_write"
    ANSWER = "_answer"
    """Send a response of the server's own."""
    ABORT = "_abort"
    """End the transport, so that the client sees that the response is not whole."""
    FINISH = "_finish"
    """Take it off the books."""
    DISCONNECT = "_disconnect"
    """Tell the bus that nobody waits for a response any more; take it off the books."""
    DROP = "_drop"
    """Count a reply that came too late."""


_T, _V, _B = HTTP, HTTPEvent, HTTPAction

# What ends a request comes last: the next one on the connection begins there and then.
REQUEST: Mapping[tuple[HTTP, HTTPEvent], tuple[HTTP, tuple[HTTPAction, ...]]] = {
    (_T.WAITING, _V.PART): (_T.STREAMING, (_B.WRITE,)),
    (_T.WAITING, _V.LAST): (_T.DONE, (_B.FINISH, _B.WRITE)),
    (_T.WAITING, _V.GONE): (_T.DONE, (_B.DISCONNECT,)),
    (_T.WAITING, _V.REFUSED): (_T.DONE, (_B.FINISH, _B.ANSWER)),
    (_T.WAITING, _V.LATE): (_T.DONE, (_B.DISCONNECT, _B.ANSWER)),
    (_T.WAITING, _V.STALLED): (_T.DONE, (_B.DISCONNECT, _B.ANSWER)),
    (_T.WAITING, _V.CUT): (_T.DONE, (_B.DISCONNECT, _B.ANSWER)),
    (_T.WAITING, _V.FAULT): (_T.DONE, (_B.DISCONNECT, _B.ANSWER)),
    (_T.STREAMING, _V.PART): (_T.STREAMING, (_B.WRITE,)),
    (_T.STREAMING, _V.LAST): (_T.DONE, (_B.FINISH, _B.WRITE)),
    (_T.STREAMING, _V.GONE): (_T.DONE, (_B.DISCONNECT,)),
    (_T.STREAMING, _V.REFUSED): (_T.STREAMING, ()),
    (_T.STREAMING, _V.LATE): (_T.DONE, (_B.DISCONNECT, _B.ABORT)),
    (_T.STREAMING, _V.STALLED): (_T.DONE, (_B.DISCONNECT, _B.ABORT)),
    (_T.STREAMING, _V.CUT): (_T.DONE, (_B.DISCONNECT, _B.ABORT)),
    (_T.STREAMING, _V.FAULT): (_T.DONE, (_B.DISCONNECT, _B.ABORT)),
    (_T.DONE, _V.PART): (_T.DONE, (_B.DROP,)),
    (_T.DONE, _V.LAST): (_T.DONE, (_B.DROP,)),
    (_T.DONE, _V.GONE): (_T.DONE, ()),
    (_T.DONE, _V.REFUSED): (_T.DONE, ()),
    (_T.DONE, _V.LATE): (_T.DONE, ()),
    (_T.DONE, _V.STALLED): (_T.DONE, ()),
    (_T.DONE, _V.CUT): (_T.DONE, ()),
    (_T.DONE, _V.FAULT): (_T.DONE, ()),
}
