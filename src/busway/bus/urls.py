"""Channel layers from URLs: `memory://`, `ipc://name?capacity=200`, or any installed scheme."""

import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from busway.bus.encryption import parse_keys
from busway.bus.errors import ConfigurationError
from busway.bus.layer import ChannelLayer


def open_layer(url: str) -> ChannelLayer:
    """Return the channel layer that `url` describes.

    The scheme names the backend (the entry-point group `busway.layers` holds them, so other
    distributions can add theirs), the rest goes to the backend's `from_url`. Query parameters
    are the backend's options, for example `ipc://chat?capacity=200&expiry=30`.

    Raises `ConfigurationError` for an unknown scheme or option.
    """
    return _backend(url).from_url(url)


def check_url(url: str) -> None:
    """Raise `ConfigurationError` when no layer can be made of `url`. Nothing is opened."""
    backend = _backend(url)
    backend.check_options(**backend.url_options(url))


def _backend(url: str) -> type[ChannelLayer]:
    scheme = urlsplit(url).scheme
    found = {point.name: point for point in entry_points(group="busway.layers")}
    if scheme not in found:
        known = ", ".join(f"{name}://" for name in sorted(found))
        raise ConfigurationError(f"no channel layer for {shown(url)!r}: expected one of {known}")
    backend: type[ChannelLayer] = found[scheme].load()
    return backend


def shown(url: str) -> str:
    """Return `url` without its secrets, for people and logs: user, password and keys."""
    return _USER.sub("***@", _OPTION.sub(r"\1***", url))


_USER = re.compile(r"(?<=://)([^?#]*|[^=]*)@")
"""Who forgets to quote a password may have "?" or "#" in it."""
_OPTION = re.compile(r"([?&][^=&]*(?:key|password|secret|token)[^=&]*=)[^&#]+", re.IGNORECASE)


def default_name() -> str:
    """Return the name of the bus that a process uses that is told no other.

    It is made of the current directory's name and a hash of its path: services in different
    directories would answer each other's clients, those in the same one belong together.
    """
    here = Path.cwd()
    name = re.sub(r"[^A-Za-z0-9\-_.]+", "-", here.name).strip("-.")[:31] or "busway"
    return f"{name}-{sha256(bytes(here)).hexdigest()[:8]}"


def default_url() -> str:
    """Return the URL of the layer that a process uses that is told no other."""
    return f"ipc://{default_name()}"


def query_options(url: str, kinds: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
    """Return the query parameters of `url`, converted to the types in `kinds`.

    Raises `ConfigurationError` for a parameter that is not in `kinds`, given twice, or of
    another type.
    """
    options: dict[str, Any] = {}
    for key, text in parse_qsl(urlsplit(url).query, keep_blank_values=True):
        if key not in kinds and "@" in key:  # part of a password
            raise ConfigurationError(
                f"{shown(url)!r} has '?' in its user or password; write it as %3F, as "
                "urllib.parse.quote(password, safe='') does"
            )
        if key not in kinds:
            known = ", ".join(sorted(kinds))
            raise ConfigurationError(f"unknown option {key!r} in {shown(url)!r}; known are {known}")
        if key in options:
            raise ConfigurationError(f"option {key!r} stands twice in {shown(url)!r}")
        try:
            options[key] = kinds[key](text)
        except ValueError:
            expected = getattr(kinds[key], "__name__", "something else")
            raise ConfigurationError(
                f"option {key!r} in {shown(url)!r} is {text!r}, expected {expected}"
            ) from None
    return options


LAYER_OPTIONS: dict[str, Callable[[str], Any]] = {
    "capacity": int,
    "expiry": float,
    "group_expiry": float,
    "message_size": int,
    "lane_capacity": int,
    "encryption_keys": parse_keys,
}
"""Options that every layer takes in its URL."""
