"""What large groups cost the server."""

import os
from secrets import token_hex

import pytest

from busway.bus.operations import GroupAdd, GroupSend, Send
from busway.bus.redis import RedisChannelLayer
from servers.redis import RedisServer

LONG = os.environ.get("BUSWAY_SOAK") == "long"
MEMBERS = 100_000
SENDS = 50


def cost_of_a_send(server: RedisServer, layer: RedisChannelLayer) -> float:
    """Return how many seconds of its processor the server takes for a message to the group."""
    with layer.receiver() as sender:
        sender.exchange([GroupSend("all", {"n": 0})])
        before = processor_time(server)
        for n in range(SENDS):
            sender.exchange([GroupSend("all", {"n": n})])
    return (processor_time(server) - before) / SENDS


def processor_time(server: RedisServer) -> float:
    """Return the seconds of a processor that a server has used."""
    found = server.info("cpu")
    return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])


@pytest.mark.soak
@pytest.mark.parametrize(
    ("processes", "bound"), [(1, 0.001), (4, 0.001), (100, 0.005)] if LONG else [(4, 0.001)]
)
def test_a_message_to_a_large_group_costs_the_server_little(
    server: RedisServer, processes: int, bound: float
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
    assert cost < bound


@pytest.mark.soak
def test_the_end_of_a_process_costs_the_server_little(server: RedisServer) -> None:
    layer = RedisChannelLayer(server.url, capacity=2 * MEMBERS)
    ending = RedisChannelLayer(server.url, capacity=2 * MEMBERS)
    prefix = f"web.{token_hex(4)}!"
    ending.receive([prefix])
    with ending.receiver() as reader, layer.receiver() as sender:
        reader.exchange((), (), [prefix], 1, wake_below=1)
        for first in range(0, MEMBERS, 1000):
            numbers = range(first, first + 1000)
            sender.exchange([GroupAdd("all", f"{prefix}{n}") for n in numbers])
            sender.exchange([Send(f"body?{n}", {}) for n in numbers])
        before = processor_time(server)
        ending.close()
        cost = processor_time(server) - before
    print(f"{1e3 * cost:.0f} ms")  # noqa: T201
    assert layer.group_channels("all") == []
    assert layer.group_sizes() == {}
    layer.close()
    assert cost < 1
