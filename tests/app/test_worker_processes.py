"""Workers as processes over the IPC layer: many at once, stopped, and killed."""

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from app.harness import Peer
from busway.bus.ipc import IPCChannelLayer
from busway.bus.names import new_channel
from busway.bus.operations import Operation, Send
from services import Service

SCRIPT = str(Path(__file__).with_name("worker_process.py"))


@pytest.fixture
def url() -> Iterator[str]:
    """Return the URL of a bus of this test's own."""
    with TemporaryDirectory(dir="/dev/shm", prefix="busway-test-") as path:
        yield f"ipc://test?directory={path}&size={32 * 1024 * 1024}"


@pytest.fixture
def layer(url: str) -> Iterator[IPCChannelLayer]:
    """Return the test's own end of the bus."""
    layer = IPCChannelLayer.from_url(url)
    yield layer
    layer.close()


@pytest.fixture
def services() -> Iterator[ExitStack]:
    """Return what ends every worker at the end of the test."""
    with ExitStack() as stack:
        yield stack


def start(services: ExitStack, url: str, routing: str, threads: int = 1) -> Service:
    command = [sys.executable, SCRIPT, url, routing, str(threads)]
    worker = services.enter_context(Service(command))
    worker.expect("ready")
    return worker


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_running_consumer_finish_and_leaves_the_rest(
    url: str, layer: IPCChannelLayer, peer: Peer, services: ExitStack, number: signal.Signals
) -> None:
    worker = start(services, url, "slow")
    until = new_channel("go.on?")
    peer.send("jobs", n=0, until=until)
    assert (peer.receive() or {})["begun"] == 0
    for n in range(1, 4):
        peer.send("jobs", n=n)
    worker.signal(number)
    layer.send(until, {})
    assert (peer.receive() or {})["n"] == 0
    assert worker.ended() == 0
    assert [(layer.receive(["jobs"])[1] or {})["n"] for _ in range(3)] == [1, 2, 3]
    assert peer.receive(0) is None
    assert "Traceback" not in worker.output


def test_an_idle_worker_ends_on_a_signal(url: str, services: ExitStack) -> None:
    for threads in (1, 3):
        worker = start(services, url, "echo", threads)
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0


def test_a_second_signal_ends_it_at_once(
    url: str, layer: IPCChannelLayer, peer: Peer, services: ExitStack
) -> None:
    worker = start(services, url, "stuck")
    peer.send("jobs", n=1)
    assert peer.receive() == {"begun": 1}
    worker.signal(signal.SIGTERM)
    worker.expect("stopping on SIGTERM")
    worker.signal(signal.SIGTERM)
    assert worker.ended() == -signal.SIGTERM


def test_killed_workers_lose_only_what_they_had_begun(
    url: str, layer: IPCChannelLayer, peer: Peer, services: ExitStack
) -> None:
    stuck = start(services, url, "stuck")
    peer.send("jobs", n=0)
    assert peer.receive() == {"begun": 0}
    for n in range(1, 50):
        peer.send("jobs", n=n)
    stuck.signal(signal.SIGKILL)
    stuck.ended()
    start(services, url, "echo")
    found = [(peer.receive() or {})["n"] for _ in range(49)]
    assert found == list(range(1, 50))
    # Its waiting receiver was cleaned up: nothing goes to the dead.
    peer.send("jobs", n=50)
    assert (peer.receive() or {})["n"] == 50


@pytest.mark.parametrize("routing", ["fork", "async fork"])
def test_a_forked_child_that_returns_from_a_consumer_consumes_nothing(
    url: str, layer: IPCChannelLayer, peer: Peer, services: ExitStack, routing: str
) -> None:
    for n in range(10):
        peer.send("jobs", n=n)
    worker = start(services, url, routing)
    answers = [peer.receive() or {} for _ in range(10)]
    worker.expect("its child returned")
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    worker.all_ended()
    assert sorted(answer["n"] for answer in answers) == list(range(10))
    assert {answer["pid"] for answer in answers} == {worker.pid}
    assert peer.receive(0) is None
    assert layer.statistics("jobs").dropped == {}


def test_workers_killed_under_load_are_replaced_without_loss_of_what_waits(
    url: str, layer: IPCChannelLayer, peer: Peer, services: ExitStack
) -> None:
    total, window, kills = 3000, 50, 5
    workers = [start(services, url, "echo") for _ in range(2)]
    sent = answered = lost = killed = 0
    while answered + lost < total:
        while sent < total and sent - answered - lost < window:
            peer.send("jobs", n=sent)
            sent += 1
        if killed < kills and answered >= (killed + 1) * total // (kills + 2):
            victim = workers.pop(0)
            victim.signal(signal.SIGKILL)
            victim.ended()
            workers.append(start(services, url, "echo"))
            killed += 1
        if peer.receive(2.0) is not None:
            answered += 1
        else:
            lost = sent - answered
    assert killed == kills
    # What a killed worker had begun and not committed is lost: at most a batch.
    assert lost <= kills * window
    assert layer.statistics("jobs").messages_pending == 0


def test_answers_keep_their_order_when_there_is_no_room_for_them(
    url: str, services: ExitStack
) -> None:
    layer = IPCChannelLayer.from_url(f"{url}&capacity=3")
    for _ in range(4):
        start(services, f"{url}&capacity=3", "frames", threads=2)
    names = [f"narrow!{socket}" for socket in range(10)]
    seen: dict[str, list[int]] = {name: [] for name in names}
    content = [{"reply_channel": name, "order": order} for order in range(40) for name in names]
    operations: list[Operation] = [Send("websocket.receive", each) for each in content]
    with layer.receiver() as receiver:
        while any(len(orders) < 40 for orders in seen.values()):
            outcome = receiver.exchange(operations, (), ["narrow!"], 2, wake_below=1, hold=False)
            operations = [refusal.operation for refusal in outcome.refused]
            for delivery in outcome.deliveries:
                seen[delivery.channel].append(delivery.message["order"])
            if not outcome.deliveries:
                assert receiver.wait(20.0)
    layer.close()
    assert seen == {name: list(range(40)) for name in names}


@pytest.mark.parametrize("routing", ["frames", "async frames", "mixed frames"])
def test_frames_of_one_socket_are_consumed_in_order_by_four_workers(
    url: str, layer: IPCChannelLayer, services: ExitStack, routing: str
) -> None:
    for _ in range(4):
        start(services, url, routing, threads=2)
    sockets, frames = 10, 100
    prefix = "web.test!"
    next_order = dict.fromkeys((f"{prefix}{socket}" for socket in range(sockets)), 0)
    seen: dict[str, list[int]] = {name: [] for name in next_order}
    with layer.receiver() as receiver:
        # Five frames of each socket are under way, and the next follows each answer.
        operations = [
            Send("websocket.receive", {"reply_channel": name, "order": order})
            for order in range(5)
            for name in next_order
        ]
        next_order = dict.fromkeys(next_order, 5)
        while any(len(orders) < frames for orders in seen.values()):
            outcome = receiver.exchange(operations, (), [prefix], 64, wake_below=1, hold=False)
            operations = [refusal.operation for refusal in outcome.refused]  # type: ignore[misc]
            for delivery in outcome.deliveries:
                name = delivery.channel
                seen[name].append(delivery.message["order"])
                if next_order[name] < frames:
                    content = {"reply_channel": name, "order": next_order[name]}
                    operations.append(Send("websocket.receive", content))
                    next_order[name] += 1
            if not outcome.deliveries:
                assert receiver.wait(20.0)
    assert seen == {name: list(range(frames)) for name in seen}
