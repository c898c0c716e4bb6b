"""uvicorn with a bare ASGI application: what no bus and no framework costs."""

from collections.abc import Iterator
from contextlib import contextmanager

from bench import peers
from bench.child import free_port
from bench.contestants.contestant import Contestant, server
from bench.service import Service


class BareUvicorn(Contestant):
    name = "bare"
    title = "bare uvicorn, no bus"
    paths = frozenset({"/echo/async", "/open"})

    @contextmanager
    def running(self) -> Iterator[Service]:
        port = free_port()
        with server(self.name, uvicorn("bare_app:application", port), port) as service:
            yield service


def uvicorn(application: str, port: int) -> list[str]:
    """The command of uvicorn as for production, with its fastest parts."""
    return [
        *(str(peers.PYTHON), "-m", "uvicorn", application),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--loop", "uvloop", "--http", "httptools", "--ws", "websockets-sansio"),
        *("--lifespan", "off", "--no-access-log", "--log-level", "warning"),
    ]
