"""Messages as bytes, and the envelope that carries one through a layer: msgpack, by msgspec."""

from enum import IntEnum
from itertools import count
from secrets import randbits
from typing import Any

import msgspec

from busway.bus.errors import MessageTooLarge
from busway.bus.messages import Message, check_message, check_text


class Kind(IntEnum):
    """What an envelope is to its receiver."""

    MESSAGE = 0
    GROUP_MESSAGE = 1
    """For every member of `group` that the receiving process has."""
    JOINED = 2
    """`channel` is a member of `group` from now on."""
    LEFT = 3
    """`channel` is not a member of `group` any more; without a group: of none."""


class Envelope(msgspec.Struct, array_like=True, gc=False):
    """One message on its way. On the wire it is a msgpack array of these fields in this order."""

    expires: float
    """When it is dropped if nobody took it: seconds since the epoch. First, so that it can be
    read without decoding the rest: see `bundles`."""
    kind: Kind
    """Second, for the same reason."""
    id: int
    """Unique among the messages of a layer."""
    channel: str
    """Where it was sent: a channel; for a group message the target's prefix."""
    sent: float
    """When it was sent: seconds since the epoch."""
    message: dict[str, Any]
    lane: str = ""
    """Ordering lane: the policy's pattern, NUL, the value of the ordering key. Empty: none."""
    group: str = ""
    attempt: int = 1
    """How often it has been handed out, this time included."""


def str_of(value: object) -> str:
    """Return a subclass of str as the str it is: msgspec's encoders take no other."""
    if isinstance(value, str):
        return str.__str__(value)
    raise TypeError(f"{type(value).__name__} cannot cross the bus")


encode = msgspec.msgpack.Encoder(enc_hook=str_of).encode
decode_envelope = msgspec.msgpack.Decoder(Envelope).decode


def encode_message(message: Message, channel: str, limit: int, *, checked: bool = False) -> bytes:
    """Return `message` as bytes.

    Raises `InvalidMessage` for what cannot cross the bus, unless it was `checked` before, and
    `MessageTooLarge` over `limit` bytes. `channel` is for the error's text.
    """
    if not checked:
        check_message(message)
    try:
        body = encode(message)
    except UnicodeEncodeError:
        check_text(message)
        raise
    if len(body) > limit:
        raise MessageTooLarge(channel, len(body), limit)
    return body


class Ids:
    """Makes message ids that no other process makes. Thread-safe."""

    def __init__(self) -> None:
        # 31 random bits for the process, 32 for its count: fits a signed 64-bit int.
        self.new = count((randbits(31) << 32) + 1).__next__
        """Returns the next id."""
