"""What the user's words on the command line name: a routing, a channel layer."""

import sys
from pathlib import Path
from urllib.parse import urlsplit

from busway.app.routing import Router
from busway.bus.errors import BuswayError, ConfigurationError
from busway.bus.layer import ChannelLayer
from busway.bus.urls import open_layer, shown
from busway.cli.command import place_of


def use_current_directory() -> None:
    """Let modules in the current directory be imported, before all others."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def load_router(path: str) -> Router:
    """Import the routing "MODULE:ROUTING" and compile it.

    Raises `ConfigurationError`, also for whatever the module raises.
    """
    use_current_directory()
    try:
        return Router(path)
    except BuswayError:
        raise
    except (Exception, SystemExit) as error:
        what = str(error).splitlines()[0] if str(error) else ""
        if isinstance(error, SyntaxError):
            what = error.msg
        raise ConfigurationError(
            f"{path!r} cannot be imported: {type(error).__name__}: {what} "
            f"({place_of(error)}); mend it, or run with --debug for the traceback"
        ) from error


def open_shared_layer(url: str, command: str) -> ChannelLayer:
    """Open the channel layer of a process that is one of several.

    Raises `ConfigurationError` for one that lives in a single process, or that is wrong.
    """
    if urlsplit(url).scheme == "memory":
        raise ConfigurationError(
            f"{shown(url)!r} stays in one process, and 'busway {command}' is one of several that "
            "talk over the channel layer; leave --layer out, or name a shared one like ipc://chat"
        )
    return open_layer(url)
