"""The access log: a line for each request, and for each WebSocket's connect and disconnect."""

import logging
from typing import TYPE_CHECKING
from urllib.parse import quote

from busway.interfaces.web.requests import Address, Head

if TYPE_CHECKING:
    from busway.interfaces.web.http import HTTPConnection
    from busway.interfaces.web.websocket import WebSocketConnection

logger = logging.getLogger("busway.access")


class AccessLog:
    """Writes the access log; every method returns at once when it is off."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled

    def request(self, connection: "HTTPConnection", status: int, size: int) -> None:
        """Log an HTTP request that was answered with `status` and `size` bytes."""
        if self._enabled:
            head = connection.head
            logger.info(
                '%s "%s %s HTTP/%s" %d %d %.3fs',
                name_client(head.client),
                head.method,
                _target(head),
                head.http_version,
                status,
                size,
                connection.gateway.time() - connection.started,
            )

    def refused(self, client: Address, status: int, size: int) -> None:
        """Log that something that is no HTTP request was answered with `status`."""
        if self._enabled:
            logger.info('%s "-" %d %d', name_client(client), status, size)

    def connected(self, connection: "WebSocketConnection") -> None:
        """Log that a WebSocket was accepted."""
        head = connection.head
        if self._enabled and head is not None:
            connection.client = name_client(head.client)
            logger.info('%s "WebSocket %s" connected', connection.client, _target(head))

    def denied(self, connection: "WebSocketConnection", status: int) -> None:
        """Log that a handshake was answered with `status`."""
        if not self._enabled:
            return
        head = connection.head
        client = connection.client if head is None else name_client(head.client)
        target = "-" if head is None else _target(head)
        logger.info('%s "WebSocket %s" denied %d', client, target, status)

    def disconnected(self, connection: "WebSocketConnection", code: int) -> None:
        """Log that a WebSocket that was open has ended with `code`."""
        if self._enabled:
            logger.info(
                '%s "WebSocket %s" disconnected %d %.3fs',
                connection.client,
                quote(connection.path),
                code,
                connection.gateway.time() - connection.opened,
            )


def name_client(client: Address) -> str:
    """Return a client's address for the log."""
    if client is None:
        return "-"
    host, port = client
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _target(head: Head) -> str:
    path = quote(head.path)
    return f"{path}?{head.query_string.decode('latin-1')}" if head.query_string else path
