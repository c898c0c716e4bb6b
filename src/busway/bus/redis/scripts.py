"""The scripts that run on the server; their text is in `lua/`, where each says what it does."""

from functools import cache, lru_cache
from hashlib import sha1
from importlib.resources import files

import msgspec


class Script(msgspec.Struct, frozen=True):
    """A script, and the name under which the server keeps it."""

    text: bytes
    digest: bytes


class _Sizes(dict[int, bytes]):
    """What stands between one argument and the next, of the size that is the key."""

    def __missing__(self, size: int) -> bytes:
        head = b"\r\n$%d\r\n" % size
        if size < _SMALL:
            self[size] = head
        return head


_SMALL = 4096
_sizes = _Sizes()


@lru_cache(maxsize=64)
def _head(digest: bytes, count: int) -> bytes:
    return b"*%d\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n$1\r\n1" % (3 + count, digest)


def command_of(script: Script, *arguments: bytes) -> bytes:
    """Return the call of a script as the server reads it; its key is the first argument.

    Exchanges are many, and the client's own way takes longer.
    """
    parts = [_head(script.digest, len(arguments))]
    for argument in arguments:
        parts += (_sizes[len(argument)], argument)
    parts.append(b"\r\n")
    return b"".join(parts)


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
