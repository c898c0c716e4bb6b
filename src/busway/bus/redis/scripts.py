"""The scripts that run on the server; their text is in `lua/`, where each says what it does."""

from functools import cache
from hashlib import sha1
from importlib.resources import files

import msgspec


class Script(msgspec.Struct, frozen=True):
    """A script, and the name under which the server keeps it."""

    text: bytes
    digest: bytes


_PARTS = {
    "beat": ("common", "burial", "beat"),
    "exchange": ("common", "exchange"),
    "flush": ("common", "flush"),
    "groups": ("common", "groups"),
    "hello": ("common", "hello"),
    "leave": ("common", "burial", "leave"),
    "mark": ("common", "mark"),
    "members": ("common", "members"),
    "peek": ("common", "peek"),
    "statistics": ("common", "burial", "statistics"),
}


@cache
def script(name: str) -> Script:
    """Return the script `name`."""
    folder = files("busway.bus.redis") / "lua"
    text = b"\n".join((folder / f"{part}.lua").read_bytes() for part in _PARTS[name])
    return Script(text, sha1(text, usedforsecurity=False).hexdigest().encode())
