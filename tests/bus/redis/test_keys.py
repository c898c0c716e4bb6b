"""What is left on the server, and what becomes of it."""

from contextlib import closing

import pytest

from busway.bus.conformance.harness import eventually
from busway.bus.operations import GroupAdd, GroupDiscard, GroupSend, Leave, Send
from busway.bus.redis import RedisChannelLayer
from busway.bus.redis.receiver import LOOK_INTERVAL
from servers.redis import RedisServer

P = "busway:{0}:"


@pytest.mark.parametrize(
    "end", [GroupDiscard("group", "proc.x!a"), Leave("proc.x!a")], ids=["discard", "leave"]
)
def test_a_group_is_forgotten_with_its_last_member(
    server: RedisServer, layer: RedisChannelLayer, end: GroupDiscard | Leave
) -> None:
    layer.exchange([GroupAdd("group", "proc.x!a"), GroupAdd("group", "proc.x!b")])
    layer.exchange([end])
    assert server.call("ZCARD", f"{P}groups") == 1
    layer.exchange([GroupDiscard("group", "proc.x!b")])
    assert server.call("ZCARD", f"{P}groups") == 0


def test_who_waits_for_room_is_woken_when_what_is_before_him_expires(server: RedisServer) -> None:
    layer = RedisChannelLayer(server.url, capacity=1, expiry=0.1)
    reader = layer.receiver()
    reader.exchange([Send("in?x", {})])
    outcome = reader.exchange([Send("in?x", {})], (), ["other"], 1, wake_below=1)
    assert len(outcome.refused) == 1
    reader.drain()
    eventually(lambda: layer.statistics("in?x").dropped, "it has expired")
    assert reader.wait(LOOK_INTERVAL / 2)
    assert server.call("KEYS", f"{P}w:*") == []
    reader.close()
    layer.close()


def test_lanes_go_on_when_the_process_dies_that_their_messages_are_for(
    server: RedisServer,
) -> None:
    policies = {"proc.*": {"ordering": "key"}}
    layer = RedisChannelLayer(server.url, policies=policies)
    other = RedisChannelLayer(server.url, policies=policies)
    other.receive(["proc.x!"])
    with other.receiver() as reader:
        reader.exchange((), (), ["proc.x!"], 1, wake_below=1)
        for channel in ("proc.x!a", "proc.x!a", "proc.y!a"):
            layer.send(channel, {"key": "k", "to": channel})
        layer._ask("leave", other.process.encode(), b"", b"", b"", b"")
        assert layer.receive(["proc.y!"]) == ("proc.y!a", {"key": "k", "to": "proc.y!a"})
    found = layer.statistics()
    assert (found.messages_pending, found.dropped) == (0, {"receiver died": 2})
    assert server.call("KEYS", f"{P}l") == server.call("KEYS", f"{P}b:*") == []
    other.close()
    layer.close()


def test_thousands_of_bundles_are_taken_and_done_at_once(server: RedisServer) -> None:
    count = 5000
    layer = RedisChannelLayer(server.url, capacity=count)
    with layer.receiver() as reader:
        for n in range(count):
            reader.exchange([Send("work", {"n": n})])
        found = reader.exchange((), (), ["work"], count).deliveries
        assert [each.message["n"] for each in found] == list(range(count))
        reader.exchange((), found)
        assert server.call("KEYS", f"{P}h:*") == []
    assert layer.statistics().messages_pending == 0
    layer.close()


def test_thousands_of_channels_are_read_at_once(layer: RedisChannelLayer) -> None:
    channels = [f"work{n}" for n in range(9000)]
    layer.send(channels[-1], {"n": 1})
    assert layer.receive(channels) == (channels[-1], {"n": 1})


def test_who_took_all_that_fits_into_an_answer_looks_again(layer: RedisChannelLayer) -> None:
    with layer.receiver() as reader:
        reader.exchange((), (), ["proc.x!"], 1)
        reader.exchange([Send("proc.x!a", {"data": "x" * 1_000_000}) for _ in range(9)])
        reader.drain()
        found = reader.exchange((), (), ["proc.x!"], 32, wake_below=32, hold=False).deliveries
        assert len(found) < 9
        assert reader.wait(LOOK_INTERVAL / 2)


