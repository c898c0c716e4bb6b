"""Messages as consumers see them."""

from copy import copy

import pytest

from busway import Channel, Message
from busway.app.exceptions import NoReplyChannel
from busway.app.message import hint
from busway.bus.errors import InvalidName
from busway.bus.layer import ChannelLayer


def test_content_is_read_like_a_dict() -> None:
    message = Message({"text": "hi", "order": 3}, "websocket.receive")
    assert message["text"] == "hi"
    assert message.get("bytes") is None
    assert message.get("bytes", b"") == b""
    assert "order" in message
    assert "bytes" not in message
    assert list(message) == list(message.keys()) == ["text", "order"]
    assert list(message.items()) == [("text", "hi"), ("order", 3)]
    assert list(message.values()) == ["hi", 3]
    assert len(message) == 2
    with pytest.raises(KeyError):
        message["bytes"]


def test_it_knows_its_channel_and_its_reply_channel(layer: ChannelLayer) -> None:
    message = Message({"reply_channel": "web.x!1"}, "http.request", layer)
    assert message.channel == Channel("http.request")
    assert message.reply_channel == Channel("web.x!1")
    assert message.reply_channel.channel_layer is message.channel.channel_layer is layer
    assert message.reply_to() == message.reply_channel


def test_without_a_reply_channel_there_is_none() -> None:
    message = Message({}, "jobs")
    assert message.reply_channel is None
    with pytest.raises(NoReplyChannel, match="'jobs' has no 'reply_channel'"):
        message.reply_to()


@pytest.mark.parametrize("name", ["", "web.x!", 5, b"web.x!1", ["web.x!1"], {}])
def test_a_reply_channel_that_is_none_is_refused(name: object) -> None:
    with pytest.raises(InvalidName):
        _ = Message({"reply_channel": name}, "jobs").reply_channel


def test_a_copy_has_keys_and_attributes_of_its_own() -> None:
    message = Message({"text": "hi"}, "websocket.receive")
    message.user = "ada"
    for twin in (message.copy(), copy(message)):
        twin["text"] = "ho"
        assert message["text"] == "hi"
        assert twin.user == "ada"
        assert twin.channel_name == "websocket.receive"


def test_an_attribute_that_nobody_added_is_missing_as_usual() -> None:
    message = Message({}, "jobs")
    assert not hasattr(message, "user")
    with pytest.raises(AttributeError, match=r"'Message' object has no attribute 'usr'"):
        _ = message.usr


def test_a_framework_can_say_what_to_do_for_a_missing_attribute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Message, "of_the_tests", None, raising=False)  # taken away afterwards
    hint("of_the_tests", "decorate the consumer")
    message = Message({}, "jobs")
    with pytest.raises(AttributeError, match=r"'of_the_tests'; decorate the consumer$"):
        _ = message.of_the_tests
    assert not hasattr(message, "of_the_tests")
    message.of_the_tests = "ada"
    assert message.of_the_tests == "ada"


def test_its_representation_names_channel_and_keys() -> None:
    assert repr(Message({"text": "hi"}, "jobs")) == "<Message on jobs: text>"
