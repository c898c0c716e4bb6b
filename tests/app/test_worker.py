"""A worker over the memory layer: what consumers send, and what becomes of their messages."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from app.harness import PATIENCE, Peer, working
from busway import (
    Channel,
    CloseConnection,
    ConsumeLater,
    DenyConnection,
    Group,
    Message,
    ResponseLater,
    Router,
    WebsocketConsumer,
    Worker,
    enforce_ordering,
    route,
    route_class,
)
from busway.app.commits import MAX_WAITING
from busway.app.context import set_layer
from busway.app.endings import MAX_TRIES
from busway.app.worker import select_channels
from busway.bus.conformance.harness import eventually
from busway.bus.errors import ConfigurationError, LayerUnavailable
from busway.bus.layer import ChannelLayer
from busway.bus.memory import MemoryChannelLayer
from busway.bus.receiver import Receiver


def echo(message: Message) -> None:
    message.reply_channel.send({"n": message["n"]})


async def aecho(message: Message) -> None:
    await asyncio.sleep(0)
    await message.reply_channel.asend({"n": message["n"]})


class Unusual(BaseException):
    """Not an `Exception`, as the timeouts of some libraries are."""


kinds = pytest.mark.parametrize(
    "routing",
    [
        pytest.param([route("jobs", echo)], id="sync"),
        pytest.param([route("jobs", aecho)], id="async"),
        pytest.param([route("jobs", aecho, odd="yes"), route("jobs", echo)], id="handed over"),
    ],
)


def wait_until(condition: Callable[[], object]) -> None:
    """Poll for something that cannot be waited for: it changes inside the worker."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@kinds
@pytest.mark.parametrize("threads", [1, 3])
def test_messages_are_consumed_and_answered(
    layer: ChannelLayer, peer: Peer, routing: Any, threads: int
) -> None:
    with working(layer, routing, threads=threads) as worker:
        for batch in range(20):
            for n in range(50):
                peer.send("jobs", n=n, odd="yes" if n % 2 else "no")
            answers = [peer.receive() for _ in range(50)]
            assert sorted(answer["n"] for answer in answers if answer) == list(range(50)), batch
    counts = worker.statistics()
    assert (counts.consumed, counts.failed, counts.dropped) == (1000, 0, 0)


class TestHolding:
    def test_sends_go_out_when_the_consumer_has_ended(
        self, layer: ChannelLayer, peer: Peer
    ) -> None:
        sent, go_on = threading.Event(), threading.Event()

        def consume(message: Message) -> None:
            Group("room").add(message.reply_channel)
            message.reply_channel.send({"held": True})
            message.reply_channel.send({"held": False}, immediately=True)
            sent.set()
            assert go_on.wait(PATIENCE)

        with working(layer, [route("jobs", consume)]):
            peer.send("jobs")
            assert sent.wait(PATIENCE)
            assert peer.receive() == {"held": False}
            assert peer.receive(0) is None
            assert layer.group_channels("room") == []
            go_on.set()
            assert peer.receive() == {"held": True}
            assert layer.group_channels("room") == [peer.reply_channel]

    @pytest.mark.parametrize("is_async", [False, True])
    def test_a_consumer_that_raises_has_sent_nothing(
        self, layer: ChannelLayer, peer: Peer, caplog: pytest.LogCaptureFixture, is_async: bool
    ) -> None:
        def fail(message: Message) -> None:
            Group("room").add(message.reply_channel)
            message.reply_channel.send({"n": 1})
            raise ZeroDivisionError

        async def afail(message: Message) -> None:
            fail(message)

        routing = [route("jobs", afail if is_async else fail), route("more", echo)]
        with working(layer, routing) as worker:
            peer.send("jobs", path="/x")
            wait_until(lambda: worker.statistics().consumed)
            peer.send("more", n=2)
            assert peer.receive() == {"n": 2}
            assert layer.group_channels("room") == []
        assert worker.statistics().failed == 1
        (record,) = caplog.records
        assert "fail on jobs '/x' failed" in record.getMessage()

    def test_sys_exit_in_a_consumer_is_a_failure_of_its_own(
        self, layer: ChannelLayer, peer: Peer
    ) -> None:
        def leave(message: Message) -> None:
            raise SystemExit(3)

        with working(layer, [route("http.request", leave), route("jobs", echo)]) as worker:
            peer.send("http.request")
            answer = peer.receive()
            assert answer is not None
            assert answer["status"] == 500
            peer.send("jobs", n=1)
            assert peer.receive() == {"n": 1}
        assert worker.statistics().failed == 1

    def test_what_a_consumer_leaves_running_sends_at_once(
        self, layer: ChannelLayer, peer: Peer
    ) -> None:
        go_on = asyncio.Event()
        tasks = []

        async def start(message: Message) -> None:
            async def rest() -> None:
                await go_on.wait()
                message.reply_channel.send({"n": 2})

            tasks.append(asyncio.create_task(rest()))
            message.reply_channel.send({"n": 1})

        async def release(message: Message) -> None:
            go_on.set()

        with working(layer, [route("jobs", start), route("more", release)]):
            peer.send("jobs")
            assert peer.receive() == {"n": 1}
            peer.send("more")
            assert peer.receive() == {"n": 2}

    def test_messages_too_large_fail_the_consumer_that_sent_them_and_no_other(
        self, peer: Peer, layer: ChannelLayer, caplog: pytest.LogCaptureFixture
    ) -> None:
        def consume(message: Message) -> None:
            size = 2_000_000 if message["n"] == 1 else 1
            message.reply_channel.send({"n": message["n"], "content": b"x" * size})

        for n in range(3):
            peer.send("http.request", n=n)
        with working(layer, [route("http.request", consume)]) as worker:
            answers = [peer.receive() or {} for _ in range(3)]
        assert [answer.get("n") for answer in answers] == [0, None, 2]
        assert answers[1]["status"] == 500
        assert worker.statistics().failed == 1
        assert "send it in parts" in caplog.text


