"""A site in workers, and the WSGI applications that hand requests to it."""

import hashlib
import os
from collections.abc import Iterator

from busway import Message, RequestAborted, body_chunks, respond, route, stream_response
from busway.interfaces.wsgi import WSGIApplication

CHUNK = bytes(range(256)) * 1024
"""256 KiB."""


def hello(message: Message) -> None:
    """Answer with the query, in capitals."""
    respond(message, message["query_string"].decode().upper())


def digest(message: Message) -> None:
    """Answer with the digest of what was uploaded."""
    found = hashlib.sha256()
    for chunk in body_chunks(message):
        found.update(chunk)
    respond(message, found.hexdigest())


def echo(message: Message) -> None:
    """Answer with the body while it comes."""
    stream_response(message, body_chunks(message))


def download(message: Message) -> None:
    """Answer with as many chunks as the query says."""
    stream_response(message, [CHUNK] * int(message["query_string"]))


def _endless() -> Iterator[bytes]:
    while True:
        yield CHUNK


def endless(message: Message) -> None:
    """Answer until the client goes, and say so."""
    try:
        stream_response(message, _endless())
    except RequestAborted:
        print("aborted", flush=True)  # noqa: T201
        raise


def gone(message: Message) -> None:
    """Say that the bus was told of a client that has gone."""
    print("gone from", message["path"], flush=True)  # noqa: T201


routing = [
    route("http.request", hello, path="^/hello$"),
    route("http.request", digest, path="^/digest$"),
    route("http.request", echo, path="^/echo$"),
    route("http.request", download, path="^/download$"),
    route("http.request", endless, path="^/endless$"),
    route("http.disconnect", gone),
]


def make() -> WSGIApplication:
    """Return the application, for a server."""
    return WSGIApplication(os.environ["BUSWAY_LAYER"])
