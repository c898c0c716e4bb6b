"""What an adapter does for a WebSocket: its state machine's actions, on a server's transport."""

from abc import ABC, abstractmethod

from busway.interfaces.web.replies import Headers


class Wire(ABC):
    """The client's side of a connection."""

    __slots__ = ()

    @abstractmethod
    def write_accept(self, subprotocol: str | None, headers: Headers) -> None:
        """Complete the handshake."""

    @abstractmethod
    def write_denial(self, status: int, headers: Headers, content: bytes) -> None:
        """Answer the handshake with an HTTP response, and end the transport."""

    @abstractmethod
    def write_data(self, payload: str | bytes, frame: bytes | None) -> None:
        """Send a message; `frame` is it already encoded, where that was done.

        It may be kept until `flush`, which is called for those in the gateway's `unwritten`.
        """

    @abstractmethod
    def flush(self) -> None:
        """Hand the messages of this tick to the transport."""

    @abstractmethod
    def write_close(self, code: int, reason: str) -> None:
        """Send a close frame."""

    @abstractmethod
    def write_ping(self) -> None:
        """Send a ping frame, where that is not the server's own business."""

    @abstractmethod
    def pause_reading(self) -> None:
        """Stop reading from the client. May be called twice."""

    @abstractmethod
    def resume_reading(self) -> None:
        """Go on reading from the client."""

    @abstractmethod
    def end(self) -> None:
        """End the transport after what was written."""

    @abstractmethod
    def abort(self) -> None:
        """End the transport at once."""
