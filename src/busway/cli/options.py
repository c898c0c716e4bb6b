"""The options that several commands share, each defined once."""

from collections.abc import Callable
from typing import Any

import click
import msgspec

from busway.bus.urls import default_url
from busway.cli.command import Option
from busway.interfaces.web.options import WebOptions

_DEFAULTS: dict[str, Any] = {
    field.name: field.default for field in msgspec.structs.fields(WebOptions)
}
_FILE = click.Path(exists=True, dir_okay=False)


def _web(section: str, field: str, *flags: str, text: str, **settings: Any) -> Option:
    """Return the option for a field of `WebOptions`, with its default."""
    default = _DEFAULTS[field]
    if isinstance(default, float):
        settings.setdefault("metavar", "SECONDS")
    if default is not None and not settings.get("multiple"):
        settings.setdefault("default", default)
    # A default in the help is for values, not for switches and "nothing".
    settings.setdefault("show_default", default not in (None, "", (), False))
    return Option(*flags, field, section=section, help=text, **settings)


_LISTEN = "Where to listen"
_HTTP = "HTTP"
_SOCKET = "WebSocket"
_CLIENTS = "Clients and proxies"
_PROCESS = "Processes"
_LOG = "Log"

LISTEN: tuple[Option, ...] = (
    _web(_LISTEN, "host", "--host", "-b", "--bind", text="Address, IPv4 or IPv6, or name."),
    _web(_LISTEN, "port", "--port", "-p", type=click.IntRange(0, 65535), text="0: a free one."),
    _web(_LISTEN, "unix_socket", "--unix-socket", "-u", metavar="PATH", text="Instead of TCP."),
    _web(
        _LISTEN, "fd", "--fd", type=click.IntRange(0), metavar="NUMBER",
        text="Descriptor of an inherited listening socket, instead of TCP.",
    ),
    _web(
        _LISTEN, "tls_certificate", "--tls-certificate", type=_FILE,
        text="PEM file of the certificate chain: speak TLS.",
    ),
    _web(
        _LISTEN, "tls_key", "--tls-key", type=_FILE,
        text="PEM file of its key, if that is in a file of its own.",
    ),
)  # fmt: skip
"""Options of commands that listen."""

WEB: tuple[Option, ...] = (
    _web(
        _HTTP, "http_timeout", "--http-timeout", "-t",
        text="How long a worker has to begin its answer, then 503; 0: for ever.",
    ),
    _web(
        _HTTP, "stream_timeout", "--stream-timeout",
        text="How long a worker may be silent within its answer, then it is cut; 0: for ever.",
    ),
    _web(
        _HTTP, "body_timeout", "--body-timeout",
        text="How long a request body may stall, then 408; 0: for ever.",
    ),
    _web(
        _HTTP, "write_timeout", "--write-timeout",
        text="How long a client may take nothing of a response, then it is cut; 0: for ever.",
    ),
    _web(
        _HTTP, "keep_alive", "--keep-alive",
        text="How long an idle connection is kept for its next request.",
    ),
    _web(
        _HTTP, "max_head_size", "--max-head-size", metavar="BYTES",
        text="Largest request line with headers, else 431.",
    ),
    _web(
        _SOCKET, "websocket_connect_timeout",
        "--websocket-connect-timeout",
        text="How long workers have to accept or deny, then 503.",
    ),
    _web(
        _SOCKET, "websocket_handshake_timeout",
        "--websocket-handshake-timeout",
        text="How long a new TCP connection has for its first request.",
    ),
    _web(
        _SOCKET, "websocket_close_timeout", "--websocket-close-timeout",
        text="How long a client has to answer a close.",
    ),
    _web(
        _SOCKET, "websocket_timeout", "--websocket-timeout",
        text="Longest life of a connection; 0: no limit.",
    ),
    _web(
        _SOCKET, "ping_interval", "--ping-interval",
        text="How long a connection may be silent before it is pinged; 0: for ever.",
    ),
    _web(
        _SOCKET, "ping_timeout", "--ping-timeout",
        text="How long a client has to answer a ping, then it is cut.",
    ),
    _web(
        _SOCKET, "max_message_size", "--max-message-size", metavar="BYTES",
        text="Largest message from a client, else 1009.",
    ),
    _web(
        _SOCKET, "ws_protocols", "--ws-protocol", multiple=True, metavar="NAME",
        text="Subprotocol that is spoken, the preferred one first; repeatable.",
    ),
    _web(
        _SOCKET, "allowed_origins", "--allowed-origin", multiple=True, metavar="ORIGIN",
        text='Origin besides our own whose pages may connect, "*": all; repeatable.',
    ),
    _web(
        _CLIENTS, "write_buffer", "--write-buffer", metavar="BYTES",
        text="What may wait for a slow client; over it, it is cut.",
    ),
    _web(
        _CLIENTS, "max_connections", "--max-connections", type=click.IntRange(1),
        metavar="NUMBER", text="Connections and requests at one time, else 503.",
    ),
    _web(
        _CLIENTS, "root_path", "--root-path", metavar="/PATH",
        text="Where the service is mounted.",
    ),
    _web(
        _CLIENTS, "proxy_headers", "--proxy-headers", is_flag=True,
        text="Believe X-Forwarded-For, -Port and -Proto; only behind a proxy that sets them.",
    ),
    _web(
        _CLIENTS, "proxy_hops", "--proxy-hops", type=click.IntRange(1), metavar="NUMBER",
        text="Proxies in front that add to X-Forwarded-For.",
    ),
    _web(
        _CLIENTS, "server_name", "--server-name", metavar="NAME",
        text="Value of the Server header; none is sent without.",
    ),
    _web(
        _PROCESS, "shutdown_timeout", "--shutdown-timeout",
        text="How long an interface server has to finish what it does.",
    ),
    Option(
        "--access-log", section=_LOG, metavar="FILE",
        help='Log requests and connections to FILE, "-": standard output.',
    ),
)  # fmt: skip
"""Options of an interface server."""

