"""`busway web`: an interface server alone."""

import logging
import socket
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from busway.bus.layer import ChannelLayer
from busway.cli import options
from busway.cli.command import command
from busway.cli.loading import open_shared_layer
from busway.cli.logs import configure_logging
from busway.interfaces.web.listening import adopt, listen_tcp, listen_unix
from busway.supervisor.lifeline import announce_ready, hold_lifeline

logger = logging.getLogger("busway.web")


@command(
    "web",
    options.LISTEN,
    options.WEB,
    options.layer(),
    options.COMMON,
    options.SUPERVISED,
)
def web(**values: Any) -> None:
    """Run an interface server: HTTP and WebSocket on one side, the channel layer on the other.

    Workers that take its messages are started with `busway worker`, here or, with a layer that
    reaches there, on other machines.
    """
    if values["lifeline_fd"] is not None:
        hold_lifeline(values["lifeline_fd"])
    configure_logging(values["process_name"] or "web", values["verbosity"], values["access_log"])
    serve_web(open_shared_layer(values["layer"], "web"), values)


def serve_web(layer: ChannelLayer, values: dict[str, Any]) -> None:
    """Serve until SIGTERM with the options of `busway web`; then `layer` is closed.

    Raises `ConfigurationError` for an option out of range, or when it is not possible to listen.
    """
    # uvicorn starts slowly, and `serve` needs only what else is in this module.
    from busway.interfaces.web import server  # noqa: PLC0415

    with closing(layer):
        settings = options.web_options(values)
        sock = listen(values)[0]
        url = url_of(values, sock)
        try:
            server.serve(
                layer,
                msgspec.structs.replace(settings, unix_socket=None, fd=sock.detach()),
                lambda _: _begin(values, url),
            )
        finally:
            if values["unix_socket"] is not None:
                Path(values["unix_socket"]).unlink(missing_ok=True)


def _begin(values: dict[str, Any], url: str) -> None:
    """Tell whoever waits that connections are accepted now."""
    if values["ready_fd"] is None:
        logger.info("ready on %s; workers are started on their own", url)
    else:
        announce_ready(values["ready_fd"])


def listen(values: dict[str, Any], count: int = 1) -> list[socket.socket]:
    """Return the listening sockets that options describe: one, or up to `count` for TCP.

    Raises `ConfigurationError` when it is not possible, or more than one place is given.
    """
    if values["fd"] is not None:
        return [adopt(values["fd"])]
    if values["unix_socket"] is not None:
        return [listen_unix(Path(values["unix_socket"]))]
    return listen_tcp(values["host"], values["port"], count)


def url_of(values: dict[str, Any], sock: socket.socket) -> str:
    """Return where clients find the service that listens on `sock`."""
    scheme = "https" if values["tls_certificate"] else "http"
    if sock.family == socket.AF_UNIX:
        return f"{scheme}+unix:{sock.getsockname()}"
    host, port = sock.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
