"""Exceptions that a consumer raises to end in another way than by returning.

They carry data and do nothing: the worker turns them into messages (`busway.app.endings`).

BuswayError
├── ConsumerEnding
│   ├── ConsumeLater       try this message again, some time later
│   ├── ResponseLater      this message gets its answer later, from elsewhere
│   ├── DenyConnection     refuse this WebSocket
│   └── CloseConnection    close this WebSocket, with a code and a reason
├── PartlyFailed           some of those it called failed; what the others sent is sent
├── RequestTimeout         the client stopped sending its request: answered with 408
└── RequestAborted         the client is gone, or given up: nothing more is answered
"""

from collections.abc import Sequence

from busway.bus.errors import BuswayError, ConfigurationError, UsageError


class ConsumerEnding(BuswayError):
    """Root of the exceptions that are a consumer's decision, not a failure."""


class ConsumeLater(ConsumerEnding):
    """This message cannot be handled now: put it back, to be consumed again later.

    What the consumer has sent so far is discarded. A message is put back at most
    `busway.app.endings.MAX_TRIES` times. On a channel with ordering, messages of the same
    lane may overtake one that was put back.
    """

    def __init__(self, delay: float = 1.0) -> None:
        """`delay` is how many seconds to wait before the next try."""
        super().__init__(delay)
        self.delay = delay

    def __str__(self) -> str:
        return f"to be consumed again in {self.delay} s"


class ResponseLater(ConsumerEnding):
    """Nothing is answered now. Whoever has the reply channel answers, or a group does.

    What the consumer has sent so far is sent.
    """


class DenyConnection(ConsumerEnding):
    """Refuse a WebSocket while it connects: the client gets an HTTP 403.

    What the consumer has sent so far, to others, is sent.
    """


class CloseConnection(ConsumerEnding):
    """Close a WebSocket, after what the consumer has sent so far.

    `code` and `reason` are what the client is told (RFC 6455, section 7.4).
    """

    def __init__(self, code: int = 1000, reason: str = "") -> None:
        """Take a code, 1000 or 3000 to 4999, and a reason of at most 123 bytes in UTF-8.

        Raises `ConfigurationError` for others: those codes are not for applications.
        """
        check_close(code, reason)
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"to be closed with code {self.code}" + (f" ({self.reason})" if self.reason else "")


WebsocketCloseException = CloseConnection
"""The name of `CloseConnection` in the first generation of Channels."""


class PartlyFailed(BuswayError):
    """Some of the consumers that this one called failed; what it has sent so far is sent.

    `failures` are their names, and what they raised. Each is logged; the message counts as failed.
    """

    def __init__(self, failures: Sequence[tuple[str, Exception]]) -> None:
        super().__init__(failures)
        self.failures = failures

    def __str__(self) -> str:
        return "; ".join(f"{name} failed: {error!r}" for name, error in self.failures)


class RequestTimeout(BuswayError):
    """The next part of a request's body did not come within `timeout` seconds."""

    def __init__(self, timeout: float) -> None:
        super().__init__(timeout)
        self.timeout = timeout

    def __str__(self) -> str:
        return f"no part of the request's body came for {self.timeout} s"


class RequestAborted(BuswayError):
    """The client of this request is gone, or reads nothing any more, or its body is not whole.

    `connected` tells whether the client may still be there; its connection is ended then.
    """

    def __init__(
        self,
        reason: str = "the client is gone before its request was answered",
        *,
        connected: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.connected = connected

    def __str__(self) -> str:
        return self.reason


class NoReplyChannel(UsageError):
    """An answer was to be sent for a message on `channel` that names no reply channel."""

    def __init__(self, channel: str) -> None:
        super().__init__(channel)
        self.channel = channel

    def __str__(self) -> str:
        return (
            f"a message on {self.channel!r} has no 'reply_channel', so nobody can be answered; "
            "send one along, or do not answer"
        )


def check_close(code: int, reason: str) -> None:
    """Raise `ConfigurationError` unless an application may close a WebSocket with these."""
    if type(code) is not int or not (code == 1000 or 3000 <= code <= 4999):
        raise ConfigurationError(
            f"a WebSocket was to be closed with code {code!r}; expected 1000, or 3000 to 4999"
        )
    if len(reason.encode()) > 123:
        raise ConfigurationError(
            f"the reason {reason[:40]!r}… has {len(reason.encode())} bytes in UTF-8; "
            "a WebSocket's close can carry 123"
        )
