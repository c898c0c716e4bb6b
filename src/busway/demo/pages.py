"""The chat's pages and their files, answered over the bus like everything else."""

import hashlib
from importlib import resources
from pathlib import PurePath

from busway import Message

FILES = resources.files("busway.demo") / "static"
TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    b"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = [
    [b"content-security-policy", POLICY],
    [b"x-content-type-options", b"nosniff"],
    [b"referrer-policy", b"no-referrer"],
    [b"cross-origin-opener-policy", b"same-origin"],
]


def lobby(message: Message) -> None:
    """Answer the page where a name and a room are picked."""
    answer(message, "lobby.html")


def room(message: Message, **_: str) -> None:
    """Answer the page of a room; its script reads the room's name off the path."""
    answer(message, "room.html")


def asset(message: Message, name: str) -> None:
    """Answer a style sheet, a script or an image."""
    if PurePath(name).suffix in TYPES and (FILES / name).is_file():
        answer(message, name)
    else:
        not_found(message)


def not_found(message: Message) -> None:
    """Answer every path that leads nowhere."""
    answer(message, "not-found.html", status=404)


def answer(message: Message, name: str, *, status: int = 200) -> None:
    """Answer a GET or HEAD request with the file `name`; browsers keep it and ask if it changed."""
    if message["method"] not in ("GET", "HEAD"):
        allow = [b"allow", b"GET, HEAD"]
        message.reply_channel.send({"status": 405, "headers": [allow, *HEADERS], "content": b""})
        return
    content = (FILES / name).read_bytes()
    tag = b'"%s"' % hashlib.sha256(content).hexdigest()[:16].encode()
    headers = [
        [b"content-type", TYPES[PurePath(name).suffix]],
        [b"cache-control", b"no-cache"],
        [b"etag", tag],
        *HEADERS,
    ]
    if status == 200 and [b"if-none-match", tag] in [list(pair) for pair in message["headers"]]:
        status, content = 304, b""
    else:
        headers.append([b"content-length", b"%d" % len(content)])
    if message["method"] == "HEAD":
        content = b""
    message.reply_channel.send({"status": status, "headers": headers, "content": content})
