"""The client of tests: it has consumers called in the test's thread."""

from collections.abc import Iterator

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoCaptureOnCommitCallbacks

from busway.app import context
from busway.bus.errors import ChannelFull, UsageError
from busway.bus.layer import ChannelLayer
from busway.django import Group, channel_layers
from busway.django.test import Client, apply_routes, memory_layers
from busway_django.project import echo_routing
from busway_django.project.models import Note


@pytest.fixture(autouse=True)
def channel_layer() -> Iterator[ChannelLayer]:
    """Have a fresh layer and the routing of the tests."""
    with memory_layers(["default"]) as layers, apply_routes(echo_routing.routes):
        yield layers["default"]


@pytest.fixture
def client() -> Client:
    """Return a client."""
    return Client()


@pytest.mark.parametrize("channel", ["jobs", "ajobs"])
def test_a_message_is_consumed_and_answered(client: Client, channel: str) -> None:
    client.send(channel, {"text": "hello"})
    assert client.receive() is None
    assert client.consume(channel) == "returned"
    assert client.receive() == {"text": "hello"}
    assert client.receive() is None


async def test_async_tests_await(client: Client) -> None:
    assert await client.asend_and_consume("ajobs", {"n": 1}) == "returned"
    assert await client.asend_and_consume("jobs", {"n": 2}) == "returned"
    assert [client.receive(), client.receive()] == [{"n": 1}, {"n": 2}]
    assert client.send_and_consume("jobs", {"n": 3}) == "returned"
    with pytest.raises(UsageError, match="aecho is async and so is the test: await aconsume"):
        client.send_and_consume("ajobs", {"n": 4})


def test_without_a_message_the_test_fails(client: Client) -> None:
    with pytest.raises(AssertionError, match="there is no message on 'jobs'"):
        client.consume("jobs")
    assert client.consume("jobs", fail_on_none=False) is None


def test_without_a_consumer_the_test_fails(client: Client) -> None:
    with pytest.raises(AssertionError, match=r"there is no consumer for .*is its path routed"):
        client.send_and_consume("websocket.connect", {"path": "/nowhere/"})
    assert client.receive() == {"accept": False}  # what a worker answers
    assert client.send_and_consume("elsewhere", fail_on_none=False) is None


def test_what_a_worker_consumes_by_itself_is_consumed(client: Client) -> None:
    client.send_and_consume("websocket.disconnect", {"path": "/chat/lobby/"})
    client.send_and_consume(
        "http.request", {"method": "GET", "path": "/nowhere/", "headers": [[b"host", b"localhost"]]}
    )
    assert client.receive()["status"] == 404


@pytest.mark.parametrize("channel", ["fails", "afails"])
def test_a_consumer_that_raises_raises_here_and_has_sent_nothing(
    client: Client, channel: str
) -> None:
    client.join_group("all")
    with pytest.raises(ValueError, match="the consumer is broken"):
        client.send_and_consume(channel)
    assert client.receive() is None
    assert client.get_next_message(channel) is None


def test_a_message_put_back_can_be_consumed_again(client: Client) -> None:
    client.send_and_consume("later")
    assert client.receive() is None
    client.consume("later", timeout=20)
    assert client.receive() == {"tries": 1}


def test_groups_reach_the_client(client: Client) -> None:
    client.join_group("all")
    Group("all").send({"text": "hello"})
    assert client.receive() == {"text": "hello"}


def test_a_consumer_is_found_by_its_channel(client: Client) -> None:
    consumer = client.get_consumer_by_channel("jobs")
    assert consumer is not None
    assert client.get_consumer_by_channel("nowhere") is None


def test_a_full_channel_is_an_error(client: Client, channel_layer: ChannelLayer) -> None:
    for _ in range(channel_layer.policies.default.capacity):
        channel_layer.send(client.reply_channel, {})
    with pytest.raises(ChannelFull):
        client.send_and_consume("jobs")


def test_what_a_consumer_sets_is_not_the_tests(client: Client) -> None:
    client.send_and_consume("jobs")
    client.send_and_consume("ajobs")
    assert context.outbox.get() is None
    with memory_layers(["default"]):
        assert context.current_layer() is channel_layers["default"]


@pytest.mark.django_db
@pytest.mark.parametrize(("channel", "count"), [("notes", 1), ("anotes", 2)])
def test_consumers_share_the_tests_transaction_and_count_of_queries(
    client: Client, channel: str, count: int
) -> None:
    with CaptureQueriesContext(connection) as queries:
        client.send_and_consume(channel, {"text": "a note"})
    assert len(queries) == count
    assert Note.objects.get().text == "a note"


@pytest.mark.django_db
def test_what_is_sent_on_commit_is_seen_on_commit(
    client: Client, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        client.send_and_consume("notes", {"text": "a note"})
        assert client.get_next_message("noted") is None
    message = client.get_next_message("noted")
    assert message is not None
    assert message["text"] == "a note"
