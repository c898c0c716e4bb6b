"""The web interface server as a process: uvicorn, with its event loop, sockets and signals."""

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from math import ceil
from pathlib import Path
from typing import cast

import uvicorn

from busway.bus.errors import ConfigurationError
from busway.bus.layer import ChannelLayer
from busway.interfaces.web.asgi import Application
from busway.interfaces.web.options import WebOptions
from busway.interfaces.web.uvicorn_http import HTTPProtocol
from busway.interfaces.web.uvicorn_websocket import WebSocketProtocol

Ready = Callable[[Sequence[str]], None]


class ListenError(ConfigurationError):
    """The server cannot listen where it should; `where` and `why` say so."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(where, why)
        self.where = where
        self.why = why

    def __str__(self) -> str:
        return (
            f"cannot listen on {self.where}: {self.why}; choose another place, "
            "or end the program that is there"
        )


def serve(
    layer: ChannelLayer, options: WebOptions | None = None, ready: Ready | None = None
) -> None:
    """Run a web interface server until SIGTERM or SIGINT. Blocks; for the main thread.

    Args:
        layer: the bus; it is not closed.
        options: defaults for None.
        ready: called once connections are accepted, with the URLs (or the socket's path) that
            the server listens on.

    Raises `ListenError`, and `ConfigurationError` for a certificate that cannot be used.
    On a signal it stops accepting, lets requests finish, closes WebSockets with 1012, and tells
    the bus of every disconnect, all within `shutdown_timeout`; a second SIGINT ends it at once.
    """
    options = options or WebOptions()
    listening = listen(options)
    try:
        server = Server(layer, options, listening, ready)
        server.run()
    finally:
        listening.close()
        if options.unix_socket is not None:
            with suppress(OSError):
                Path(options.unix_socket).unlink()


class Server(uvicorn.Server):
    """uvicorn, set up for Busway; its signals end it with the loop's own handlers."""

    def __init__(
        self,
        layer: ChannelLayer,
        options: WebOptions,
        listening: socket.socket,
        ready: Ready | None = None,
    ) -> None:
        """Prepare to accept on `listening`; see `serve`."""
        self.application = Application(layer, options)
        self._listening = listening
        self._options = options
        self._ready = ready
        try:
            config = _config(self.application, options)
            config.load()
        except OSError as error:  # ssl.SSLError is one
            raise ConfigurationError(
                f"cannot use the certificate {options.tls_certificate!r} with the key "
                f"{options.tls_key!r}: {error}"
            ) from error
        super().__init__(config)

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop."""
        super().run(sockets=sockets or [self._listening])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start accepting, and say so."""
        await super().startup(sockets=sockets)
        if self.started and self._ready is not None:
            self._ready(addresses(self._listening, self._options))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, and end what is there in bounded time."""
        loop = asyncio.get_running_loop()
        timeout = self._options.shutdown_timeout
        timers = (loop.call_later(timeout / 2, self._cut), loop.call_later(timeout, self._abort))
        try:
            await super().shutdown(sockets=sockets)
        finally:
            for timer in timers:
                timer.cancel()

    def _cut(self) -> None:
        """End what has not ended by itself: requests without an answer, streams."""
        for connection in list(self.application.gateway.connections.values()):
            connection.shut_down()

    def _abort(self) -> None:
        """End the transports of clients that do not."""
        for protocol in list(self.server_state.connections):
            cast("WebSocketProtocol | HTTPProtocol", protocol).abort()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGTERM and SIGINT, and return: who started the server goes on."""
        loop = asyncio.get_running_loop()
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self.handle_exit, number, None)
        except (ValueError, RuntimeError):  # not the main thread: who started it calls `stop`
            yield
            return
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def stop(self) -> None:
        """End as on SIGTERM. Safe from other threads."""
        self.should_exit = True


def listen(options: WebOptions) -> socket.socket:
    """Return the listening socket that `options` describe. Raises `ListenError`."""
    if options.fd is not None:
        try:
            return socket.socket(fileno=options.fd)
        except OSError as error:
            raise ListenError(f"descriptor {options.fd}", error.strerror or str(error)) from error
    if options.unix_socket is not None:
        return _listen_unix(options.unix_socket, options.backlog)
    where = f"{options.host}:{options.port}"
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, number)
    except OSError as error:
        raise ListenError(where, error.strerror or str(error)) from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if options.reuse_port:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind(address)
        listening.listen(options.backlog)
    except OSError as error:
        listening.close()
        raise ListenError(where, error.strerror or str(error)) from error
    return listening


def _listen_unix(path: str, backlog: int) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        listening.bind(path)
        listening.listen(backlog)
    except OSError as error:
        listening.close()
        raise ListenError(path, error.strerror or str(error)) from error
    return listening


def _remove_stale(path: str) -> None:
    """Remove a socket that a dead process has left; one that answers is kept, and in the way."""
    if not Path(path).is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()


def addresses(listening: socket.socket, options: WebOptions) -> list[str]:
    """Return where a client finds `listening`: a URL, or a UNIX socket's path."""
    name = listening.getsockname()
    if not isinstance(name, tuple):
        return [cast("str", name)]
    scheme = "https" if options.tls_certificate else "http"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return [f"{scheme}://{host}:{name[1]}"]


def _config(application: Application, options: WebOptions) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        loop="uvloop",
        http=HTTPProtocol,
        ws=WebSocketProtocol,
        interface="asgi3",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=options.backlog,
        timeout_keep_alive=ceil(options.keep_alive),
        # A last bound behind our own, for transports that nothing else ends.
        timeout_graceful_shutdown=ceil(options.shutdown_timeout) + 1,
        ssl_certfile=options.tls_certificate,
        ssl_keyfile=options.tls_key,
    )
