"""Async code never holds up its event loop, even when the server hangs."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from secrets import token_hex
from typing import Any

import pytest

from busway.bus.operations import Send
from busway.bus.redis import RedisChannelLayer
from servers.redis import RedisServer

Call = Callable[[RedisChannelLayer], Coroutine[Any, Any, Any]]

CALLS: dict[str, Call] = {
    "asend": lambda layer: layer.asend("work", {}),
    "areceive": lambda layer: layer.areceive(["work"]),
    "agroup_channels": lambda layer: layer.agroup_channels("group"),
    "apeek": lambda layer: layer.apeek("work"),
    "aflush": lambda layer: layer.aflush(),
    "astatistics": lambda layer: layer.astatistics(),
}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def layer(server: RedisServer) -> Iterator[RedisChannelLayer]:
    layer = RedisChannelLayer(server.unix_url, prefix=token_hex(4))
    yield layer
    layer.close()


async def hang(server: RedisServer, call: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Return a task that has asked a server that does not answer."""
    server.pause()
    task = asyncio.create_task(call)
    clock = asyncio.get_running_loop().time
    start = clock()
    try:
        await asyncio.sleep(0.05)  # a loop that is held up goes on when the call has failed
        assert not task.done()
        assert clock() < start + 5
    finally:
        server.resume()
    return task


@pytest.mark.parametrize("name", CALLS)
async def test_the_loop_goes_on_while_a_server_is_awaited(
    server: RedisServer, layer: RedisChannelLayer, name: str
) -> None:
    await layer.asend("busy", {})
    await (await hang(server, CALLS[name](layer)))


async def test_the_loop_goes_on_while_much_is_sent(
    server: RedisServer, layer: RedisChannelLayer
) -> None:
    receiver = layer.receiver()
    await receiver.aexchange()
    sends = [Send("large", {"data": "x" * 1_000_000}) for _ in range(20)]
    await (await hang(server, receiver.aexchange(sends)))
    assert (await layer.astatistics("large")).messages_pending == 20
    await receiver.aclose()


async def test_the_loop_goes_on_while_a_receiver_is_closed(
    server: RedisServer, layer: RedisChannelLayer
) -> None:
    receiver = layer.receiver()
    await receiver.aexchange((), (), ["work"], 1, wake_below=1)
    await (await hang(server, receiver.aclose()))


async def test_the_loop_goes_on_while_a_cancelled_exchange_gives_back_what_it_took(
    server: RedisServer, layer: RedisChannelLayer
) -> None:
    await layer.asend("work", {})
    receiver = layer.receiver()
    server.pause()
    task = asyncio.create_task(receiver.aexchange((), (), ["work"], 1))
    try:
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.sleep(0.05)
        assert not task.done()
    finally:
        server.resume()
    with pytest.raises(asyncio.CancelledError):
        await task
    await receiver.aclose()
    assert await layer.areceive(["work"]) == ("work", {})
