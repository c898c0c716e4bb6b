"""Frames go from four writers through two interface servers to four workers and back, on two hosts.

Redis is on one of them, and is killed and started again five times meanwhile.
"""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from busway.bus.redis import RedisChannelLayer
from promises.conftest import LONG, environment
from servers.hosts import Host, Network
from servers.redis import RedisServer
from services import Service

FRAMES = 1_000_000 if LONG else 60_000
RESTARTS = 5
UNDER_WAY = 20
"""Frames, of some hundred that wait, that a restart may leave in doubt."""


class Ledger:
    """The service on both hosts, and its writers."""

    def __init__(self, network: Network, server: RedisServer) -> None:
        self._start = time.monotonic()
        self._url = f"{server.url}?capacity=1000"
        self._server = server
        self._results: dict[Service, tuple[int, int]] = {}
        self.before_restarts: Counter[str] = Counter()
        """What the server said before each restart that it had dropped, all together."""
        self.dropped: Counter[str] = Counter()
        """The same, at the end."""
        self.services = [service for host in network.hosts for service in self._serve(host)]
        self.writers = [self._write(host) for host in network.hosts for _ in range(2)]

    def _serve(self, host: Host) -> list[Service]:
        """Start an interface server and two workers on a host."""
        layer = ("--layer", self._url)
        web = host.start(["busway", "web", "--host", host.address, "--port", "8000", *layer])
        command = ["busway", "worker", "promises.apps:echoing", *layer]
        workers = [host.start(command, environment=environment()) for _ in range(2)]
        web.expect("ready on http")
        return [web, *workers]

    def _write(self, host: Host) -> Service:
        command = ["python", "-m", "promises.writer", host.address, "8000", str(FRAMES // 4)]
        return host.start(command, environment=environment())

    def restart_while_they_write(self) -> None:
        """Restart the server in between."""
        for writer in self.writers:
            writer.expect("open")
        for number in range(RESTARTS):
            for writer in self.writers:
                self._wait_for_progress(writer, number * FRAMES // 4 // (RESTARTS + 1))
            self.before_restarts += self._dropped()
            self._server.restart()

    def result(self) -> tuple[int, int]:
        """Wait for the end, and say it; returns how many frames were lost, and came twice."""
        for writer in self.writers:
            while writer not in self._results:
                self._progress(writer)
        found = self._results.values()
        lost, doubled = sum(lost for lost, _ in found), sum(doubled for _, doubled in found)
        self.dropped = self._dropped()
        print(  # noqa: T201
            f"{FRAMES} frames: {FRAMES - lost} received, {doubled} of them twice; "
            f"dropped {dict(self.dropped)}, before restarts {dict(self.before_restarts)}; "
            f"{RESTARTS} restarts; {time.monotonic() - self._start:.1f} s"
        )
        return lost, doubled

    def _wait_for_progress(self, writer: Service, frames: int) -> None:
        """Wait until a writer has settled that many frames, and goes on now; or is at its end."""
        now, before = time.time(), -1
        while (found := self._progress(writer)) is not None:
            settled, moment = found
            if settled >= frames and moment > now:
                if -1 < before < settled:
                    return
                before = settled

    def _progress(self, writer: Service) -> tuple[int, float] | None:
        """Return how many frames a writer says it has settled, and when; None at its end."""
        if writer in self._results:
            return None
        line = writer.expect(r"settled (\d+) at ([\d.]+)|lost (\d+) doubled (\d+)")
        if line[3] is None:
            return int(line[1]), float(line[2])
        self._results[writer] = int(line[3]), int(line[4])
        return None

    def _dropped(self) -> Counter[str]:
        """Return how many messages the server says were dropped, by reason."""
        layer = RedisChannelLayer(self._server.unix_url)
        dropped = Counter(layer.statistics().dropped)
        layer.close()
        return dropped


@pytest.fixture
def directory() -> Iterator[Path]:
    """Return a directory where it costs nothing to be sure that something is written."""
    with TemporaryDirectory(dir="/dev/shm", prefix="busway-test-") as path:
        yield Path(path)


@pytest.mark.soak
@pytest.mark.timeout(7200 if LONG else 180)
class TestLedger:
    """What became of each frame."""

    def test_a_server_that_keeps_its_data_loses_nothing(
        self, network: Network, directory: Path
    ) -> None:
        one = network.hosts[0]
        durable = {"appendfsync": "always", "dir": str(directory)}
        with RedisServer(
            host=one.address, inside=one.inside, persistent=True, options=durable
        ) as server:
            ledger = Ledger(network, server)
            ledger.restart_while_they_write()
            assert ledger.result() == (0, 0)
            assert ledger.dropped.total() == 0

    def test_what_a_server_without_persistence_loses_is_counted(self, network: Network) -> None:
        one = network.hosts[0]
        with RedisServer(host=one.address, inside=one.inside) as server:
            ledger = Ledger(network, server)
            ledger.restart_while_they_write()
            lost, doubled = ledger.result()
            # Counts are lost with the rest: each restart begins a new account.
            counted = (ledger.before_restarts + ledger.dropped).total()
            # What was under way between a process and the server that died is known to neither.
            assert doubled <= UNDER_WAY * RESTARTS
            assert abs(lost - counted) <= UNDER_WAY * RESTARTS
