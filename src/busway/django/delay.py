"""Messages to be sent later, in the form that they have in Channels 1.

Channels delay messages themselves: `Channel("name").send({…}, delay=seconds)`. This consumer is
for what still sends `{"channel": …, "delay": milliseconds, "content": {…}}` to "asgi.delay".
"""

from typing import Any

from busway.app.message import Message
from busway.bus.errors import InvalidMessage
from busway.django.channels import Channel

DELAY_CHANNEL = "asgi.delay"
"""The channel that it consumes."""


def delay(message: Message) -> None:
    """Send a message's `content` to its `channel`, after its `delay` in milliseconds.

    Raises `InvalidMessage` (and `InvalidName`) for a message of another form: the worker logs
    and counts that, and goes on.
    """
    wanted, content = message.get("delay"), message.get("content")
    if isinstance(wanted, bool) or not isinstance(wanted, int | float) or wanted < 0:
        raise _invalid("delay", wanted, "milliseconds, 0 or more")
    if not isinstance(content, dict):
        raise _invalid("content", content, "a dict, the message to send")
    channel = Channel(message.get("channel", ""), channel_layer=message.channel_layer)
    channel.send(content, delay=wanted / 1000)


def _invalid(key: str, found: Any, expected: str) -> InvalidMessage:
    return InvalidMessage(f"message[{key!r}]", repr(found)[:100], expected)
