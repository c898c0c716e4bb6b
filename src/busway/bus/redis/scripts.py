"""The scripts that run on the server; their text is in `lua/`, where each says what it does."""

from functools import cache
from hashlib import sha1
from importlib.resources import files

import msgspec


class Script(msgspec.Struct, frozen=True):
    """A script, and the name under which the server keeps it."""

    text: bytes
    digest: bytes


_ALL = ("common", "queues", "all")

_PARTS = {
    "beat": (*_ALL, "burial", "beat"),
    "exchange": ("common", "queues", "others", "exchange"),
    "flush": (*_ALL, "flush"),
    "groups": ("common", "groups"),
    "hello": ("common", "hello"),
    "leave": (*_ALL, "burial", "leave"),
    "mark": ("common", "mark"),
    "members": ("common", "members"),
    "peek": (*_ALL, "peek"),
    "statistics": (*_ALL, "burial", "statistics"),
}

NAMES = tuple(_PARTS)
"""Names of all scripts."""


@cache
def script(name: str) -> Script:
    """Return the script `name`."""
    folder = files("busway.bus.redis") / "lua"
    text = b"\n".join((folder / f"{part}.lua").read_bytes() for part in _PARTS[name])
    return Script(text, sha1(text, usedforsecurity=False).hexdigest().encode())
