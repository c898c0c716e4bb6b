"""Signals around consumers."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from django.dispatch import Signal

from busway.app.exceptions import ConsumeLater
from busway.app.message import Message
from busway.app.routing import route
from busway.app.worker import Worker
from busway.bus.layer import ChannelLayer
from busway.django.signals import consumer_finished, consumer_started
from busway_django.harness import Browser, working

Seen = list[tuple[str, str, Any]]


@pytest.fixture
def seen() -> Iterator[Seen]:
    """Collect what the signals say."""
    found: Seen = []

    def note(signal: Signal, sender: Any, message: Message, consumer: str, **_: Any) -> None:
        assert sender is Worker
        kind = "started" if signal is consumer_started else "finished"
        found.append((kind, consumer.rpartition(".")[2], message.get("text")))

    consumer_started.connect(note)
    consumer_finished.connect(note)
    yield found
    consumer_started.disconnect(note)
    consumer_finished.disconnect(note)


def answer(message: Message) -> None:
    """Answer."""
    message.reply_channel.send({"text": "sync"})


async def aanswer(message: Message) -> None:
    """Answer, asynchronously."""
    await asyncio.sleep(0)
    await message.reply_channel.asend({"text": "async"})


def fail(message: Message) -> None:
    """Fail, and answer outside of what is held."""
    message.reply_channel.send({"text": "failing"}, immediately=True)
    raise RuntimeError("on purpose")


def retry(message: Message) -> None:
    """Answer at the second try."""
    if "busway.tries" not in message:
        raise ConsumeLater(delay=0)
    message.reply_channel.send({"text": "again"})


@pytest.mark.parametrize("consumer", [answer, aanswer, fail])
def test_a_consumer_is_announced_and_its_end_is_too(
    layer: ChannelLayer, browser: Browser, seen: Seen, consumer: Any
) -> None:
    with working(layer, [route("jobs", consumer)]):
        layer.send("jobs", {"reply_channel": browser.reply_channel, "text": "hello"})
        assert browser.receive() is not None
    name = consumer.__name__
    assert seen == [("started", name, "hello"), ("finished", name, "hello")]


def test_each_try_is_announced(layer: ChannelLayer, browser: Browser, seen: Seen) -> None:
    with working(layer, [route("jobs", retry)]):
        layer.send("jobs", {"reply_channel": browser.reply_channel})
        assert browser.receive() is not None
    assert [kind for kind, _, _ in seen] == ["started", "finished"] * 2


@pytest.mark.urls("busway_django.project.view_urls")
def test_views_have_djangos_signals_instead(
    layer: ChannelLayer, browser: Browser, seen: Seen
) -> None:
    with working(layer):
        assert browser.get("/").status == 200
        assert browser.get("/where/").status == 200
    assert seen == []


def test_async_receivers_run_on_the_loop(layer: ChannelLayer, browser: Browser) -> None:
    found: list[str] = []

    async def note(message: Message, **_: Any) -> None:
        found.append(message["text"])

    consumer_started.connect(note)
    try:
        with working(layer, [route("jobs", aanswer)]):
            layer.send("jobs", {"reply_channel": browser.reply_channel, "text": "hello"})
            assert browser.receive() is not None
    finally:
        consumer_started.disconnect(note)
    assert found == ["hello"]
