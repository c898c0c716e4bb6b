"""What an exchange is asked to do, and what it gives."""

from collections.abc import Sequence

import msgspec

from busway.bus.codec import Envelope
from busway.bus.errors import ChannelFull
from busway.bus.messages import Message


class Send(msgspec.Struct, frozen=True, gc=False):
    """Put `message` on `channel`, after `delay` seconds (0: now)."""

    channel: str
    message: Message
    delay: float = 0.0
    checked: bool = False
    """Whether the message is known to hold only what may cross the bus, and is nobody else's to
    change: then it is not checked again."""


class GroupAdd(msgspec.Struct, frozen=True, gc=False):
    """Make `channel` a member of `group` for the layer's `group_expiry` seconds from now."""

    group: str
    channel: str


class GroupDiscard(msgspec.Struct, frozen=True, gc=False):
    """Take `channel` out of `group`; no error when it was not a member."""

    group: str
    channel: str


class GroupSend(msgspec.Struct, frozen=True, gc=False):
    """Send `message` to every member of `group`; full members are skipped and counted."""

    group: str
    message: Message
    checked: bool = False
    """See `Send.checked`."""


class Delivery(Envelope, gc=False):
    """A message that was received: the envelope that carried it, and what it is to the receiver."""

    members: tuple[str, ...] = ()
    """For a group message: this process's member channels, to each of which it is addressed."""
    place: int = 0
    """Its place in all that its receiver took to hold; 0: it is not held."""


class Leave(msgspec.Struct, frozen=True, gc=False):
    """Take `channel` out of every group: it is gone. For the process that owns it."""

    channel: str


class Return(msgspec.Struct, frozen=True, gc=False):
    """Put back a delivery that was not begun, before everything that waits on its channel."""

    delivery: Delivery


Operation = Send | GroupAdd | GroupDiscard | GroupSend | Leave | Return


class Refusal(msgspec.Struct, frozen=True):
    """An operation that was not done: its place in `operations`, itself, and why.

    Seen by the collector, as `Outcome` is: an error that was raised refers to frames that have it.
    """

    index: int
    operation: Operation
    error: ChannelFull


class Outcome(msgspec.Struct, frozen=True):
    """What an exchange gave."""

    deliveries: list[Delivery]
    refused: list[Refusal]
    joined: Sequence[str] = ()
    """Of this process's channels, on what was read, those that are in a group from now on. Their
    owner knows by it which have to `Leave` when they end, and which had ended before."""