def test_thousands_of_group_messages_for_nobody_are_passed_over(server: RedisServer) -> None:
    layer = RedisChannelLayer(server.url, capacity=2000)
    other = RedisChannelLayer(server.url)  # which was not told of the member
    with layer.receiver() as reader:
        reader.exchange((), (), ["proc.x!"], 1)
        reader.exchange([GroupAdd("group", "proc.x!a")])
        reader.exchange((), (), ["proc.x!"], 1)
        reader.exchange([GroupSend("group", {"n": n}) for n in range(1100)])
        reader.exchange([Send("proc.x!a", {"n": -1})])
        assert other.receive(["proc.x!"]) == ("proc.x!a", {"n": -1})
    other.close()
    layer.close()


@pytest.mark.parametrize("hold", [True, False])
def test_what_another_client_sent_and_is_no_message_is_dropped_and_counted(
    server: RedisServer, *, hold: bool
) -> None:
    layer = RedisChannelLayer(server.url, policies={"work": {"ordering": "key"}})
    with layer.receiver() as reader:
        reader.exchange([Send("work", {"key": "k", "n": n}) for n in range(2)])
        reader.exchange([Send("work", {"key": "other", "n": 2})])
        first = server.call("LINDEX", f"{P}m:work", 0)
        body, text = b"\x82\xa3key\xa1k\xa1n\x00", b"\xa9no-map---"  # as many bytes
        assert body in first
        server.call("LSET", f"{P}m:work", 0, first.replace(body, text))
        found: list[int] = []
        while len(found) < 2:
            outcome = reader.exchange((), (), ["work"], 9, wake_below=1, hold=hold)
            found += [each.message["n"] for each in outcome.deliveries]
            reader.exchange((), outcome.deliveries)
        assert sorted(found) == [1, 2]
    assert layer.statistics().dropped == {"malformed": 1}
    layer.close()


class TestFull:
    """A server whose memory is in use."""

    def test_messages_to_groups_are_dropped_and_counted(
        self, server: RedisServer, layer: RedisChannelLayer
    ) -> None:
        layer.exchange([GroupAdd("group", "in?x"), GroupAdd("group", "proc.x!a")])
        fill(server)
        layer.group_send("group", {})
        found = layer.channel_statistics()
        assert found["in?x"].dropped == found["proc.x!"].dropped == {"memory": 1}

    def test_what_is_done_is_done_though_a_group_gets_nothing(self, server: RedisServer) -> None:
        layer = RedisChannelLayer(server.url, policies={"work": {"ordering": "key"}})
        with layer.receiver() as reader:
            reader.exchange([GroupAdd("group", "work")])
            reader.exchange([Send("work", {"key": "a", "n": n}) for n in range(2)])
            found = reader.exchange((), (), ["work"], 1).deliveries
            fill(server)
            outcome = reader.exchange([GroupSend("group", {"key": "b"})], found, ["work"], 1)
            assert outcome.refused == []
            assert [each.message["n"] for each in outcome.deliveries] == [1]
            reader.exchange((), outcome.deliveries)
            assert layer.statistics().dropped == {"memory": 1}
        assert layer.receive(["work"]) == (None, None)
        layer.close()


def fill(server: RedisServer) -> None:
    """Let a server have no memory left."""
    server.call("CONFIG", "SET", "maxmemory", "100kb")


def test_a_channel_that_was_full_is_known_after_a_flush(server: RedisServer) -> None:
    with closing(RedisChannelLayer(server.url, capacity=1)) as layer, layer.receiver() as receiver:
        sends = [Send("work", {"n": n}) for n in range(2)]
        assert receiver.exchange(sends, (), ["other"], 1, wake_below=1).refused
        layer.flush()
        layer.send("work", {"n": 3})
        assert layer.channel_statistics()["work"].messages_pending == 1
        layer.flush()
        assert layer.peek("work") is None
