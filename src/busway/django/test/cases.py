"""Test cases whose channel layers are their own."""

from collections.abc import Iterable
from typing import Any, ClassVar

from django.test import TestCase, TransactionTestCase

from busway.app.message import Message
from busway.django.layers import DEFAULT_CHANNEL_LAYER, channel_layers
from busway.django.test.layers import memory_layers


class ChannelTestCaseMixin:
    """Gives each test empty memory layers. For a class that is a `unittest.TestCase` too.

    They are there before `setUp`, and gone after the last clean-up, whatever failed.
    """

    test_channel_aliases: ClassVar[Iterable[str]] = (DEFAULT_CHANNEL_LAYER,)
    """The layers that are replaced."""

    def run(self, result: Any = None) -> Any:
        """Run the test."""
        with memory_layers(self.test_channel_aliases):
            return super().run(result)  # type: ignore[misc]

    def debug(self) -> None:
        """Run the test without collecting errors."""
        with memory_layers(self.test_channel_aliases):
            super().debug()  # type: ignore[misc]

    def get_next_message(
        self, channel: str, alias: str = DEFAULT_CHANNEL_LAYER, require: bool = False
    ) -> Message | None:
        """Take the next message off `channel`; None when there is none.

        With `require`, `AssertionError` is raised then.
        """
        layer = channel_layers[alias]
        _, content = layer.receive([channel])
        if content is not None:
            return Message(content, channel, layer)
        if require:
            raise AssertionError(f"there is no message on {channel!r} of the layer {alias!r}")
        return None


class ChannelTestCase(ChannelTestCaseMixin, TestCase):
    """A Django `TestCase` with empty memory layers for each test."""


class TransactionChannelTestCase(ChannelTestCaseMixin, TransactionTestCase):
    """A Django `TransactionTestCase` with empty memory layers for each test."""
