"""Channels and groups, to send to.

While a consumer runs, what it does here is held, and goes out with the acknowledgement of its
message in one step, if the consumer ends well. A consumer that raises has sent nothing.
`immediately=True` opts out. Outside of consumers, and on another layer than the consumer's,
everything is done at once.

What is sent is checked and copied at once either way: changing it afterwards changes nothing.
"""

from math import inf
from typing import Any

from busway.app.context import current_layer, held_by
from busway.bus.errors import UsageError
from busway.bus.layer import ChannelLayer
from busway.bus.messages import isolate
from busway.bus.names import check_channel, check_group
from busway.bus.operations import GroupAdd, GroupDiscard, GroupSend, Send

Content = dict[str, Any]
"""What a message holds: see `busway.bus.messages`."""


class Channel:
    """A channel to send to. Channels of the same name are equal."""

    __slots__ = ("channel_layer", "name")

    def __init__(self, name: str, *, channel_layer: ChannelLayer | None = None) -> None:
        """Take a full channel name, and its layer; None: the current one when it is used.

        Raises `InvalidName` when `name` is not the name of one channel.
        """
        check_channel(name)
        self.name = name
        self.channel_layer = channel_layer

    def send(self, content: Content, *, immediately: bool = False, delay: float = 0.0) -> None:
        """Send `content` here, after `delay` seconds (0: now).

        Raises `InvalidMessage` for content that cannot cross the bus. When it is not held (see
        the module), also `ChannelFull` when there is no room, and `MessageTooLarge`.
        """
        held = None if immediately else held_by(self.channel_layer)
        if held is None:
            (self.channel_layer or current_layer()).send(self.name, content, delay=delay)
        else:
            if delay:
                _check_delay(delay)
            held.append(Send(self.name, isolate(content), delay, checked=True))

    async def asend(
        self, content: Content, *, immediately: bool = False, delay: float = 0.0
    ) -> None:
        """Do `send` from async code."""
        held = None if immediately else held_by(self.channel_layer)
        if held is None:
            await (self.channel_layer or current_layer()).asend(self.name, content, delay=delay)
        else:
            if delay:
                _check_delay(delay)
            held.append(Send(self.name, isolate(content), delay, checked=True))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Channel) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Channel({self.name!r})"


def channel_of(name: str, layer: ChannelLayer | None) -> Channel:
    """Return `Channel(name, channel_layer=layer)`, for nearly every message asks for one.

    Calling a class with an `__init__` costs twice as much.
    """
    check_channel(name)
    channel = Channel.__new__(Channel)
    channel.name = name
    channel.channel_layer = layer
    return channel


class Group:
    """A group of channels, to send to all of them at once. Groups of the same name are equal."""

    __slots__ = ("channel_layer", "name")

    def __init__(self, name: str, *, channel_layer: ChannelLayer | None = None) -> None:
        """Take a group name, and its layer; None: the current one when it is used.

        Raises `InvalidName` when `name` is not a group name.
        """
        check_group(name)
        self.name = name
        self.channel_layer = channel_layer

    def add(self, channel: Channel | str, *, immediately: bool = False) -> None:
        """Make `channel` a member, until the layer's `group_expiry` seconds have passed."""
        held = None if immediately else held_by(self.channel_layer)
        if held is None:
            (self.channel_layer or current_layer()).group_add(self.name, _name_of(channel))
        else:
            held.append(GroupAdd(self.name, _name_of(channel)))

    def discard(self, channel: Channel | str, *, immediately: bool = False) -> None:
        """Take `channel` out; no error when it is no member."""
        held = None if immediately else held_by(self.channel_layer)
        if held is None:
            (self.channel_layer or current_layer()).group_discard(self.name, _name_of(channel))
        else:
            held.append(GroupDiscard(self.name, _name_of(channel)))

    def send(self, content: Content, *, immediately: bool = False) -> None:
        """Send `content` to every member. Members that have no room are skipped and counted.

        Raises `InvalidMessage` for content that cannot cross the bus.
        """
        held = None if immediately else held_by(self.channel_layer)
        if held is None:
            (self.channel_layer or current_layer()).group_send(self.name, content)
        else:
            held.append(GroupSend(self.name, isolate(content), checked=True))

    def channels(self) -> list[str]:
        """Return the names of the members, without what is still held."""
        return (self.channel_layer or current_layer()).group_channels(self.name)

    async def aadd(self, channel: Channel | str, *, immediately: bool = False) -> None:
        """Do `add` from async code."""
        held = None if immediately else held_by(self.channel_layer)
        if held is None:
            layer = self.channel_layer or current_layer()
            await layer.agroup_add(self.name, _name_of(channel))
        else:
            held.append(GroupAdd(self.name, _name_of(channel)))

    async def adiscard(self, channel: Channel | str, *, immediately: bool = False) -> None:
        """Do `discard` from async code."""
        held = None if immediately else held_by(self.channel_layer)
        if held is None:
            layer = self.channel_layer or current_layer()
            await layer.agroup_discard(self.name, _name_of(channel))
        else:
            held.append(GroupDiscard(self.name, _name_of(channel)))

    async def asend(self, content: Content, *, immediately: bool = False) -> None:
        """Do `send` from async code."""
        held = None if immediately else held_by(self.channel_layer)
        if held is None:
            await (self.channel_layer or current_layer()).agroup_send(self.name, content)
        else:
            held.append(GroupSend(self.name, isolate(content), checked=True))

    async def achannels(self) -> list[str]:
        """Do `channels` from async code."""
        return await (self.channel_layer or current_layer()).agroup_channels(self.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Group) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Group({self.name!r})"


def _name_of(channel: Channel | str) -> str:
    if isinstance(channel, Channel):
        return channel.name
    check_channel(channel)
    return channel


def _check_delay(delay: float) -> None:
    if not 0 <= delay < inf:
        raise UsageError(f"delay is {delay!r}; expected seconds, 0 or more")
