"""Many senders and receivers at once, and some that are cancelled: nobody oversleeps."""

import asyncio
import threading
from functools import partial
from typing import Any

import pytest

from busway.bus.conformance.harness import MOMENT, Bus, Task, Topic, promptly
from busway.bus.conformance.peers import PATIENCE
from busway.bus.operations import Send


class Crowds(Topic):
    """Many senders and receivers at once: everything arrives, nobody oversleeps."""

    def test_threads_lose_no_wake_up(self, bus: Bus) -> None:
        layer = bus.layer(capacity=20)
        total, found = 4 * 60, list[int]()
        lock = threading.Lock()

        def send(first: int, count: int) -> None:
            sender = layer.reader()
            for n in range(first, first + count):
                while sender.exchange([Send("crowd", {"n": n})], wake_below=1).refused:
                    sender.sleep()

        def receive() -> None:
            while True:
                message = layer.next_message("crowd", timeout=PATIENCE)
                with lock:
                    if message["n"] < 0:
                        return
                    found.append(message["n"])

        with promptly():
            receivers = [Task(receive) for _ in range(4)]
            senders = [Task(partial(send, start, 60)) for start in range(0, total, 60)]
            for sender in senders:
                sender.result()
            for _ in receivers:
                send(-1, 1)
            for receiver in receivers:
                receiver.result()
        assert sorted(found) == list(range(total))

    def test_tasks_of_one_event_loop_lose_no_wake_up(self, one_bus: Bus) -> None:
        layer = one_bus.layer(capacity=1000).layer
        found: list[int] = []

        async def receive() -> None:
            for _ in range(20):
                _, message = await layer.areceive(["crowd"], timeout=PATIENCE)
                assert message is not None, "a task slept on"
                found.append(message["n"])

        async def send(first: int) -> None:
            for n in range(first, first + 20):
                await layer.asend("crowd", {"n": n})
                await asyncio.sleep(0)

        async def crowd() -> None:
            async with asyncio.TaskGroup() as tasks:
                for n in range(15):
                    tasks.create_task(receive())
                    tasks.create_task(send(20 * n))

        with promptly():
            asyncio.run(crowd())
        assert sorted(found) == list(range(300))

    def test_threads_and_an_event_loop_share_a_layer(self, one_bus: Bus) -> None:
        layer = one_bus.layer(capacity=1000).layer

        async def answer() -> None:
            for _ in range(50):
                _, message = await layer.areceive(["questions"], timeout=PATIENCE)
                assert message is not None, "the event loop slept on"
                await layer.asend(message["reply_channel"], {"n": message["n"] + 1})

        with promptly():
            task = Task(lambda: asyncio.run(answer()))
            for n in range(50):
                name = layer.new_channel("reply?")
                layer.send("questions", {"reply_channel": name, "n": n})
                assert layer.receive([name], timeout=PATIENCE) == (name, {"n": n + 1})
            task.result()


class Cancelling(Topic):
    """A cancelled `areceive` or `async_wait` takes nothing with it."""

    def test_a_cancelled_receive_loses_nothing(self, one_bus: Bus) -> None:
        layer = one_bus.layer().layer

        async def scenario() -> object:
            task = asyncio.create_task(layer.areceive(["work"], timeout=None))
            await asyncio.sleep(MOMENT / 10)
            await cancel(task)
            await layer.asend("work", {"n": 1})
            return await layer.areceive(["work"], timeout=PATIENCE)

        with promptly():
            assert asyncio.run(scenario()) == ("work", {"n": 1})

    @pytest.mark.parametrize("turns", range(6))
    def test_a_receive_cancelled_as_its_message_comes_loses_nothing(
        self, one_bus: Bus, turns: int
    ) -> None:
        layer = one_bus.layer().layer

        async def scenario() -> None:
            tasks = [asyncio.create_task(layer.areceive(["work"], None)) for _ in range(3)]
            await asyncio.sleep(MOMENT / 10)
            await layer.asend("work", {"n": 1})
            for _ in range(turns):
                await asyncio.sleep(0)
            unfinished = [task for task in tasks if not task.done()]
            if len(unfinished) == 3:
                # The first to sleep is the one that was woken.
                await cancel(tasks.pop(0))
            async with asyncio.timeout(PATIENCE):
                done, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            assert [task.result() for task in done] == [("work", {"n": 1})]
            for task in left:
                await cancel(task)

        with promptly():
            asyncio.run(scenario())

    def test_timeouts_around_receive_lose_nothing(self, one_bus: Bus) -> None:
        layer = one_bus.layer().layer

        async def scenario() -> list[int]:
            found: list[int] = []
            complete = asyncio.Event()

            async def receive() -> None:
                while True:
                    try:
                        async with asyncio.timeout(0.001):
                            _, message = await layer.areceive(["work"], timeout=None)
                    except TimeoutError:
                        continue
                    assert message is not None
                    found.append(message["n"])
                    if len(found) == 50:
                        complete.set()

            tasks = [asyncio.create_task(receive()) for _ in range(4)]
            for n in range(50):
                await layer.asend("work", {"n": n})
                await asyncio.sleep(0.001)
            async with asyncio.timeout(PATIENCE):
                await complete.wait()
            for task in tasks:
                await cancel(task)
            return found

        with promptly():
            assert sorted(asyncio.run(scenario())) == list(range(50))

    def test_a_cancelled_wait_can_be_taken_up_again(self, one_bus: Bus) -> None:
        layer = one_bus.layer()
        reader = layer.reader()

        async def scenario() -> bool:
            reader.listen("work")
            task = asyncio.create_task(reader.receiver.async_wait(None))
            await asyncio.sleep(MOMENT / 10)
            await cancel(task)
            layer.send("work", {})
            return await reader.receiver.async_wait(PATIENCE)

        with promptly():
            assert asyncio.run(scenario())

    def test_waiting_lets_the_event_loop_run(self, one_bus: Bus) -> None:
        layer = one_bus.layer().layer

        async def scenario() -> object:
            task = asyncio.create_task(layer.areceive(["work"], timeout=PATIENCE))
            for _ in range(20):
                await asyncio.sleep(0.001)
            assert not task.done()
            await layer.asend("work", {"n": 1})
            return await task

        with promptly():
            assert asyncio.run(scenario()) == ("work", {"n": 1})


async def cancel(task: asyncio.Task[Any]) -> None:
    """Cancel `task`, and wait for its end."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
