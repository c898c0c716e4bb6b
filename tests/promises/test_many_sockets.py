"""One interface server holds ten thousand sockets, and a broadcast reaches every one of them."""

import pytest

from promises.conftest import LONG, Serve
from promises.sockets import crowd, frame

SOCKETS = 10_000 if LONG else 1_000
BURST = 50


@pytest.mark.soak
@pytest.mark.timeout(600 if LONG else 120)
def test_every_socket_answers_a_broadcast(serve: Serve) -> None:
    _, address = serve("broadcast", "--workers", "1")
    with crowd(address, SOCKETS) as sockets:
        clients = list(sockets.clients.values())
        clients[0].send(frame("hello"))
        sockets.read_until(lambda: all(client.received for client in clients))
        assert all(client.received == ["hello"] for client in clients)
        for number, client in enumerate(clients):
            client.send(frame(f"!{number}"))
        sockets.read_until(lambda: all(len(client.received) == 2 for client in clients))
        assert [client.received[1] for client in clients] == [f"!{n}" for n in range(SOCKETS)]


@pytest.mark.soak
@pytest.mark.timeout(600 if LONG else 120)
def test_no_message_of_a_burst_is_lost(serve: Serve) -> None:
    _, address = serve("broadcast", "--workers", "1")
    with crowd(address, 1_000) as sockets:
        clients = list(sockets.clients.values())
        for start in range(0, BURST * (10 if LONG else 2), BURST):
            clients[0].send(b"".join(frame(str(n)) for n in range(start, start + BURST)))
            sockets.read_until(lambda: all(len(client.received) == BURST for client in clients))
            for client in clients:
                assert client.received == [str(n) for n in range(start, start + BURST)]
                client.received.clear()
