"""Options of the web interface server, with their defaults."""

from collections.abc import Sequence
from math import inf

import msgspec

from busway.bus.errors import ConfigurationError

CHUNK = 256 * 1024
"""Largest part of a body that travels in one message, in bytes."""

WINDOW = 8
"""Parts of one response that a worker may have under way unacknowledged."""


class WebOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set. Times are seconds, sizes are bytes; 0 or None: see each.

    Raises `ConfigurationError` for a value out of range.
    """

    # -- where to listen ----------------------------------------------------------------

    host: str = "127.0.0.1"
    """Address or name to listen on; IPv4 or IPv6."""
    port: int = 8000
    """TCP port; 0: any free one."""
    unix_socket: str | None = None
    """Path of a UNIX socket to listen on instead of TCP."""
    fd: int | None = None
    """Descriptor of a socket to listen on, inherited from the parent process, instead."""
    reuse_port: bool = False
    """Let several interface servers listen on one TCP port (SO_REUSEPORT)."""
    backlog: int = 2048
    """Connections that may wait to be accepted."""
    tls_certificate: str | None = None
    """Path of a PEM certificate chain; set: TLS is spoken."""
    tls_key: str | None = None
    """Path of its PEM key; None: it is in the certificate's file."""

    # -- HTTP ---------------------------------------------------------------------------

    http_timeout: float = 120.0
    """How long a worker has for the first part of its answer, from when it has the whole of the
    request; then the client gets 503. 0: for ever."""
    stream_timeout: float = 300.0
    """How long a worker that streams a response, and names a channel for acknowledgements, may
    be silent; then the response is cut, as if it had died. An empty part is a sign of life.
    Streams without such a channel wait for any worker, as long as it takes. 0: for ever."""
    body_timeout: float = 60.0
    """How long a request body may stall; then the client gets 408. 0: for ever."""
    write_timeout: float = 60.0
    """How long a client may take nothing of a response that waits for it; then it is cut.
    0: for ever."""
    max_head_size: int = 64 * 1024
    """Largest request line with headers; a larger one gets 431."""
    keep_alive: float = 5.0
    """How long an idle HTTP connection is kept for its next request."""

    # -- WebSocket ----------------------------------------------------------------------

    websocket_connect_timeout: float = 5.0
    """How long workers have to accept or deny a connect; then the client gets 503."""
    websocket_handshake_timeout: float = 5.0
    """How long a new TCP connection has for its first complete request head."""
    websocket_close_timeout: float = 5.0
    """How long a client has to answer a close, and to drain its buffer; then it is cut."""
    websocket_timeout: float = 86_400.0
    """Longest life of a connection; then it is closed with 1001. 0: no limit."""
    ping_interval: float = 20.0
    """How often a connection is pinged. 0: never."""
    ping_timeout: float = 30.0
    """How long a client has to answer a ping; then it is cut, with code 1006."""
    max_message_size: int = 1_000_000
    """Largest message from a client; a larger one is closed with 1009."""
    ws_protocols: Sequence[str] = ()
    """Subprotocols that this server speaks, the preferred one first. Without any, the
    consumer that accepts chooses from those the client offers."""
    allowed_origins: Sequence[str] = ()
    """Origins ("https://example.com"), besides that of the Host header itself, whose pages
    may open WebSockets; "*": all. Requests without Origin are not from a browser: allowed."""

    # -- both ---------------------------------------------------------------------------

    write_buffer: int = 1024 * 1024
    """Bytes that may wait for a slow client; over it the connection is closed with 1013."""
    max_connections: int | None = None
    """Connections and requests at one time; more get 503. None: no limit."""
    root_path: str = ""
    """Where this server is mounted, without a slash at the end; goes into messages."""
    proxy_headers: bool = False
    """Take client and scheme from X-Forwarded-For, -Port and -Proto. Only behind a proxy that
    sets them: clients can write anything there."""
    proxy_hops: int = 1
    """Proxies in front that add to X-Forwarded-For: the address that the outermost saw is
    taken, so many from the right."""
    server_name: str | None = None
    """Value of the Server header; None: not sent."""
    access_log: bool = False
    """Log a line for each request, connect and disconnect, to the logger `busway.access`."""
    shutdown_timeout: float = 10.0
    """How long shutting down may take: running requests, closing handshakes, last messages."""

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise ConfigurationError(f"{name} is {value}, expected at least {least}")
            if value == inf:
                raise ConfigurationError(f"{name} is {value}, expected a finite number")
        if sum((self.unix_socket is not None, self.fd is not None)) > 1:
            raise ConfigurationError("unix_socket and fd exclude each other; give one of them")
        if self.tls_key is not None and self.tls_certificate is None:
            raise ConfigurationError("tls_key needs tls_certificate: the certificate chain's file")
        if self.root_path and (self.root_path[0] != "/" or self.root_path[-1] == "/"):
            raise ConfigurationError(
                f"root_path is {self.root_path!r}, expected '/path' without a slash at the end"
            )
        for origin in self.allowed_origins:
            if origin not in ("*", "null") and "://" not in origin:
                raise ConfigurationError(
                    f"allowed_origins has {origin!r}, expected '*' or 'scheme://host[:port]'"
                )


_LEAST: dict[str, float] = {
    "port": 0,
    "fd": 0,
    "backlog": 1,
    "http_timeout": 0,
    "stream_timeout": 0,
    "body_timeout": 0,
    "write_timeout": 0,
    "max_head_size": 1024,
    "keep_alive": 0,
    "websocket_connect_timeout": 0.01,
    "websocket_handshake_timeout": 0.01,
    "websocket_close_timeout": 0.01,
    "websocket_timeout": 0,
    "ping_interval": 0,
    "ping_timeout": 0.01,
    "max_message_size": 1,
    "write_buffer": 1024,
    "max_connections": 1,
    "proxy_hops": 1,
    "shutdown_timeout": 0,
}