class TestEndings:
    def consumer(self, error: Exception) -> list[Any]:
        def consume(message: Message) -> None:
            message.reply_channel.send({"held": True})
            raise error

        channels = ["http.request", "websocket.connect", "websocket.receive"]
        return [route(channels, consume)]

    def test_answering_later_commits_what_was_held(self, layer: ChannelLayer, peer: Peer) -> None:
        with working(layer, self.consumer(ResponseLater())) as worker:
            peer.send("http.request")
            assert peer.receive() == {"held": True}
            wait_until(lambda: worker.statistics().consumed == 1)
            assert peer.receive(0) is None
        assert worker.statistics().failed == 0

    def test_denying_and_closing(self, layer: ChannelLayer, peer: Peer) -> None:
        with working(layer, self.consumer(DenyConnection())):
            peer.send("websocket.connect")
            assert [peer.receive(), peer.receive()] == [{"held": True}, {"accept": False}]
        with working(layer, self.consumer(CloseConnection(4001, "bye"))):
            peer.send("websocket.receive")
            assert [peer.receive(), peer.receive()] == [
                {"held": True},
                {"close": 4001, "reason": "bye"},
            ]

    def test_failures_leave_no_client_waiting(self, layer: ChannelLayer, peer: Peer) -> None:
        with working(layer, self.consumer(ZeroDivisionError())):
            peer.send("http.request")
            assert (peer.receive() or {})["status"] == 500
            peer.send("websocket.connect")
            assert (peer.receive() or {})["accept"] is False

    def test_consuming_later_tries_again_and_gives_up(
        self, layer: ChannelLayer, peer: Peer
    ) -> None:
        tries: list[int] = []

        def consume(message: Message) -> None:
            tries.append(message["n"])
            message.reply_channel.send({"held": True})
            raise ConsumeLater(0.001)

        with working(layer, [route("http.request", consume)]) as worker:
            peer.send("http.request", n=1)
            assert (peer.receive() or {})["status"] == 500
        assert tries == [1] * (MAX_TRIES + 1)
        counts = worker.statistics()
        assert (counts.requeued, counts.failed) == (MAX_TRIES, 1)

    def test_messages_without_a_route_are_answered_and_counted(
        self, layer: ChannelLayer, peer: Peer
    ) -> None:
        channels = ["http.request", "websocket.connect", "websocket.receive"]
        with working(layer, [route(channels, echo, path="^/here$")]) as worker:
            peer.send("websocket.receive", path="/there")
            peer.send("http.request", path="/there")
            assert (peer.receive() or {})["status"] == 404
            peer.send("websocket.connect", path="/there")
            assert peer.receive() == {"accept": False}
            wait_until(lambda: worker.statistics().consumed == 3)
        assert worker.statistics().unrouted == 3

    def test_a_route_of_your_own_that_raises_is_a_failure(
        self, layer: ChannelLayer, peer: Peer
    ) -> None:
        class Broken:
            def match(self, message: Message) -> None:
                raise ZeroDivisionError

            def channel_names(self) -> list[str]:
                return ["http.request"]

        with working(layer, Broken()) as worker:
            peer.send("http.request")
            assert (peer.receive() or {})["status"] == 500
        assert worker.statistics().failed == 1

    def test_a_coroutine_that_nobody_awaits_is_a_failure(
        self, layer: ChannelLayer, peer: Peer, caplog: pytest.LogCaptureFixture
    ) -> None:
        def wrapped(message: Message) -> Any:
            return aecho(message)

        with working(layer, [route("http.request", wrapped)]):
            peer.send("http.request", n=1)
            assert (peer.receive() or {})["status"] == 500
        assert "has to be 'async def' as well" in caplog.text


