"""A contestant that runs."""

import time
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

    @property
    def target(self) -> Target:
        """What the load generator must know of it."""
        return Target(self.port, tuple(child.pid for child in self.children))

    def wait_until_ready(self) -> None:
        """Return when it accepts WebSockets; raise Failure when it ends, or takes too long."""
        deadline = time.monotonic() + _READY_WITHIN_S
        while time.monotonic() < deadline:
            for child in self.children:
                child.check_alive()
            with suppress(Failure, OSError), Crowd(self.target) as crowd:
                crowd.open("/open", 1)
                return
            time.sleep(0.05)
        raise Failure(f"no WebSocket opened within {_READY_WITHIN_S:.0f} s: {self.last_words()}")

    def last_words(self) -> str:
        """The end of what its server printed."""
        return self.children[0].last_words()
