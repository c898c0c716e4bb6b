"""Test cases for users: fresh layers for each test."""

import time
import unittest
from typing import Any, ClassVar

import pytest
from django.db import connection
from django.test import TestCase, override_settings

from busway.bus.errors import ConfigurationError
from busway.bus.memory import MemoryChannelLayer
from busway.django import Channel, Group, channel_layers
from busway.django.test import ChannelTestCase, Client, TransactionChannelTestCase, apply_routes
from busway_django.project import echo_routing
from busway_django.project.models import Note

MEMORY = {"BACKEND": "busway.bus.memory.MemoryChannelLayer"}


class ChannelTestCaseTests(ChannelTestCase):
    """One default layer, new for each test."""

    def setUp(self) -> None:
        Channel("jobs").send({"from": "setUp"})

    def test_messages_can_be_taken_and_asserted(self) -> None:
        message = self.get_next_message("jobs", require=True)
        assert message is not None
        assert message.content == {"from": "setUp"}
        assert message.channel_layer is channel_layers["default"]
        assert self.get_next_message("jobs") is None
        with pytest.raises(AssertionError, match="no message on 'jobs' of the layer 'default'"):
            self.get_next_message("jobs", require=True)

    def test_nothing_is_left_of_other_tests(self) -> None:
        for _ in range(2):
            assert (self.get_next_message("jobs") is None) is (_ == 1)
        assert Group("all").channels() == []
        Group("all").add("jobs")

    test_nothing_is_left_of_other_tests_again = test_nothing_is_left_of_other_tests

    def test_the_database_is_rolled_back(self) -> None:
        assert Note.objects.count() == 0
        Note.objects.create(text="gone after")
        assert connection.in_atomic_block

    test_the_database_is_rolled_back_again = test_the_database_is_rolled_back

    async def test_async_tests_have_the_layer_too(self) -> None:
        await Channel("jobs").asend({"from": "async"})
        assert (await channel_layers["default"].areceive(["jobs"]))[1] == {"from": "setUp"}
        assert (await channel_layers["default"].areceive(["jobs"]))[1] == {"from": "async"}


class TransactionChannelTestCaseTests(TransactionChannelTestCase):
    """The same, without a transaction around it."""

    def test_there_is_no_transaction_around_it(self) -> None:
        assert not connection.in_atomic_block
        Channel("jobs").send({})
        assert self.get_next_message("jobs", require=True) is not None


@override_settings(CHANNEL_LAYERS={"default": MEMORY, "other": MEMORY, "third": MEMORY})
class SeveralAliasesTests(ChannelTestCase):
    """Two of three layers are replaced."""

    test_channel_aliases: ClassVar[list[str]] = ["default", "other"]

    def test_both_are_fresh(self) -> None:
        Channel("jobs", alias="other").send({"n": 1})
        assert self.get_next_message("jobs") is None
        assert self.get_next_message("jobs", alias="other", require=True) is not None


class Inner(ChannelTestCase):
    """Is run by a test below; the name keeps pytest from it."""

    __test__ = False
    seen: ClassVar[list[Any]] = []

    def setUp(self) -> None:
        self.seen.append(channel_layers["default"])
        if self._testMethodName == "broken_set_up":
            raise RuntimeError("on purpose")
        if self._testMethodName == "fine":
            self.addCleanup(lambda: self.seen.append(channel_layers["default"]))

    def broken_set_up(self) -> None:
        """Is not reached."""

    def fine(self) -> None:
        """Pass."""


class RestoringTests(TestCase):
    """What was there before is there after."""

    def test_layers_are_restored_even_when_the_set_up_fails(self) -> None:
        own = MemoryChannelLayer()
        self.addCleanup(own.close)
        self.addCleanup(channel_layers.set, "default", channel_layers.set("default", own))
        for name, errors in (("broken_set_up", 1), ("fine", 0)):
            Inner.seen.clear()
            result = unittest.TestResult()
            Inner(name).run(result)
            assert len(result.errors) == errors
            assert channel_layers["default"] is own
            assert own not in Inner.seen
            assert len(set(map(id, Inner.seen))) == 1
        Inner("fine").debug()
        assert channel_layers["default"] is own

    def test_an_unknown_alias_is_named(self) -> None:
        class Wrong(Inner):
            test_channel_aliases: ClassVar[list[str]] = ["default", "nowhere"]

        before = channel_layers["default"]
        with pytest.raises(ConfigurationError, match="no channel layer 'nowhere'"):
            Wrong("fine").run(unittest.TestResult())
        assert channel_layers["default"] is before


@apply_routes(echo_routing.routes)
class SpeedTests(ChannelTestCase):
    """A channel test takes milliseconds."""

    def test_a_hundred_consumers_take_less_than_a_second(self) -> None:
        client = Client()
        began = time.perf_counter()
        for number in range(100):
            client.send_and_consume("jobs", {"number": number})
            assert client.receive() == {"number": number}
        assert time.perf_counter() - began < 1.0  # 0.02 s on an idle machine