WORKER: tuple[Option, ...] = (
    Option(
        "--threads", section=_PROCESS, type=click.IntRange(1), default=1, metavar="NUMBER",
        help="Consumer threads in each worker.",
    ),
    Option(
        "--only-channels", section=_PROCESS, multiple=True, metavar="GLOB",
        help="Take messages of these channels alone; repeatable.",
    ),
    Option(
        "--exclude-channels", section=_PROCESS, multiple=True, metavar="GLOB",
        help="Leave messages of these channels to others; repeatable.",
    ),
)  # fmt: skip
"""Options of a worker."""


def layer(
    default: Callable[[], str] | None = default_url,
    shown: str = "a bus of the current directory",
) -> tuple[Option, ...]:
    """Return the option that names the channel layer; `shown` is its default in the help."""
    return (
        Option(
            "--layer", section=_PROCESS, metavar="URL", envvar="BUSWAY_LAYER", default=default,
            show_default=shown, show_envvar=True, help="The channel layer, for example ipc://name?capacity=200.",
        ),
    )  # fmt: skip


DEBUG: tuple[Option, ...] = (
    Option("--debug", section=_LOG, is_flag=True, help="Show tracebacks of errors."),
)
"""Options of every command."""

COMMON: tuple[Option, ...] = (
    Option(
        "--verbosity", "-v", section=_LOG, type=click.IntRange(0, 2), default=1, metavar="0|1|2",
        help="0: warnings, 1: what happens, 2: details.",
    ),
    *DEBUG,
)  # fmt: skip
"""Options of commands that log what they do."""

SUPERVISED: tuple[Option, ...] = (
    Option("--ready-fd", type=int, hidden=True),
    Option("--lifeline-fd", type=int, hidden=True),
    Option("--process-name", hidden=True),
)
"""Options that the supervisor gives to its processes; see `busway.supervisor.lifeline`."""

SUPERVISOR: tuple[Option, ...] = (
    Option(
        "--workers", "-w", section=_PROCESS, type=click.IntRange(1), default=2,
        metavar="NUMBER", help="Worker processes.",
    ),
    Option(
        "--web", section=_PROCESS, type=click.IntRange(1), default=1, metavar="NUMBER",
        help="Interface server processes, on the same port.",
    ),
    Option(
        "--grace", section=_PROCESS, type=click.FloatRange(0), default=15.0, metavar="SECONDS",
        help="How long processes have to stop before they are killed.",
    ),
)  # fmt: skip
"""Options of commands that run several processes."""

RELOAD: tuple[Option, ...] = (
    Option(
        "--reload", section=_PROCESS, is_flag=True,
        help="Replace the workers when code changes; connections stay open.",
    ),
    Option(
        "--reload-dir", section=_PROCESS, multiple=True, metavar="DIRECTORY",
        type=click.Path(exists=True, file_okay=False),
        help="Watch this instead of where the routing is; repeatable.",
    ),
)  # fmt: skip
"""Options of commands that can watch code."""


def web_options(values: dict[str, Any]) -> WebOptions:
    """Return the `WebOptions` among the values of a command's options.

    Raises `ConfigurationError` for a value out of range.
    """
    given = {name: values[name] for name in _DEFAULTS if values.get(name) is not None}
    given["access_log"] = values.get("access_log") is not None
    return WebOptions(**given)
