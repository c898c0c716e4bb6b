"""A shop in both arrangements: a WSGI site of its own, and consumers that can do the same."""

import hashlib
import os
from collections.abc import Iterable
from functools import cache
from wsgiref.types import StartResponse, WSGIEnvironment

from busway import Group, Message, body_chunks, respond, route
from busway.bus.layer import ChannelLayer
from busway.bus.urls import open_layer
from busway.interfaces.wsgi import WSGIApplication

NEWS = {"text": "a new order"}


@cache
def _layer() -> ChannelLayer:
    return open_layer(os.environ["BUSWAY_LAYER"])


def site(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Serve the shop in gunicorn itself."""
    if environ["PATH_INFO"] == "/order":
        _layer().group_send("orders", NEWS)
    if environ["PATH_INFO"] == "/digest":
        content = hashlib.sha256(environ["wsgi.input"].read()).hexdigest().encode()
    else:
        content = f"site {environ['PATH_INFO']} {environ['HTTP_HOST']}".encode()
    length = ("content-length", str(len(content)))
    start_response("200 OK", [("content-type", "text/plain"), length])
    return [content]


def adapter() -> WSGIApplication:
    """Return what hands requests to the consumers below."""
    return WSGIApplication(os.environ["BUSWAY_LAYER"], proxy_headers=True)


def page(message: Message) -> None:
    """Do as `site`, and say who asked."""
    if message["path"] == "/order":
        Group("orders").send(NEWS)
    if message["path"] == "/digest":
        found = hashlib.sha256()
        for chunk in body_chunks(message):
            found.update(chunk)
        respond(message, found.hexdigest())
        return
    host = dict(message["headers"])[b"host"].decode()
    respond(message, f"{_client(message)} {message['path']} {host}")


def connect(message: Message) -> None:
    """Accept, and tell the client who it is."""
    message.reply_to().send({"accept": True, "text": _client(message)})
    Group("orders").add(message.reply_to())


def _client(message: Message) -> str:
    return f"{message['scheme']}://{message['client'][0]}"


routing = [
    route("http.request", page),
    route("websocket.connect", connect, path="^/ws/orders$"),
]
