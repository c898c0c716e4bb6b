"""Another routing for the length of a test."""

import unittest
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

from busway.app.consumers import WebsocketConsumer
from busway.app.routing import route
from busway.bus.errors import ConfigurationError
from busway.django import channel_layers
from busway.django.test import ChannelTestCase, Client, WSClient, apply_routes, memory_layers
from busway_django.project.echo_routing import echo

MEMORY = {"BACKEND": "busway.bus.memory.MemoryChannelLayer"}


@pytest.fixture(autouse=True)
def two_layers() -> Iterator[None]:
    """Have two layers without a routing."""
    with override_settings(CHANNEL_LAYERS={"default": MEMORY, "other": MEMORY}):
        yield


def channels(alias: str = "default") -> frozenset[str]:
    """Return the channels that are routed."""
    return channel_layers.router(alias).channels


def test_routes_hold_inside_and_not_outside() -> None:
    with apply_routes([route("jobs", echo)]) as outer:
        assert channels() == {"jobs"}
        with apply_routes({"others": echo}):
            assert channels() == {"others"}
            with outer:  # the same one again
                assert channels() == {"jobs"}
        assert channels() == {"jobs"}
    assert channels() == frozenset()


def test_every_alias_that_is_asked_for_has_them() -> None:
    with apply_routes([route("jobs", echo)], aliases=["default", "other"]):
        assert channels("default") == channels("other") == {"jobs"}
        with memory_layers(["default", "other"]):
            for alias in ("default", "other"):
                Client(alias).send_and_consume("jobs")
    with apply_routes([route("jobs", echo)], aliases="other"):
        assert not channels("default")
        assert channels("other") == {"jobs"}
    assert channels("other") == frozenset()


def test_they_are_gone_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), apply_routes([route("jobs", echo)]):
        _ = 1 / 0
    assert channels() == frozenset()


def test_an_unknown_alias_changes_nothing() -> None:
    with (
        pytest.raises(ConfigurationError, match="'nowhere'"),
        apply_routes([route("jobs", echo)], aliases=["default", "nowhere"]),
    ):
        pytest.fail("not reached")
    assert channels() == frozenset()


def test_a_wrong_route_is_named_where_it_is_written() -> None:
    with pytest.raises(ConfigurationError, match="a routing holds 7"):
        apply_routes([7])  # type: ignore[list-item]


class Echo(WebsocketConsumer):
    """Answers with what it got."""

    def receive(self, text: str, **_: Any) -> None:
        """Answer."""
        self.send(text)


@pytest.mark.parametrize("routes", [Echo, [Echo], Echo.as_route(), f"{__name__}.own"])
def test_routes_have_many_forms(routes: Any) -> None:
    with apply_routes(routes), memory_layers(["default"]):
        client = WSClient()
        client.send_and_consume("websocket.connect")
        client.send_and_consume("websocket.receive", text="hello")
        assert client.receive(json=False) == "hello"


own = [Echo.as_route()]


@apply_routes([route("jobs", echo)])
def test_a_function_can_be_decorated() -> None:
    assert channels() == {"jobs"}


@apply_routes([route("jobs", echo)])
async def test_an_async_function_can_be_decorated() -> None:
    assert channels() == {"jobs"}


@apply_routes([route("jobs", echo)])
class TestDecoratedClass:
    """A class of pytest's."""

    def test_its_tests_have_the_routes(self) -> None:
        assert channels() == {"jobs"}

    async def test_its_async_tests_have_the_routes(self) -> None:
        assert channels() == {"jobs"}


def decorated() -> type[ChannelTestCase]:
    """Return a test case that is run by a test."""

    class Case(ChannelTestCase):
        seen: dict[str, frozenset[str]] = {}  # noqa: RUF012

        @classmethod
        def setUpClass(cls) -> None:
            super().setUpClass()
            cls.seen["class"] = channels()

        def setUp(self) -> None:
            self.seen["set-up"] = channels()

        def runTest(self) -> None:
            Client().send_and_consume("jobs")
            self.seen["test"] = channels()

    return apply_routes([route("jobs", echo)])(Case)


@pytest.mark.django_db
def test_a_test_case_has_them_from_its_set_up_on() -> None:
    case = decorated()
    result = unittest.TestResult()
    unittest.TestSuite([case()]).run(result)
    assert (result.errors, result.failures, result.testsRun) == ([], [], 1)
    assert set(case.seen) == {"class", "set-up", "test"}  # type: ignore[attr-defined]
    assert channels() == frozenset()
