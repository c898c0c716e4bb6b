"""The exceptions of consumers, under the names of Channels 1."""

from busway.app.exceptions import (
    CloseConnection,
    ConsumeLater,
    ConsumerEnding,
    DenyConnection,
    PartlyFailed,
    RequestAborted,
    RequestTimeout,
    ResponseLater,
    WebsocketCloseException,
)
from busway.app.message import Message
from busway.bus.errors import ConfigurationError, UsageError

__all__ = [
    "ChannelSocketException",
    "CloseConnection",
    "ConsumeLater",
    "ConsumerEnding",
    "DenyConnection",
    "InvalidChannelLayerError",
    "PartlyFailed",
    "RequestAborted",
    "RequestTimeout",
    "ResponseLater",
    "SendNotAvailableOnDemultiplexer",
    "WebsocketCloseException",
]

InvalidChannelLayerError = ConfigurationError
"""What is raised for a layer that the settings do not describe, or wrongly."""


class ChannelSocketException(ConsumerEnding):
    """Root of endings of your own: raised by a consumer, `run` says what follows."""

    def run(self, message: Message) -> None:
        """Do what follows, for the message of the consumer that raised this.

        What the consumer has sent so far is sent, then what is sent here.
        """
        raise NotImplementedError(f"{type(self).__qualname__} has no run(message)")


class SendNotAvailableOnDemultiplexer(UsageError):
    """`send` was used on a socket that carries streams, without saying on which stream."""

    def __str__(self) -> str:
        return (
            "a socket with streams is sent to with the 'multiplexer' among the consumer's "
            "keyword arguments: multiplexer.send(payload); and a group of such sockets with "
            "WebsocketMultiplexer.group_send(name, stream, payload)"
        )