class TestFullChannels:
    @pytest.fixture
    def layer(self) -> Iterator[ChannelLayer]:
        layer = MemoryChannelLayer(policies={"narrow": {"capacity": 1}})
        yield layer
        layer.close()

    @pytest.mark.parametrize("is_async", [False, True])
    def test_sends_wait_for_room_in_their_order(
        self, layer: ChannelLayer, peer: Peer, is_async: bool
    ) -> None:
        def fill(message: Message) -> None:
            for n in range(5):
                Channel("narrow").send({"n": n})

        async def afill(message: Message) -> None:
            fill(message)

        with working(layer, [route("jobs", afill if is_async else fill)]) as worker:
            peer.send("jobs")
            found = [layer.receive(["narrow"], PATIENCE)[1] for _ in range(5)]
            assert found == [{"n": n} for n in range(5)]
        assert worker.statistics().dropped == 0

    def test_a_worker_can_make_room_for_its_own_sends(
        self, layer: ChannelLayer, peer: Peer
    ) -> None:
        def fill(message: Message) -> None:
            for n in range(5):
                Channel("narrow").send({"n": n, "reply_channel": str(message.reply_channel)})

        with working(layer, [route("jobs", fill), route("narrow", echo)]) as worker:
            peer.send("jobs")
            assert [peer.receive() for _ in range(5)] == [{"n": n} for n in range(5)]
        assert worker.statistics().dropped == 0

    def test_what_finds_no_room_in_time_is_dropped_logged_and_counted(
        self,
        layer: ChannelLayer,
        peer: Peer,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("busway.app.commits.PATIENCE", 0.05)

        many = MAX_WAITING + 50  # so many that no messages are taken meanwhile

        def fill(message: Message) -> None:
            for n in range(many):
                Channel("narrow").send({"n": n})

        with working(layer, [route("jobs", fill), route("more", echo)]) as worker:
            peer.send("jobs")
            wait_until(lambda: worker.statistics().dropped == many - 1)
            started = time.monotonic()
            peer.send("more", n=1)
            assert peer.receive() == {"n": 1}
            assert time.monotonic() - started < 4.0  # not when the layer looks for the lost
        assert f"dropped {many - 1} message(s) for narrow" in caplog.text
        assert layer.receive(["narrow"])[1] == {"n": 0}
        assert layer.receive(["narrow"])[1] is None


class TestSlowConsumers:
    @contextmanager
    def stuck(self, layer: ChannelLayer, peer: Peer, **options: Any) -> Iterator[threading.Event]:
        """Run a worker with warm, large batches, and one consumer that is stuck until released."""
        entered, release = threading.Event(), threading.Event()

        def consume(message: Message) -> None:
            message.reply_channel.send({"n": message["n"]})
            if message.get("wait"):
                entered.set()
                assert release.wait(PATIENCE)

        gate = threading.Event()

        def hold(message: Message) -> None:
            gate.wait(PATIENCE)

        routing = [route("jobs", consume), route("gate", hold)]
        with working(layer, routing, **options):
            for n in range(300):
                peer.send("jobs", n=n)
                peer.receive()
            # While the gate is held a batch gathers: quick ones around one that is stuck.
            peer.send("gate")
            for n in range(20):
                peer.send("jobs", n=n, wait=n == 10)
            gate.set()
            assert entered.wait(PATIENCE)
            try:
                yield release
            finally:
                release.set()

    def test_what_was_finished_before_a_slow_one_goes_out(
        self, layer: ChannelLayer, peer: Peer
    ) -> None:
        with self.stuck(layer, peer) as release:
            assert [peer.receive() for _ in range(10)] == [{"n": n} for n in range(10)]
            assert peer.receive(0) is None
            release.set()
            assert [peer.receive() for _ in range(10)] == [{"n": n} for n in range(10, 20)]

    def test_what_was_not_begun_goes_to_another(self, layer: ChannelLayer, peer: Peer) -> None:
        with self.stuck(layer, peer), working(layer, [route("jobs", echo)]):
            found = [peer.receive() for _ in range(19)]
            assert sorted(answer["n"] for answer in found if answer) == [
                n for n in range(20) if n != 10
            ]

    def test_what_was_not_begun_goes_to_another_thread(
        self, layer: ChannelLayer, peer: Peer
    ) -> None:
        with self.stuck(layer, peer, threads=2):
            found = [peer.receive() for _ in range(19)]
            assert sorted(answer["n"] for answer in found if answer) == [
                n for n in range(20) if n != 10
            ]


class TestOrder:
    @pytest.mark.parametrize("kind", ["sync", "async", "mixed"])
    def test_frames_of_a_socket_are_consumed_in_order_one_at_a_time(
        self, layer: ChannelLayer, kind: str
    ) -> None:
        active: set[str] = set()
        seen: dict[str, list[int]] = {}
        lock = threading.Lock()
        done = threading.Semaphore(0)

        def enter(message: Message) -> str:
            name = str(message.reply_channel)
            with lock:
                assert name not in active
                active.add(name)
                seen.setdefault(name, []).append(message["order"])
            return name

        def leave(name: str) -> None:
            with lock:
                active.remove(name)
            done.release()

        def consume(message: Message) -> None:
            name = enter(message)
            if message["order"] % 7 == 0:
                time.sleep(0.001)  # long enough for others to overtake, if they could
            leave(name)

        async def aconsume(message: Message) -> None:
            name = enter(message)
            if message["order"] % 7 == 0:
                await asyncio.sleep(0.001)
            leave(name)

        routing = {
            "sync": [route("websocket.receive", consume)],
            "async": [route("websocket.receive", aconsume)],
            "mixed": [
                route("websocket.receive", aconsume, order="[02468]$"),
                route("websocket.receive", aconsume, order="[0-9]*[13]$"),
                route("websocket.receive", consume),
            ],
        }[kind]
        with (
            working(layer, routing, threads=3) as worker,
            working(layer, routing, threads=2) as other,
        ):
            for order in range(15):
                for socket in range(5):
                    layer.send(
                        "websocket.receive", {"reply_channel": f"web!{socket}", "order": order}
                    )
            for _ in range(75):
                assert done.acquire(timeout=PATIENCE)
        assert seen == {f"web!{socket}": list(range(15)) for socket in range(5)}
        assert worker.statistics().failed == other.statistics().failed == 0

    def test_a_worker_refuses_to_break_a_promised_order(self, layer: ChannelLayer) -> None:
        @enforce_ordering
        def careful(message: Message) -> None: ...

        with pytest.raises(ConfigurationError, match="relies on the order"):
            Worker(layer, Router([route("jobs", careful)]))
        Worker(layer, Router([route("websocket.receive", careful)]))


class TestConcurrency:
    def test_async_consumers_run_side_by_side_up_to_the_limit(
        self, layer: ChannelLayer, peer: Peer
    ) -> None:
        running: list[int] = []
        most: list[int] = []
        full = threading.Event()
        release = asyncio.Event()

        async def consume(message: Message) -> None:
            running.append(1)
            most.append(len(running))
            if len(running) == 5:
                full.set()
            await release.wait()
            running.pop()
            message.reply_channel.send({"n": 1})

        async def let_go(message: Message) -> None:
            release.set()

        # A thread's channel, since the loop's own take no more than five.
        routing = [route("jobs", consume), route("go", let_go), route("go", echo)]
        with working(layer, routing, concurrency=5):
            for _ in range(12):
                peer.send("jobs")
            assert full.wait(PATIENCE)
            peer.send("go")
            assert [peer.receive() for _ in range(12)] == [{"n": 1}] * 12
        assert max(most) == 5

    def test_several_sync_consumers_run_side_by_side(self, layer: ChannelLayer, peer: Peer) -> None:
        meeting = threading.Barrier(3)

        def consume(message: Message) -> None:
            meeting.wait(PATIENCE)
            message.reply_channel.send({"n": 1})

        with working(layer, [route("jobs", consume)], threads=3):
            for _ in range(3):
                peer.send("jobs")
            assert [peer.receive() for _ in range(3)] == [{"n": 1}] * 3

    def test_cancelling_its_own_task_is_a_failure(self, layer: ChannelLayer, peer: Peer) -> None:
        async def cancel(message: Message) -> None:
            raise asyncio.CancelledError

        with working(layer, [route("http.request", cancel), route("jobs", aecho)]) as worker:
            peer.send("http.request")
            assert (peer.receive() or {})["status"] == 500
            peer.send("jobs", n=1)
            assert peer.receive() == {"n": 1}
        assert worker.statistics().failed == 1


class TestStopping:
    @pytest.mark.parametrize("kind", ["sync", "async", "handed over"])
    def test_it_finishes_what_runs_and_leaves_the_rest(
        self, layer: ChannelLayer, peer: Peer, kind: str
    ) -> None:
        entered, release = threading.Event(), threading.Event()

        def consume(message: Message) -> None:
            entered.set()
            assert release.wait(PATIENCE)
            message.reply_channel.send({"n": message["n"]})

        async def aconsume(message: Message) -> None:
            await asyncio.to_thread(consume, message)

        routing = {
            "sync": [route("jobs", consume)],
            "async": [route("jobs", aconsume)],
            "handed over": [route("jobs", aconsume, n="^0$"), route("jobs", consume)],
        }[kind]
        with working(layer, routing, concurrency=1) as worker:
            peer.send("jobs", n=0)
            assert entered.wait(PATIENCE)
            peer.send("jobs", n=1)
            worker.stop()
            assert peer.receive(0) is None
            release.set()
            assert peer.receive() == {"n": 0}
        assert worker.statistics().consumed == 1
        assert (layer.receive(["jobs"])[1] or {})["n"] == 1

    def test_what_was_not_begun_goes_back_in_order(self, layer: ChannelLayer, peer: Peer) -> None:
        gathered, stopped = threading.Event(), threading.Event()
        holder: list[Worker] = []

        def consume(message: Message) -> None:
            if message["n"] == 300:  # the next batch gathers, as large as the pace is by now
                assert gathered.wait(PATIENCE)
            elif message["n"] == 310:
                holder[0].stop()
                stopped.set()
            message.reply_channel.send({"n": message["n"]})

        with working(layer, [route("jobs", consume)]) as worker:
            holder.append(worker)
            for n in range(300):
                peer.send("jobs", n=n)
                assert peer.receive() == {"n": n}
            for n in range(300, 350):
                peer.send("jobs", n=n)
            gathered.set()
            assert stopped.wait(PATIENCE)
        assert [peer.receive(0) for _ in range(11)] == [{"n": n} for n in range(300, 311)]
        left = [layer.receive(["jobs"])[1] or {} for _ in range(39)]
        assert [content["n"] for content in left] == list(range(311, 350))

    def test_a_worker_stopped_before_it_runs_ends_at_once(self, layer: ChannelLayer) -> None:
        for consumer in (echo, aecho):
            worker = Worker(layer, Router([route("jobs", consumer)]))
            worker.stop()
            worker.run()

    @pytest.mark.parametrize("kind", ["sync", "async", "handed over"])
    def test_what_is_no_ordinary_error_ends_the_worker(
        self, layer: ChannelLayer, peer: Peer, kind: str
    ) -> None:
        def interrupt(message: Message) -> None:
            raise KeyboardInterrupt

        async def ainterrupt(message: Message) -> None:
            raise KeyboardInterrupt

        routing = {
            "sync": [route("jobs", interrupt)],
            "async": [route("jobs", ainterrupt)],
            "handed over": [route("jobs", ainterrupt, n="0"), route("jobs", echo)],
        }[kind]
        worker = Worker(layer, Router(routing), threads=2)
        peer.send("jobs", n=0)
        with pytest.raises(KeyboardInterrupt):
            worker.run()

    @pytest.mark.parametrize("kind", ["sync", "async", "handed over"])
    def test_what_was_finished_is_committed_before_an_interrupt_ends_the_worker(
        self, layer: ChannelLayer, peer: Peer, kind: str
    ) -> None:
        def consume(message: Message) -> None:
            if message["n"] == 90:
                raise KeyboardInterrupt
            echo(message)

        async def aconsume(message: Message) -> None:
            consume(message)

        routing = {
            "sync": [route("jobs", consume)],
            "async": [route("jobs", aconsume)],
            "handed over": [route("jobs", aconsume, n="."), route("jobs", consume, n="never")],
        }[kind]
        for n in range(100):
            peer.send("jobs", n=n)
        with pytest.raises(KeyboardInterrupt):
            Worker(layer, Router(routing)).run()
        answers = []
        while (answer := peer.receive(0)) is not None:
            answers.append(answer["n"])
        left = []
        while (message := layer.receive(["jobs"])[1]) is not None:
            left.append(message["n"])
        assert answers == list(range(90))
        lost = layer.statistics("jobs").dropped
        assert lost == {"receiver died": 100 - len(answers) - len(left)}
        if kind == "sync":
            assert left == list(range(91, 100))

    @pytest.mark.parametrize("kind", ["sync", "async", "handed over"])
    @pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit, Unusual])
    def test_other_errors_of_a_consumer_are_failures_of_its_own(
        self, layer: ChannelLayer, peer: Peer, kind: str, error: type[BaseException]
    ) -> None:
        def consume(message: Message) -> None:
            if message["n"] == 1:
                raise error
            echo(message)

        async def aconsume(message: Message) -> None:
            consume(message)

        routing = {
            "sync": [route("websocket.receive", consume)],
            "async": [route("websocket.receive", aconsume)],
            "handed over": [
                route("websocket.receive", aconsume, n="[12]"),
                route("websocket.receive", consume),
            ],
        }[kind]
        with working(layer, routing) as worker:
            for n in range(5):  # of one socket, so each waits for the one before
                peer.send("websocket.receive", n=n)
            assert [peer.receive() for _ in range(4)] == [{"n": n} for n in (0, 2, 3, 4)]
        assert worker.statistics().failed == 1

    @pytest.mark.parametrize("consumer", [echo, aecho])
    def test_losing_the_layer_ends_the_worker(self, consumer: Any) -> None:
        class Failing(MemoryChannelLayer):
            fails_next = False

            def transaction(self) -> Any:
                if self.fails_next:
                    self.fails_next = False
                    raise LayerUnavailable("gone")
                return super().transaction()

        def lose() -> None:
            layer.fails_next = True

        layer = Failing()
        worker = Worker(layer, Router([route("jobs", consumer)]), threads=3, ready=lose)
        with pytest.raises(LayerUnavailable, match="gone"):
            worker.run()
        layer.close()


