"""The tree of errors, and what they say."""

import pickle

import pytest

from busway.bus import errors
from busway.bus.errors import (
    BusError,
    BuswayError,
    ChannelFull,
    ConfigurationError,
    InvalidArgument,
    InvalidMessage,
    InvalidName,
    LayerClosed,
    LayerUnavailable,
    MessageTooLarge,
    Tampered,
    UsageError,
)

EXAMPLES: list[tuple[BuswayError, type[BuswayError], type[Exception] | None]] = [
    (InvalidName("a b", "letters"), UsageError, TypeError),
    (InvalidMessage("message['a']", "set {1}", "a list"), UsageError, TypeError),
    (InvalidArgument("delay", -1, "seconds, 0 or more"), UsageError, ValueError),
    (MessageTooLarge("channel", 2000, 1000), UsageError, ValueError),
    (ConfigurationError("capacity is 0, expected at least 1"), UsageError, ValueError),
    (ChannelFull("channel", "capacity", 100), BusError, None),
    (ChannelFull("channel", "lane", 20), BusError, None),
    (ChannelFull("channel", "memory", 1000), BusError, None),
    (LayerUnavailable("no room; make some"), BusError, None),
    (LayerClosed("channel layer"), BusError, None),
    (Tampered("it was changed"), BusError, None),
]


@pytest.mark.parametrize(("error", "side", "builtin"), EXAMPLES, ids=repr)
def test_an_error_is_on_its_side_of_the_tree(
    error: BuswayError, side: type[BuswayError], builtin: type[Exception] | None
) -> None:
    assert isinstance(error, side)
    assert isinstance(error, UsageError) != isinstance(error, BusError)
    assert builtin is None or isinstance(error, builtin)


def test_every_error_has_an_example() -> None:
    abstract = {BuswayError, UsageError, BusError}
    found = {
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, Exception)
    }
    assert found - abstract == {type(error) for error, _, _ in EXAMPLES}


@pytest.mark.parametrize("error", [error for error, _, _ in EXAMPLES], ids=repr)
def test_an_error_crosses_processes_with_its_data(error: BuswayError) -> None:
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  (its own)
    assert type(again) is type(error)
    assert vars(again) == vars(error)
    assert str(again) == str(error)


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (ChannelFull("c", "capacity", 100), ["'c'", "100 messages", "add workers"]),
        (ChannelFull("c", "lane", 20), ["'c'", "20 messages", "ordering key"]),
        (ChannelFull("c", "memory", 7), ["'c'", "7 bytes"]),
        (ChannelFull("c", "something new", 7), ["'c'", "something new"]),
        (MessageTooLarge("c", 2000, 1000), ["'c'", "2000", "1000", "message_size"]),
        (InvalidName("a b", "letters"), ["'a b'", "letters"]),
        (InvalidMessage("message['a']", "set {1}", "a list"), ["message['a']", "set", "a list"]),
        (LayerClosed("receiver"), ["receiver", "closed"]),
        (Tampered("it was changed"), ["it was changed", "same encryption_keys"]),
    ],
    ids=repr,
)
def test_a_text_says_what_was_found_and_what_to_do(error: BuswayError, parts: list[str]) -> None:
    assert all(part in str(error) for part in parts)
