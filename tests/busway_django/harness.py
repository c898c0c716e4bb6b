"""Workers of a Django project in threads, and what a browser sees of them."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from busway.app.routing import Router, Routing
from busway.app.worker import Worker
from busway.bus.layer import ChannelLayer
from busway.bus.names import new_process_prefix
from busway.django.framing import framed
from busway.django.handler import ViewConsumer
from busway.django.views import view_route

PATIENCE = 20.0
"""Seconds that anything may take on a busy machine; a test that passes never waits so long."""


@contextmanager
def working(
    layer: ChannelLayer,
    routing: Routing = (),
    consumer: ViewConsumer | None = None,
    **options: Any,
) -> Iterator[Worker]:
    """Run a worker in a thread of its own, with the project's views; its error is raised."""
    ready = threading.Event()
    router = Router(routing, wrap=framed)
    router.check_default(view_route(consumer))
    worker = Worker(layer, router, ready=ready.set, **options)
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


class Response(NamedTuple):
    """A whole response."""

    status: int
    headers: list[tuple[str, str]]
    chunks: list[bytes]

    @property
    def content(self) -> bytes:
        """The whole body."""
        return b"".join(self.chunks)

    @property
    def text(self) -> str:
        """The whole body as text."""
        return self.content.decode()

    def header(self, name: str) -> str:
        """Return the value of a header that stands there once."""
        (value,) = [value for found, value in self.headers if found.lower() == name.lower()]
        return value

    def has_header(self, name: str) -> bool:
        """Tell whether there is such a header."""
        return any(found.lower() == name.lower() for found, _ in self.headers)


class Browser:
    """What an interface server does for one client, by hand."""

    def __init__(self, layer: ChannelLayer) -> None:
        self.layer = layer
        self.prefix = new_process_prefix("test.reply")
        self.reply_channel = f"{self.prefix}1"
        self.unacked: deque[str] = deque()

    def send(
        self,
        path: str = "/",
        method: str = "GET",
        body: bytes = b"",
        headers: Iterable[tuple[str, str]] = (),
        **fields: Any,
    ) -> None:
        """Send a request with a body in one message."""
        query = path.partition("?")[2].encode()
        pairs = [[name.lower().encode(), value.encode("latin-1")] for name, value in headers]
        if not any(name == b"host" for name, _ in pairs):
            pairs.append([b"host", b"testserver"])
        if body:
            pairs.append([b"content-length", str(len(body)).encode()])
        self.layer.send(
            "http.request",
            {
                "reply_channel": self.reply_channel,
                "http_version": "1.1",
                "method": method,
                "scheme": "http",
                "path": path.partition("?")[0],
                "query_string": query,
                "root_path": "",
                "headers": pairs,
                "body": body,
                "client": ["127.0.0.1", 4711],
                "server": ["127.0.0.1", 8000],
                **fields,
            },
        )

    def receive(self, timeout: float = PATIENCE) -> dict[str, Any] | None:
        """Return the next message of the answer; None when none comes in time."""
        return self.layer.receive([self.prefix], timeout)[1]

    @staticmethod
    def wait_until(condition: Callable[[], bool]) -> None:
        """Poll for something that cannot be waited for: it changes inside a worker."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def response(self) -> Response:
        """Read a whole response, as fast as it comes."""
        head: dict[str, Any] | None = None
        chunks: list[bytes] = []
        while True:
            part = self.receive()
            assert part is not None, "no answer"
            head = head or part
            chunks.append(part["content"])
            if "ack_channel" in part:
                self.layer.send(part["ack_channel"], {"acked": 1})
            if not part.get("more_content"):
                break
        headers = [(name.decode(), value.decode("latin-1")) for name, value in head["headers"]]
        return Response(head["status"], headers, chunks)

    def get(self, path: str = "/", **fields: Any) -> Response:
        """Send a request and read the response."""
        self.send(path, **fields)
        return self.response()

    def post_in_parts(self, path: str, parts: list[bytes], content_type: str) -> None:
        """Send a request whose body comes in parts; the last one ends it."""
        channel = self.layer.new_channel("http.request.body?")
        length = str(sum(map(len, parts)))
        self.send(
            path,
            "POST",
            headers=[("content-type", content_type), ("content-length", length)],
            body_channel=channel,
        )
        for number, part in enumerate(parts, start=1):
            self.layer.send(channel, {"content": part, "more_content": number < len(parts)})