class TestTheProcessLayer:
    def test_a_worker_sets_it_while_it_runs(self, layer: ChannelLayer, peer: Peer) -> None:
        before = set_layer(None)
        try:

            def consume(message: Message) -> None:
                def outside() -> None:
                    Channel(str(message.reply_channel)).send({"n": 1})

                thread = threading.Thread(target=outside)
                thread.start()
                thread.join()

            with working(layer, [route("jobs", consume)]):
                peer.send("jobs")
                assert peer.receive() == {"n": 1}
            assert set_layer(None) is None
        finally:
            set_layer(before)


class TestOptions:
    @pytest.mark.parametrize("options", [{"threads": 0}, {"concurrency": 0}])
    def test_values_out_of_range_are_refused(self, layer: ChannelLayer, options: Any) -> None:
        with pytest.raises(ConfigurationError, match="expected 1 or more"):
            Worker(layer, Router([route("jobs", echo)]), **options)

    def test_globs_choose_channels(self) -> None:
        names = frozenset(["http.request", "websocket.connect", "websocket.receive", "jobs"])
        assert select_channels(names, (), ()) == sorted(names)
        assert select_channels(names, ["websocket.*", "j?bs"], ()) == [
            "jobs",
            "websocket.connect",
            "websocket.receive",
        ]
        assert select_channels(names, (), ["websocket.*"]) == ["http.request", "jobs"]
        assert select_channels(names, ["*.re*"], ["http.*"]) == ["websocket.receive"]

    def test_no_channel_at_all_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="no channel is left"):
            select_channels(frozenset(["jobs"]), ["web*"], ())
        with pytest.raises(ConfigurationError, match="the routing has none"):
            select_channels(frozenset(), (), ())

    def test_channels_that_are_left_out_are_left_alone(
        self, layer: ChannelLayer, peer: Peer
    ) -> None:
        routing = [route(["jobs", "more"], echo)]
        with working(layer, routing, exclude_channels=["m*"]) as worker:
            assert worker.channels == ["jobs"]
            peer.send("more", n=1)
            peer.send("jobs", n=2)
            assert peer.receive() == {"n": 2}
        assert (layer.receive(["more"])[1] or {})["n"] == 1

    def test_an_error_in_ready_ends_the_worker(self, layer: ChannelLayer) -> None:
        def ready() -> None:
            raise ZeroDivisionError

        for consumer in (echo, aecho):
            worker = Worker(layer, Router([route("jobs", consumer)]), threads=2, ready=ready)
            with pytest.raises(ZeroDivisionError):
                worker.run()


