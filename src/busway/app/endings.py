"""How a consumer ended, as messages. No I/O: the worker sends them."""

import logging
from typing import NamedTuple

from busway.app.exceptions import (
    CloseConnection,
    ConsumeLater,
    DenyConnection,
    PartlyFailed,
    RequestAborted,
    RequestTimeout,
    ResponseLater,
)
from busway.app.http import ABORT, plain_response
from busway.app.message import Message
from busway.bus.errors import InvalidName
from busway.bus.names import check_channel
from busway.bus.operations import Operation, Send

logger = logging.getLogger("busway.worker")

MAX_TRIES = 10
"""How often a message is put back by `ConsumeLater`."""

TRIES_KEY = "busway.tries"
"""Key of a message that was put back: how often that has been done."""


class Ending(NamedTuple):
    """What happens after a consumer has raised."""

    operations: list[Operation]
    """What is sent because of it."""
    keeps: bool = False
    """Whether what the consumer has sent before goes out as well, first."""
    kind: str = "failed"
    """The field of `busway.app.commits.Counts` that it adds to; empty: an ordinary ending."""


def ending_of(error: BaseException, message: Message, consumer: str) -> Ending:
    """Return what follows from `error`, which `consumer` raised for `message`; it is logged."""
    decided = _decision(error, message)
    if decided is not None:
        return decided
    if isinstance(error, RequestAborted):
        logger.info("%s: %s", describe(message, consumer), error)
        return Ending(_reply(message, {**ABORT}) if error.connected else [], kind="aborted")
    if isinstance(error, RequestTimeout):
        logger.warning("%s: %s", describe(message, consumer), error)
        return Ending(_reply(message, plain_response(408, "The request took too long.")))
    if isinstance(error, PartlyFailed):
        for name, failed in error.failures:
            logger.error("%s failed", describe(message, name), exc_info=failed)
        return Ending(failure(message), keeps=True)
    if isinstance(error, ConsumeLater):
        logger.error("%s failed: given up after %d tries", describe(message, consumer), MAX_TRIES)
    else:
        logger.error("%s failed", describe(message, consumer), exc_info=error)
    return Ending(failure(message))


def _decision(error: BaseException, message: Message) -> Ending | None:
    """Return what a consumer has decided; None when it failed, or cannot decide so."""
    match error:
        case ResponseLater():
            return Ending([], keeps=True, kind="")
        case DenyConnection() if answer := _reply(message, {"accept": False}):
            return Ending(answer, keeps=True, kind="")
        case CloseConnection(code=code, reason=reason) if answer := _reply(
            message, {"close": code, "reason": reason}
        ):
            return Ending(answer, keeps=True, kind="")
        case ConsumeLater(delay=delay) if (tries := _tries(message)) < MAX_TRIES:
            again = Send(message.channel_name, {**message.content, TRIES_KEY: tries + 1}, delay)
            return Ending([again], kind="requeued")
    return None


def _tries(message: Message) -> int:
    """Return how often a message was put back; senders may have written anything there."""
    tries = message.get(TRIES_KEY)
    return tries if type(tries) is int else 0


def failure(message: Message) -> list[Operation]:
    """Return what tells a client that its message failed, so that it does not wait for more."""
    answer = plain_response(500, "The server failed to answer.")
    if message.channel_name == "http.request":
        return _reply(message, answer)
    if message.channel_name == "websocket.connect":
        del answer["more_content"]
        return _reply(message, {"accept": False, **answer})
    return []


def unrouted(message: Message) -> list[Operation]:
    """Return what tells a client that no route takes its message."""
    if message.channel_name == "http.request":
        return _reply(message, plain_response(404, "There is nothing here."))
    if message.channel_name == "websocket.connect":
        return _reply(message, {"accept": False})
    return []


def describe(message: Message, consumer: str) -> str:
    """Return a message and its consumer for the log."""
    path = message.get("path")
    where = message.channel_name if path is None else f"{message.channel_name} {path!r}"
    return f"{consumer} on {where}"


def _reply(message: Message, content: dict[str, object]) -> list[Operation]:
    """Return what sends `content` to the client; nothing when the message names none."""
    name = message.get("reply_channel")
    try:
        check_channel(name)
    except InvalidName:
        return []
    return [Send(name, content)]
