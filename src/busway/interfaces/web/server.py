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
from busway.interfaces.web.listening import listen
from busway.interfaces.web.options import WebOptions
from busway.interfaces.web.uvicorn_http import HTTPProtocol
from busway.interfaces.web.uvicorn_websocket import WebSocketProtocol

Ready = Callable[[Sequence[str]], None]


def serve(
    layer: ChannelLayer, options: WebOptions | None = None, ready: Ready | None = None
) -> None:
    """Run a web interface server until SIGTERM or SIGINT. Blocks; for the main thread.

    Args:
        layer: the bus; it is not closed.
        options: defaults for None.
        ready: called once connections are accepted, with the URLs (or the socket's path) that
            the server listens on.

    Raises `ConfigurationError` when it cannot listen there, or not use the certificate.
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


def addresses(listening: socket.socket, options: WebOptions) -> list[str]:
    """Return where a client finds `listening`: a URL, or a UNIX socket's path."""
    name = listening.getsockname()
    if not isinstance(name, tuple):
        return [cast("str", name)]
    scheme = "https" if options.tls_certificate else "http"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return [f"{scheme}://{host}:{name[1]}"]


def _config(application: Application, options: WebOptions) -> uvicorn.Config:
    name = options.server_name
    return uvicorn.Config(
        application,
        loop="uvloop",
        http=HTTPProtocol,
        ws="none",  # our HTTP protocol begins WebSockets itself
        interface="asgi3",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        headers=[] if name is None else [("server", name)],
        backlog=options.backlog,
        # A last bound behind our own, for transports that nothing else ends.
        timeout_graceful_shutdown=ceil(options.shutdown_timeout) + 1,
        ssl_certfile=options.tls_certificate,
        ssl_keyfile=options.tls_key,
    )