def test_class_consumers_work_end_to_end(layer: ChannelLayer, peer: Peer) -> None:
    class Chat(WebsocketConsumer):
        groups = ("room",)

        def receive(self, text: str | None = None, **_: Any) -> None:
            self.group_send("room", f"all: {text}")

    with working(layer, [route_class(Chat)]):
        peer.send("websocket.connect", order=0)
        assert peer.receive() == {"accept": True}
        peer.send("websocket.receive", order=1, text="hi")
        assert peer.receive() == {"text": "all: hi"}


def test_an_event_loop_that_consumers_may_hold_up_is_handed_no_messages(
    layer: ChannelLayer, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    receivers: list[Receiver] = []
    receiver = layer.receiver

    def remembered() -> Receiver:
        receivers.append(receiver())
        return receivers[-1]

    monkeypatch.setattr(layer, "receiver", remembered)
    seen: list[bool] = []

    async def first(message: Message) -> None:
        peer.send("second")
        while not seen:  # noqa: ASYNC110  (it is another message's consumer)
            await asyncio.sleep(0)

    async def second(message: Message) -> None:
        seen.append(receivers[0].eager)

    with working(layer, [route("first", first), route("second", second)]):
        eventually(lambda: receivers[0].eager, "nothing holds up the loop")
        peer.send("first")
        eventually(lambda: seen, "the second message came")
        eventually(lambda: receivers[0].eager, "nothing holds up the loop")
    assert seen == [False]


@pytest.mark.parametrize("filters", [{}, {"odd": "yes"}], ids=["async", "handed over"])
def test_a_worker_ends_as_soon_as_its_last_async_consumer_has(
    layer: ChannelLayer, peer: Peer, filters: dict[str, str]
) -> None:
    started, release = threading.Event(), threading.Event()

    async def slow(message: Message) -> None:
        started.set()
        await asyncio.get_running_loop().run_in_executor(None, release.wait)

    routing = [route("jobs", slow, **filters)] + ([route("jobs", echo)] if filters else [])
    with working(layer, routing) as worker:
        peer.send("jobs", odd="yes")
        assert started.wait(PATIENCE)
        worker.stop()
        release.set()
        began = time.monotonic()
    assert time.monotonic() - began < 2.0, "it slept until it swept"
