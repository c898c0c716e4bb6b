"""A network that is cut: nobody is told, nothing comes, and later it is there again."""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from bus.redis.party import Account
from bus.redis.traffic import CHANNEL, CONNECTIONS
from busway.bus.redis import RedisChannelLayer
from servers.hosts import Host, Network
from servers.redis import RedisServer
from servers.starting import until
from services import Service

LONG = os.environ.get("BUSWAY_SOAK") == "long"
CUT = 30.0 if LONG else 8.0
"""Seconds: longer than a process counts as alive that is not heard of."""

NOTICES = 15.0
"""Seconds within which a sleeper notices; the kernel alone would take twice as long."""

WAKES = 1.0
"""Seconds within which a sleeper gets a message, when it is woken."""


@pytest.fixture
def server(network: Network) -> Iterator[RedisServer]:
    """Return a server on the first host, which keeps everything it has accepted."""
    one = network.hosts[0]
    durable = {"appendfsync": "always"}
    with RedisServer(
        host=one.address, inside=one.inside, persistent=True, options=durable
    ) as server:
        yield server


def goes_on(party: Service) -> None:
    """Wait until everybody in a process has gone on since now."""
    now = time.time()
    while float(party.expect(r"goes on ([\d.]+)")[1]) < now + 0.5:
        pass


def cut(network: Network, seconds: float) -> None:
    """Cut the second host off for a while."""
    network.hosts[1].cut()
    time.sleep(seconds)
    network.hosts[1].heal()


def accounts(*parties: tuple[Service, Path]) -> tuple[Counter[str], Counter[str]]:
    """End processes; returns what was sent and what was handled."""
    for party, _ in parties:
        party.signal(signal.SIGTERM)
    sent: Counter[str] = Counter()
    handled: Counter[str] = Counter()
    for party, path in parties:
        party.expect("account")
        account = msgspec.json.decode(path.read_bytes(), type=Account)
        sent.update(account.sent)
        handled.update(account.handled)
    return sent, handled


@pytest.mark.soak
@pytest.mark.timeout(300)
class TestCut:
    """Writers and workers on two hosts, one of which has the server."""

    @pytest.mark.parametrize(
        "timeout", [pytest.param(2, id="noticed"), pytest.param(30, id="not noticed")]
    )
    def test_messages_are_handled_once_or_counted(
        self, network: Network, server: RedisServer, tmp_path: Path, timeout: int
    ) -> None:
        url = f"{server.url}?socket_timeout={timeout}"
        parties = []
        for number, host in enumerate(network.hosts):
            path = tmp_path / str(number)
            command = ["python", "-m", "bus.redis.party", "flow", url, str(path)]
            parties.append((host.start(command, environment=environment()), path))
        for party, _ in parties:
            goes_on(party)
        cut(network, CUT)
        for party, _ in parties:
            goes_on(party)
        until(lambda: server.connections() <= 2 * CONNECTIONS, "no connection leaks")
        sent, handled = accounts(*parties)
        layer = RedisChannelLayer(server.unix_url)
        left = [message["id"] for message in drain(layer)]
        dropped = layer.statistics().dropped
        layer.close()
        handled.update(left)
        assert [each for each, times in handled.items() if times > 1] == []
        lost = sent.keys() - handled.keys()
        assert len(lost) <= sum(dropped.values()), (len(lost), dropped)
        assert len(handled) > 100


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_sleepers_notice_that_their_server_is_another(
    network: Network, server: RedisServer, tmp_path: Path
) -> None:
    """A connection whose other end vanished during a cut never says so by itself."""
    sleeper = network.hosts[1].start(
        ["python", "-m", "bus.redis.party", "sleep", server.url, str(tmp_path)],
        environment=environment(),
    )
    layer = RedisChannelLayer(server.unix_url)
    until(lambda: bells(server) == 1, "it sleeps")
    layer.send(CHANNEL, {"sent": time.time()})
    assert float(sleeper.expect(r"took ([\d.]+)")[1]) < WAKES
    one, two = network.hosts
    one.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/tcp_orphan_retries")
    two.cut()
    server.restart()
    until(lambda: not closing(one), "its host has forgotten the connections, as after a crash")
    two.heal()
    start = time.monotonic()
    assert bells(server) == 0
    until(lambda: bells(server) == 1, "it sleeps again")
    assert time.monotonic() - start < NOTICES
    layer.send(CHANNEL, {"sent": time.time()})
    assert float(sleeper.expect(r"took ([\d.]+)")[1]) < WAKES
    layer.close()


def closing(host: Host) -> list[str]:
    """Return the connections of a host whose end was not acknowledged."""
    lines = host.run("cat", "/proc/net/tcp").splitlines()[1:]
    return [line for line in lines if line.split()[3] in ("04", "09")]  # FIN_WAIT1, LAST_ACK


def bells(server: RedisServer) -> int:
    """Return how many receivers could be woken."""
    return int(server.info("stats")["pubsub_channels"])


def drain(layer: RedisChannelLayer) -> Iterator[dict[str, str]]:
    """Receive everything that waits."""
    while (message := layer.receive([CHANNEL])[1]) is not None:
        yield message


def environment() -> dict[str, str]:
    """Return what a process needs to find the tests."""
    return {"PYTHONPATH": str(Path(__file__).parents[2])}
