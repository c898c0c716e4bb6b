"""What a consumer gets: one message off the bus."""

from collections.abc import ItemsView, Iterator, KeysView
from typing import TYPE_CHECKING, Any, Self

from busway.app.channels import Channel, Content, channel_of
from busway.app.exceptions import NoReplyChannel
from busway.bus.layer import ChannelLayer


class Message:
    """One message. Its content is read like a dict: `message["text"]`, `"text" in message`.

    Attributes may be added: decorators of consumers pass things on that way.
    """

    def __init__(
        self, content: Content, channel: str, channel_layer: ChannelLayer | None = None
    ) -> None:
        """Take the content, the channel's name, and the layer; None: the current one."""
        self.content = content
        """The dict itself, as it came over the bus."""
        self.channel_layer = channel_layer
        """The layer it came over; None: the current one."""
        self.channel_name = channel
        """The name of the channel that it was sent to."""

    @property
    def channel(self) -> Channel:
        """The channel that it was sent to."""
        return Channel(self.channel_name, channel_layer=self.channel_layer)

    # Any stands for None, which most consumers never meet: the messages that interface
    # servers send all have one. Whoever may meet one without can still test for it.
    @property
    def reply_channel(self) -> Channel | Any:
        """Where answers go: the client. None when the message names no such channel."""
        name = self.content.get("reply_channel")
        return None if name is None else channel_of(name, self.channel_layer)

    def reply_to(self) -> Channel:
        """Return the reply channel, or raise `NoReplyChannel`."""
        found = self.reply_channel
        if found is None:
            raise NoReplyChannel(self.channel_name)
        channel: Channel = found
        return channel

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of `key`, or `default`."""
        return self.content.get(key, default)

    def keys(self) -> KeysView[str]:
        """Return the keys of the content."""
        return self.content.keys()

    def values(self) -> Any:
        """Return the values of the content."""
        return self.content.values()

    def items(self) -> ItemsView[str, Any]:
        """Return the keys and values of the content."""
        return self.content.items()

    def copy(self) -> Self:
        """Return a message whose content can be changed without changing this one's keys."""
        copy = type(self).__new__(type(self))
        copy.__dict__.update(self.__dict__)
        copy.content = self.content.copy()
        return copy

    __copy__ = copy

    if TYPE_CHECKING:
        # What decorators add is not known here. A `__getattr__` that is there at run time makes
        # Python look up every attribute the slow way.

        def __setattr__(self, name: str, value: Any) -> None:
            """Let type checkers accept attributes that are added."""

        def __getattr__(self, name: str) -> Any:
            """Let type checkers accept attributes that were added."""

    def __getitem__(self, key: str) -> Any:
        return self.content[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.content[key] = value

    def __contains__(self, key: object) -> bool:
        return key in self.content

    def __iter__(self) -> Iterator[str]:
        return iter(self.content)

    def __len__(self) -> int:
        return len(self.content)

    def __repr__(self) -> str:
        content = self.__dict__.get("content", ())
        return f"<Message on {self.__dict__.get('channel_name')}: {', '.join(content)}>"


class _Missing:
    """Stands in for an attribute that decorators of a framework give to messages."""

    def __init__(self, name: str, remedy: str) -> None:
        self._name = name
        self._remedy = remedy

    def __get__(self, message: Message | None, owner: type) -> Self:
        if message is None:
            return self
        raise AttributeError(
            f"{message!r} has no attribute {self._name!r}; {self._remedy}",
            name=self._name,
            obj=message,
        )


def hint(name: str, remedy: str) -> None:
    """Say what to do for the attribute `name` of messages to be there, to those who miss it."""
    setattr(Message, name, _Missing(name, remedy))
