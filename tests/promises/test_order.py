"""Frames of one connection are consumed in order and one at a time, by any number of workers."""

import pytest

from promises.conftest import LONG, Serve
from promises.sockets import Client, crowd, frame

FRAMES = 100_000 if LONG else 4_000


@pytest.mark.soak
@pytest.mark.timeout(1800 if LONG else 120)
def test_frames_are_answered_in_order_and_none_is_lost(serve: Serve) -> None:
    _, address = serve("slow", "--workers", "4")
    others = 7
    with crowd(address, 1 + others) as sockets:
        one, *rest = sockets.clients.values()
        pending = b"".join(frame(str(number)) for number in range(FRAMES))
        for client in rest:
            client.send(frame("0"))

        def pump() -> bool:
            nonlocal pending
            pending = pending[one.send(pending[: 1 << 16]) :]
            for client in rest:
                keep_busy(client)
            return len(one.received) == FRAMES

        sockets.read_until(pump)
        assert one.received == [str(number) for number in range(FRAMES)]
        assert all(len(client.received) > 1 for client in rest)
        for client in rest:
            assert client.received == [str(number) for number in range(len(client.received))]


def keep_busy(client: Client) -> None:
    """Send the next number whenever the last one was answered."""
    sent = getattr(client, "sent", 0)
    if len(client.received) > sent:
        client.sent = sent + 1  # type: ignore[attr-defined]
        client.send(frame(str(sent + 1)))
