"""What large groups cost the server, and how many connections many processes have."""

from secrets import token_hex
from statistics import median

import pytest

from busway.bus.operations import GroupAdd, GroupSend
from busway.bus.redis import RedisChannelLayer
from servers.redis import RedisServer

MEMBERS = 100_000
SENDS = 50
BOUND = 0.001
"""Seconds of the server's time."""


def cost_of_a_send(server: RedisServer, layer: RedisChannelLayer) -> float:
    """Return how many seconds the server takes for a message to the group, as a rule."""
    with layer.receiver() as sender:
        sender.exchange([GroupSend("all", {"n": 0})])
        server.call("CONFIG", "SET", "slowlog-max-len", 2 * SENDS, "slowlog-log-slower-than", 0)
        for n in range(SENDS):
            sender.exchange([GroupSend("all", {"n": n})])
    with server.client() as client:
        log = client.slowlog_get(2 * SENDS)
    # The median: the server shares its processor with others.
    return float(median(e["duration"] for e in log if e["command"].startswith(b"EVALSHA"))) / 1e6


@pytest.mark.soak
@pytest.mark.parametrize("processes", [1, 4, 100])
def test_a_message_to_a_large_group_costs_the_server_little(
    server: RedisServer, processes: int
) -> None:
    layer = RedisChannelLayer(server.url, capacity=2 * MEMBERS)
    prefixes = [f"web.{token_hex(4)}!" for _ in range(processes)]
    adds = [GroupAdd("all", f"{prefixes[n % processes]}{n}") for n in range(MEMBERS)]
    with layer.receiver() as sender:
        for first in range(0, MEMBERS, 1000):
            sender.exchange(adds[first : first + 1000])
    size = layer.group_sizes()["all"]
    assert (size.members, size.processes) == (MEMBERS, processes)
    cost = cost_of_a_send(server, layer)
    print(f"{processes} processes: {1e6 * cost:.0f} µs")  # noqa: T201
    for prefix in prefixes:
        # Notices of its members are before them.
        waiting = layer.statistics(prefix).messages_pending
        assert waiting == SENDS + 1
    layer.close()
    assert cost < BOUND
