"""Workers are replaced by ones with changed code under a WebSocket that goes on talking."""

import signal
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import pytest
from websockets.sync.client import ClientConnection

from busway_django.promises.conftest import LONG
from busway_django.promises.site import Site
from services import PATIENCE, Service

RESTARTS = 20 if LONG else 3
PER_SECOND = 10 if LONG else 100


class Answer(NamedTuple):
    """What came back for a frame."""

    version: int
    frame: int
    waited: float
    """Seconds."""


class Talk:
    """Sends numbered frames at a steady pace, and reads the answers."""

    def __init__(self, client: ClientConnection) -> None:
        self._client = client
        self._sent: list[float] = []
        self._over = threading.Event()
        self.answers: list[Answer] = []
        self._threads = [threading.Thread(target=run) for run in (self._send, self._receive)]
        self.error: Exception | None = None

    def __enter__(self) -> "Talk":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    @property
    def sent(self) -> int:
        """How many frames were sent so far."""
        return len(self._sent)

    def _send(self) -> None:
        while not self._over.wait(1 / PER_SECOND):
            self._sent.append(time.monotonic())
            self._client.send(str(len(self._sent) - 1))
        self._client.send("end")

    def _receive(self) -> None:
        try:
            while True:
                version, _, frame = str(self._client.recv(PATIENCE)).partition(" ")
                if frame == "end":
                    return
                waited = time.monotonic() - self._sent[int(frame)]
                self.answers.append(Answer(int(version), int(frame), waited))
        except Exception as error:  # noqa: BLE001  (raised by who reads it)
            self.error = error


def noticed(service: Service) -> None:
    """Wait until the change is noticed."""
    service.expect(r"changed: gallery/version\.py")


def hung_up(service: Service) -> None:
    """Ask for new workers."""
    service.signal(signal.SIGHUP)


@pytest.mark.soak
@pytest.mark.timeout(600 if LONG else 120)
@pytest.mark.parametrize(
    ("options", "restart"), [((), noticed), (("--noreload",), hung_up)], ids=["reload", "SIGHUP"]
)
def test_every_frame_is_answered_once_and_in_order_while_code_changes(
    site: Site, options: tuple[str, ...], restart: Callable[[Service], None]
) -> None:
    service = site.runserver("--workers", "2", *options)
    since: list[int] = []
    with site.socket("/echo/") as client, Talk(client) as talk:
        for version in range(1, RESTARTS + 1):
            site.write("gallery/version.py", f"VERSION = {version}\n")
            restart(service)
            service.expect("rolled")
            since.append(talk.sent)
    assert talk.error is None
    assert [answer.frame for answer in talk.answers] == list(range(talk.sent))
    for version, first in enumerate(since):
        # Frames that were sent before a restart was over may meet code of both sides of it.
        following = since[version + 1] if version + 1 < len(since) else talk.sent
        found = {answer.version for answer in talk.answers[first + 1 : following]}
        assert found <= {version + 1, version + 2}
    print(  # noqa: T201  (the figures are the point)
        f"{RESTARTS} restarts, {talk.sent} frames at {PER_SECOND}/s, all answered once and in "
        f"order; the longest wait was {max(answer.waited for answer in talk.answers):.3f} s"
    )
    assert "Traceback" not in site.output


def test_code_that_does_not_import_leaves_the_old_workers(site: Site) -> None:
    service = site.runserver("--workers", "1")
    with site.socket("/echo/") as client:
        before = (site.directory / "gallery/views.py").read_text()
        site.write("gallery/views.py", f"{before}\nraise ImportError('an unfinished edit')\n")
        service.expect("an unfinished edit")
        service.expect("the old ones stay")
        client.send("still here?")
        assert client.recv(PATIENCE) == "0 still here?"
        site.write("gallery/views.py", before)
        site.write("gallery/version.py", "VERSION = 1\n")
        service.expect("rolled")
        client.send("and now?")
        assert client.recv(PATIENCE) == "1 and now?"
