"""Messages on Redis that nobody without a key can read, change, or pass off as another's."""

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import pairwise
from secrets import token_hex
from typing import Any

import pytest

from bus.topics import LONG, OfMessages
from busway.bus.conformance import Factory, Suite
from busway.bus.operations import GroupAdd, GroupSend, Send
from busway.bus.redis import RedisChannelLayer
from busway.bus.redis.receiver import RedisReceiver
from servers.redis import RedisServer

OLD, NEW = "an old key of many letters", "a new key of many letters"


class TestEncrypted(Suite if LONG else OfMessages):  # type: ignore[misc]
    """What the contract says of messages, on a server that sees none of them."""

    across_processes = True

    @pytest.fixture
    def layer_factory(self, redis_server: RedisServer) -> Factory:
        """Return what makes layers with keys on a bus of this test's own."""
        return partial(
            RedisChannelLayer,
            redis_server.unix_url,
            prefix=token_hex(4),
            encryption_keys=[NEW, OLD],
        )


Make = Callable[..., RedisChannelLayer]


@pytest.fixture
def prefix() -> str:
    return token_hex(4)


@pytest.fixture
def make(redis_server: RedisServer, prefix: str) -> Make:
    """Return what makes layers on one bus, with keys or without."""
    return partial(RedisChannelLayer, redis_server.unix_url, prefix=prefix)


@pytest.fixture
def layer(make: Make) -> Iterator[RedisChannelLayer]:
    with closing(make(encryption_keys=[NEW])) as layer:
        yield layer


def stored(server: RedisServer, prefix: str) -> dict[bytes, bytes]:
    """Return everything that a server has of a bus, as it would move it elsewhere."""
    with server.client() as client:
        keys = list(client.scan_iter(match=f"{prefix}:*"))
        return {key: client.dump(key) or b"" for key in keys}


def test_nothing_of_a_message_can_be_read_on_the_server(
    layer: RedisChannelLayer, make: Make, redis_server: RedisServer, prefix: str
) -> None:
    def fill(layer: RedisChannelLayer) -> bytes:
        layer.group_add("group", "work")
        layer.send("work", {"secret": "pineapple"})
        layer.send("work", {"secret": "pineapple"}, delay=60)
        layer.group_send("group", {"secret": "pineapple"})
        found = stored(redis_server, prefix)
        layer.flush()
        return b"".join(key + value for key, value in found.items())

    with closing(make()) as open_layer:
        assert b"pineapple" in fill(open_layer)
    sealed = fill(layer)
    assert b"work" in sealed
    assert b"pineapple" not in sealed


def change(data: bytes) -> bytes:
    """Return a bundle with another byte in the body of its last message."""
    place = len(data) - 10
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def test_a_changed_message_is_dropped_counted_and_said(
    layer: RedisChannelLayer,
    redis_server: RedisServer,
    prefix: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    layer.send("work", {"n": 1})
    with redis_server.client() as client:
        (bundle,) = client.lrange(f"{prefix}:{{0}}:m:work", 0, -1)
        client.lset(f"{prefix}:{{0}}:m:work", 0, change(bundle))
    layer.send("work", {"n": 2})
    assert layer.peek("work") is None
    assert layer.receive(["work"], timeout=5) == ("work", {"n": 2})
    counts = layer.statistics("work")
    assert (counts.dropped, counts.messages_pending) == ({"tampered": 1}, 0)
    assert "is dropped, and counted" in caplog.text


@pytest.mark.parametrize("keys", [None, [OLD]])
@pytest.mark.parametrize("channel", ["work", "body?x", "proc.x!y"])
def test_who_has_no_key_can_send_nothing(
    layer: RedisChannelLayer, make: Make, keys: list[str] | None, channel: str
) -> None:
    name = channel.removesuffix("y")
    with closing(make(encryption_keys=keys)) as enemy:
        enemy.group_add("group", channel)
        enemy.send(channel, {"n": 1})
        enemy.group_send("group", {"n": 2})
        layer.send(channel, {"n": 3})
        assert layer.receive([name], timeout=5) == (channel, {"n": 3})
        assert layer.receive([name]) == (None, None)
        assert layer.statistics(name).dropped == {"tampered": 2}


def test_a_message_moved_to_another_channel_is_dropped(
    layer: RedisChannelLayer, redis_server: RedisServer, prefix: str
) -> None:
    for channel in ("this", "that"):
        layer.send(channel, {"for": channel})
    this, that = (f"{prefix}:{{0}}:m:{channel}" for channel in ("this", "that"))
    with redis_server.client() as client:
        moved = client.lrange(that, 0, 0)[0].replace(b"that", b"this")
        client.lset(this, 0, moved)
    assert layer.receive(["this"]) == (None, None)
    assert layer.statistics("this").dropped == {"tampered": 1}
    assert layer.receive(["that"]) == ("that", {"for": "that"})


def test_a_lane_goes_on_behind_a_changed_message(
    make: Make, redis_server: RedisServer, prefix: str
) -> None:
    with (
        closing(make(encryption_keys=[NEW], policies={"work": {"ordering": "key"}})) as layer,
        layer.receiver() as receiver,
    ):
        for n in range(2):
            layer.send("work", {"key": "a", "n": n})
        with redis_server.client() as client:
            key = f"{prefix}:{{0}}:m:work"
            client.lset(key, 0, change(client.lrange(key, 0, 0)[0]))
        found: list[Any] = []
        while not found:
            found = receiver.exchange((), (), ["work"], 9, wake_below=1).deliveries
            assert found or receiver.wait(10)
        assert [each.message["n"] for each in found] == [1]


def test_a_lane_goes_on_behind_a_changed_message_on_a_full_server(server: RedisServer) -> None:
    make = partial(RedisChannelLayer, server.url, policies={"work": {"ordering": "lane"}})
    with (
        closing(make()) as stranger,
        closing(make(encryption_keys=[NEW])) as layer,
        layer.receiver() as receiver,
    ):
        stranger.send("work", {"lane": "a", "n": 1})
        layer.send("work", {"lane": "a", "n": 2})
        receiver.exchange((), (), ["work"], 0)
        server.call("CONFIG", "SET", "maxmemory", "1")
        found = receiver.exchange((), (), ["work"], 10).deliveries
        server.call("CONFIG", "SET", "maxmemory", "0")
        found += receiver.exchange((), (), ["work"], 10).deliveries
        assert [each.message["n"] for each in found] == [2]


def test_keys_can_be_changed_one_process_after_the_other(make: Make) -> None:
    steps = [[OLD], [OLD, NEW], [NEW, OLD], [NEW]]
    for before, after in pairwise(steps):
        with (
            closing(make(encryption_keys=before)) as one,
            closing(make(encryption_keys=after)) as two,
        ):
            for sender, reader in ((one, two), (two, one)):
                sender.send("work", {"n": 1})
                assert reader.receive(["work"]) == ("work", {"n": 1})


def test_what_is_put_back_is_closed_again(layer: RedisChannelLayer, make: Make) -> None:
    reader = layer.receiver()
    assert isinstance(reader, RedisReceiver)
    other = make(encryption_keys=[NEW])
    reader.exchange([GroupAdd("group", "in?x")], (), ["in?x"], 9)
    reader.exchange([Send("in?x", {"n": 1}), GroupSend("group", {"n": 2})])
    found = reader.exchange((), (), ["in?x"], 9).deliveries
    assert [each.message for each in found] == [{"n": 1}, {"n": 2}]
    reader._restore(found)
    assert [other.receive(["in?x"])[1] for _ in range(3)] == [{"n": 1}, {"n": 2}, None]
    reader.close()
    other.close()
