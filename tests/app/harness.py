"""Workers in threads, and what tests see of them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from busway import Router, Worker
from busway.app.routing import Routing
from busway.bus.layer import ChannelLayer
from busway.bus.names import new_process_prefix

PATIENCE = 20.0
"""Seconds that anything may take on a busy machine; a test that passes never waits so long."""


@contextmanager
def working(layer: ChannelLayer, routing: Routing, **options: Any) -> Iterator[Worker]:
    """Run a worker in a thread of its own; what ends it is raised at the end."""
    ready = threading.Event()
    worker = Worker(layer, Router(routing), ready=ready.set, **options)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            worker.run()
        except BaseException as error:  # noqa: BLE001
            errors.append(error)
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(PATIENCE)
        yield worker
    finally:
        worker.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


class Peer:
    """Somebody who sends messages with a reply channel and reads the answers."""

    def __init__(self, layer: ChannelLayer) -> None:
        self.layer = layer
        self.prefix = new_process_prefix("test.reply")
        self.reply_channel = f"{self.prefix}1"

    def send(self, channel: str, **content: Any) -> None:
        """Send a message; its answers come to this peer."""
        self.layer.send(channel, {"reply_channel": self.reply_channel, **content})

    def receive(self, timeout: float = PATIENCE) -> dict[str, Any] | None:
        """Return the next answer; None when none comes in time."""
        _, content = self.layer.receive([self.prefix], timeout)
        return content
