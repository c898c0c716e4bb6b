"""A contestant that runs."""

import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass

from bench.child import Child
from bench.load.crowd import Crowd
from bench.target import Failure, Target

_READY_WITHIN_S = 20.0


@dataclass(frozen=True, slots=True)
class Service:
    """The port it listens on, and the children that make it."""

    port: int
    children: tuple[Child, ...]
    #: A path that is answered with 200 when it is ready; empty: a WebSocket opens on ``/open``.
    probe: str = ""

    @property
    def target(self) -> Target:
        """What the load generator must know of it."""
        return Target(self.port, tuple(child.pid for child in self.children))

    def wait_until_ready(self) -> None:
        """Return when it answers; raise Failure when it ends, or takes too long."""
        deadline = time.monotonic() + _READY_WITHIN_S
        while time.monotonic() < deadline:
            for child in self.children:
                child.check_alive()
            with suppress(Failure, OSError):
                self._try()
                return
            time.sleep(0.05)
        raise Failure(f"no answer within {_READY_WITHIN_S:.0f} s: {self.last_words()}")

    def _try(self) -> None:
        if self.probe:
            address = f"http://127.0.0.1:{self.port}{self.probe}"
            with urllib.request.urlopen(address, timeout=_READY_WITHIN_S):
                return
        with Crowd(self.target) as crowd:
            crowd.open("/open", 1)

    def last_words(self) -> str:
        """The end of what its server printed."""
        return self.children[0].last_words()
