"""The grammar of channel and group names, and new random names.

A name is ASCII letters, digits, "-", "_" and "."; shorter than 100 characters.
A channel name may hold one "?" or one "!" after its first character:

- *Normal* `name`: many readers, each message goes to one of them.
- *Single-reader* `name?random`: one reader, who reads it by its full name.
- *Process-specific* `prefix!local`: its process reads everything for `prefix!` at once.
"""

import re
import secrets
from functools import lru_cache

from busway.bus.errors import InvalidName

MAX_LENGTH = 99
"""Longest name, in characters."""

_WORD = r"[A-Za-z0-9\-_.]"
_CHANNEL = re.compile(rf"{_WORD}+(?:[?!]{_WORD}*)?", re.ASCII)
_GROUP = re.compile(rf"{_WORD}+", re.ASCII)
_CHANNEL_GRAMMAR = (
    f"1 to {MAX_LENGTH} of ASCII letters, digits, '-', '_', '.', "
    "and at most one '?' or '!' after the first of them"
)
_GROUP_GRAMMAR = f"1 to {MAX_LENGTH} of ASCII letters, digits, '-', '_', '.'"


def check_channel(name: object) -> None:
    """Raise `InvalidName` when `name` is not the name of one channel.

    A bare prefix ("name!" or "name?") is not: nothing can be sent there.
    """
    if not isinstance(name, str):
        raise InvalidName(name, _CHANNEL_GRAMMAR)
    if not _is_sendable(name):
        if not _is_channel(name):
            raise InvalidName(name, _CHANNEL_GRAMMAR)
        raise InvalidName(name, f"a full channel name; {name!r} is a prefix, see new_channel()")


def check_group(name: object) -> None:
    """Raise `InvalidName` when `name` is not a group name."""
    if not isinstance(name, str) or not _is_group(name):
        raise InvalidName(name, _GROUP_GRAMMAR)


def check_receivable(name: object) -> None:
    """Raise `InvalidName` when nothing can be received under `name`.

    Process-specific channels are received by their prefix, up to and including the "!".
    """
    if not isinstance(name, str) or not _is_channel(name):
        raise InvalidName(name, _CHANNEL_GRAMMAR)
    if name[-1] == "?" or ("!" in name and name[-1] != "!"):
        raise InvalidName(
            name, "a normal channel, a full 'name?random', or a prefix that ends with '!'"
        )


@lru_cache(maxsize=4096)
def _is_sendable(name: str) -> bool:
    return _is_channel(name) and name[-1] not in "?!"


@lru_cache(maxsize=4096)
def _is_channel(name: str) -> bool:
    return len(name) <= MAX_LENGTH and _CHANNEL.fullmatch(name) is not None


@lru_cache(maxsize=4096)
def _is_group(name: str) -> bool:
    return len(name) <= MAX_LENGTH and _GROUP.fullmatch(name) is not None


def address(channel: str) -> str:
    """Return the name under which a channel's messages queue: the prefix up to "!", or itself."""
    cut = channel.find("!")
    return channel if cut < 0 else channel[: cut + 1]


@lru_cache(maxsize=4096)
def family(channel: str) -> str:
    """Return the part of a channel's name that policies match: without what is random after ?/!."""
    for mark in "!?":
        cut = channel.find(mark)
        if cut >= 0:
            return channel[: cut + 1]
    return channel


def random_part() -> str:
    """Return 12 characters that nobody can guess or meets twice (72 bits)."""
    return secrets.token_urlsafe(9)


def new_channel(pattern: object) -> str:
    """Return a new, unused channel name.

    `pattern` ends with "?" (single-reader) or "!" (process-specific); a random part is added.
    Raises `InvalidName` for anything else.
    """
    if not isinstance(pattern, str) or pattern[-1:] not in ("?", "!"):
        raise InvalidName(pattern, "a prefix that ends with '?' or '!'")
    name = pattern + random_part()
    check_channel(name)
    return name


def new_process_prefix(name: str) -> str:
    """Return `name.random!`, a prefix for the process-specific channels of one process."""
    prefix = f"{name}.{random_part()}!"
    check_receivable(prefix)
    return prefix
