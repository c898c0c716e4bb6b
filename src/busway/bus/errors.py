"""Every error of the bus, under one root; whose fault it was is the axis.

BuswayError
├── UsageError                 your code or configuration
│   ├── InvalidName            (a TypeError)
│   ├── InvalidMessage         (a TypeError)
│   ├── MessageTooLarge        (a ValueError)
│   ├── InvalidArgument        (a ValueError)
│   └── ConfigurationError     (a ValueError)
└── BusError                   the bus, now
    ├── ChannelFull
    ├── LayerUnavailable
    ├── LayerClosed
    └── Tampered
"""


class BuswayError(Exception):
    """Root of every error that Busway raises on purpose."""


class UsageError(BuswayError):
    """The caller's code or configuration is wrong; trying again will not help."""


class InvalidName(UsageError, TypeError):
    """A channel or group name does not follow the grammar of `busway.bus.names`.

    `name` is what was given, `expected` describes what a name has to look like.
    """

    def __init__(self, name: object, expected: str) -> None:
        super().__init__(name, expected)
        self.name = name
        self.expected = expected

    def __str__(self) -> str:
        return f"{self.name!r} is not a valid name: expected {self.expected}"


class InvalidMessage(UsageError, TypeError):
    """A message holds something that cannot cross the bus.

    `where` is the path to it ("message['a'][0]"), `found` and `expected` are descriptions.
    """

    def __init__(self, where: str, found: str, expected: str) -> None:
        super().__init__(where, found, expected)
        self.where = where
        self.found = found
        self.expected = expected

    def __str__(self) -> str:
        return f"{self.where} is {self.found}; expected {self.expected}"


class MessageTooLarge(UsageError, ValueError):
    """An encoded message is over the layer's limit. `size` and `limit` are bytes."""

    def __init__(self, channel: str, size: int, limit: int) -> None:
        super().__init__(channel, size, limit)
        self.channel = channel
        self.size = size
        self.limit = limit

    def __str__(self) -> str:
        return (
            f"the message for {self.channel!r} has {self.size} bytes, the limit is {self.limit}; "
            "send it in parts, or raise the layer's 'message_size'"
        )


class InvalidArgument(UsageError, ValueError):
    """An argument has a value that makes no sense; `expected` describes what does."""

    def __init__(self, argument: str, found: object, expected: str) -> None:
        super().__init__(argument, found, expected)
        self.argument = argument
        self.found = found
        self.expected = expected

    def __str__(self) -> str:
        return f"{self.argument} is {self.found!r}; expected {self.expected}"


class ConfigurationError(UsageError, ValueError):
    """An option, a URL, a policy or a routing is wrong; the text says which and what to do."""


class BusError(BuswayError):
    """The bus cannot do now what was asked; later it may."""


class ChannelFull(BusError):
    """A channel has no room. The message was not sent.

    `channel` is the channel (or prefix) that is full. `reason` says what was exhausted:
    "capacity" (messages waiting in the channel), "lane" (messages waiting behind one that is
    being handled) or "memory" (the bytes of the whole bus). `limit` is the limit that was
    reached: messages, or bytes for "memory"; 0: not known.
    """

    def __init__(self, channel: str, reason: str, limit: int) -> None:
        super().__init__(channel, reason, limit)
        self.channel = channel
        self.reason = reason
        self.limit = limit

    def __str__(self) -> str:
        what = {
            "capacity": f"{self.limit} messages are waiting",
            "lane": f"{self.limit} messages with the same ordering key are waiting",
            "memory": f"the {self.limit or ''} bytes of the bus are in use".replace("  ", " "),
        }.get(self.reason, self.reason)
        return (
            f"channel {self.channel!r} is full: {what}; "
            "send again later, add workers, or raise the limit"
        )


class LayerUnavailable(BusError):
    """The layer's storage cannot be reached or used; the text says why and what to do."""


class LayerClosed(BusError):
    """The layer or receiver was closed and is used again."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return f"this {self.what} is closed; make a new one"


class Tampered(BusError):
    """An encrypted message was not decrypted: it is not what a holder of the keys has sent.

    `reason` says what is wrong with it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"an encrypted message was refused: {self.reason}; give every process on the bus the "
            "same encryption_keys, and look who else can write to it"
        )
