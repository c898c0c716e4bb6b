"""Connections go from event loop to event loop, and to threads, without a reply being lost."""

import asyncio
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from threading import Barrier

import pytest

from busway.bus.receiver import Receiver
from busway.bus.redis import RedisChannelLayer
from servers.redis import RedisServer

TIMES = 20


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def layer(server: RedisServer) -> Iterator[RedisChannelLayer]:
    layer = RedisChannelLayer(server.unix_url, prefix=token_hex(4))
    yield layer
    layer.close()


@contextmanager
def pausing(server: RedisServer) -> Iterator[None]:
    server.pause()
    try:
        yield
    finally:
        server.resume()


async def ask(receiver: Receiver) -> None:
    await receiver.aexchange((), (), ["work"], 1)


async def ask_and_wait(receiver: Receiver, server: RedisServer) -> None:
    """Have the running loop watch the receiver's connection: no answer comes at once."""
    await ask(receiver)
    server.pause()
    task = asyncio.create_task(ask(receiver))
    await asyncio.sleep(0)
    server.resume()
    await task


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_two_loops_exchange_their_receivers(server: RedisServer, layer: RedisChannelLayer) -> None:
    receivers = [layer.receiver(), layer.receiver()]
    together = Barrier(2, timeout=10)

    async def take_turns(mine: Receiver, other: Receiver) -> None:
        if mine is receivers[0]:
            await ask_and_wait(mine, server)
            together.wait()
        else:
            together.wait()
            await ask_and_wait(mine, server)
        together.wait()  # holds up both loops until both are here
        for _ in range(TIMES):
            # Answers come at once or not: then the connection is watched by this loop, or by none.
            await ask(other)
            mine, other = other, mine
            together.wait()

    with ThreadPoolExecutor(2) as threads:
        turns = [
            threads.submit(asyncio.run, take_turns(*order))
            for order in (receivers, receivers[::-1])
        ]
        for turn in turns:
            turn.result(30)
    for receiver in receivers:
        receiver.close()


async def test_a_thread_takes_over_what_a_loop_watches(
    server: RedisServer, layer: RedisChannelLayer
) -> None:
    with layer.receiver() as receiver:
        for _ in range(TIMES):
            await ask_and_wait(receiver, server)
            await asyncio.to_thread(receiver.exchange, (), (), ["work"], 1)


def test_a_loop_that_has_ended_leaves_no_descriptor(
    server: RedisServer, layer: RedisChannelLayer
) -> None:
    with layer.receiver() as receiver:
        asyncio.run(ask_and_wait(receiver, server))
        before = descriptors()
        for _ in range(TIMES):
            asyncio.run(ask_and_wait(receiver, server))
        assert descriptors() == before


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # the child does nothing
def test_a_fork_leaves_what_its_parent_watches_alone(
    server: RedisServer, layer: RedisChannelLayer
) -> None:
    receiver = layer.receiver()
    with asyncio.Runner() as runner:
        runner.run(ask_and_wait(receiver, server))
        layer._lay_by(receiver)
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
        runner.run(asyncio.wait_for(ask_and_wait(receiver, server), 5))


async def test_what_comes_while_nobody_waits_does_not_keep_the_loop_busy(
    server: RedisServer, layer: RedisChannelLayer
) -> None:
    with layer.receiver() as receiver:
        await ask_and_wait(receiver, server)
        server.kill()
        start = time.thread_time()
        await asyncio.sleep(0.2)
        assert time.thread_time() - start < 0.1
        server.start()
        await ask(receiver)
