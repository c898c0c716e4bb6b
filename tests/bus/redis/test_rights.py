"""The rights that the documentation gives to a user of Redis are enough, and no more."""

import re
from contextlib import closing
from functools import partial
from pathlib import Path
from secrets import token_hex

import pytest

from busway.bus.conformance import Factory, accounts, groups, inspection, lanes
from busway.bus.errors import LayerUnavailable
from busway.bus.operations import Delivery
from busway.bus.redis import RedisChannelLayer
from servers.redis import RedisServer

ROOT = Path(__file__).parents[3]
CLIENT = {"auth", "select", "info", "cluster|slots", "eval", "evalsha", "subscribe"}
"""Commands that no script runs."""


def documented() -> list[str]:
    """Return the rules that the page gives to the user of the prefix "chat"."""
    page = (ROOT / "docs/how-to/redis.md").read_text()
    (block,) = re.findall(r"```aclfile\nuser chat on >PASSWORD (.*?)```", page, re.DOTALL)
    return str(block).split()


def grant(server: RedisServer, prefix: str) -> str:
    """Return the URL for a new user who has those rights, for one prefix."""
    rules = [rule.replace("chat:", f"{prefix}:") for rule in documented()]
    server.call("ACL", "SETUSER", f"user-{prefix}", "on", ">secret", *rules)
    return server.url_for(f"user-{prefix}", "secret")


class TestLeastRights(
    groups.Endings,
    lanes.LaneRoom,
    accounts.Counts,
    accounts.Flush,
    inspection.Channels,
    inspection.Groups,
    inspection.Shards,
):
    """What uses every script, by a user who may do nothing else."""

    across_processes = True

    @pytest.fixture
    def layer_factory(self, redis_server: RedisServer) -> Factory:
        """Return what makes layers on a bus of this test's own."""
        prefix = token_hex(4)
        return partial(RedisChannelLayer, grant(redis_server, prefix), prefix=prefix)


def test_they_are_enough_on_every_kind_of_server(each_redis_server: RedisServer) -> None:
    prefix = token_hex(4)
    url = grant(each_redis_server, prefix)
    with closing(RedisChannelLayer(url, prefix=prefix)) as layer, layer.receiver() as receiver:
        layer.send("work", {"n": 1}, delay=0.01)
        layer.group_add("group", "work")
        layer.group_add("group", "proc.x!y")
        layer.group_send("group", {"n": 2})
        assert layer.peek("work") == {"n": 2}
        found: list[Delivery] = []
        while len(found) < 3:
            more = receiver.exchange((), (), ["work", "proc.x!"], 9, wake_below=1).deliveries
            found += more
            assert more or receiver.wait(10)
        assert all(receiver.begin(each) for each in found)
        receiver.exchange((), found)
        assert layer.group_sizes()["group"].members == 2
        assert [shard.healthy for shard in layer.shards()] == [True]
        layer.flush()
        assert layer.statistics().messages_count == 0


def test_another_prefix_is_out_of_reach(redis_server: RedisServer) -> None:
    remedy = "the keys and the channels of the prefix"
    url = grant(redis_server, token_hex(4))
    with closing(RedisChannelLayer(url)) as layer, pytest.raises(LayerUnavailable, match=remedy):
        layer.send("work", {})


def test_no_right_is_given_that_nobody_uses() -> None:
    scripts = "".join(p.read_text() for p in (ROOT / "src/busway/bus/redis/lua").glob("*.lua"))
    used = {name.lower() for name in re.findall(r"call\('([A-Z]+)'", scripts)}
    assert {rule[1:] for rule in documented() if rule[0] == "+"} == used | CLIENT
