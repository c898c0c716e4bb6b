"""The supervisor, with small commands in the places of interface servers and workers."""

import json
import os
import pty
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from busway.supervisor.backoff import Backoff
from busway.supervisor.children import describe
from services import Service, is_running

CHILD = """
import os, signal, sys, threading, time
from pathlib import Path
from busway.supervisor.lifeline import announce_ready, hold_lifeline

name, behaviour = sys.argv[1], Path(sys.argv[2])
ready, lifeline = int(sys.argv[4]), int(sys.argv[6])
hold_lifeline(lifeline, grace=0.2)
ended = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ended.set())
how = behaviour.read_text().split()
say = lambda text: os.write(1, f"{name} {os.getpid()} {text}\\n".encode())
if "fail" in how:
    say("fails")
    sys.exit(3)
if "stubborn" in how:
    signal.signal(signal.SIGTERM, lambda *_: say("was asked"))
if "silent" in how:
    say("hangs")
else:
    say("runs " + " ".join(how))
    announce_ready(ready)
if "die" in how:
    sys.exit(4)
while not ended.wait(0.1 if "stubborn" in how else None):
    pass
say("stops")
"""
"""A child that does what the words in a file say: fail, die, stubborn, silent, or any other."""

HOST = """
import asyncio, json, logging, sys
from busway.supervisor import ChildSpec, Supervisor
from busway.supervisor.reload import changed_files

logging.basicConfig(level="DEBUG", format="%(levelname)s %(message)s")
options = json.loads(sys.argv[1])

async def main():
    watch = options.pop("watch", None)
    supervisor = Supervisor(
        [ChildSpec(**spec) for spec in options.pop("specs")],
        changes=changed_files([watch]) if watch else None,
        on_ready=lambda: logging.info("all are ready"),
        **options,
    )
    return await supervisor.run()

sys.exit(asyncio.run(main()))
"""

Host = Callable[..., Service]


@pytest.fixture
def behaviour(tmp_path: Path) -> Path:
    """A file whose words say how children behave that are started from now on."""
    file = tmp_path / "behaviour.py"
    file.write_text("first")
    return file


@pytest.fixture
def host(tmp_path: Path, behaviour: Path) -> Iterator[Callable[..., Service]]:
    """A function that starts a supervisor of the named children; those called "worker…" roll."""
    services: list[Service] = []

    def start(*names: str, **options: object) -> Service:
        specs = [
            {
                "name": name,
                "command": [sys.executable, "-c", CHILD, name, str(behaviour)],
                "rolls": name.startswith("worker"),
            }
            for name in names
        ]
        arguments = json.dumps({"specs": specs, **options})
        service = Service([sys.executable, "-c", HOST, arguments], cwd=tmp_path)
        services.append(service)
        return service

    yield start
    for service in services:
        service.__exit__(None, None, None)


def pid_of(found: re.Match[str]) -> int:
    return int(found[1])


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def test_all_processes_are_started_and_readiness_is_announced(host: Host) -> None:
    service = host("web", "worker 1")
    service.expect("all are ready")
    assert re.search(r"^web \d+ runs first$", service.output, re.MULTILINE)
    assert re.search(r"^worker 1 \d+ runs first$", service.output, re.MULTILINE)


def test_a_process_that_dies_is_replaced_and_the_log_says_how_it_died(host: Host) -> None:
    service = host("worker 1")
    first = pid_of(service.expect(r"worker 1 (\d+) runs"))
    service.expect("all are ready")
    kill(first)
    service.expect(rf"WARNING worker 1 \(pid {first}\) died: signal SIGKILL; starting another")
    assert pid_of(service.expect(r"worker 1 (\d+) runs")) != first


def test_a_process_that_keeps_dying_is_started_ever_more_slowly(
    host: Host, behaviour: Path
) -> None:
    behaviour.write_text("die")
    service = host("worker 1")
    for _ in range(3):
        service.expect(r"died: exit code 4; starting another")
    behaviour.write_text("well")
    service.expect("runs well")


def test_a_service_that_cannot_start_stops_and_says_so(host: Host, behaviour: Path) -> None:
    behaviour.write_text("fail")
    service = host("worker 1")
    service.expect("ERROR worker 1 did not start: exit code 3; stopping")
    assert service.ended() == 1
    service.all_ended()


def test_a_replacement_that_fails_to_start_is_tried_again(host: Host, behaviour: Path) -> None:
    service = host("worker 1")
    first = pid_of(service.expect(r"worker 1 (\d+) runs"))
    service.expect("all are ready")
    behaviour.write_text("fail")
    kill(first)
    service.expect("ERROR worker 1 did not start: exit code 3; trying again")
    behaviour.write_text("second")
    service.expect("runs second")


def test_sighup_replaces_workers_one_at_a_time_and_leaves_the_others_alone(
    host: Host, behaviour: Path
) -> None:
    service = host("web", "worker 1", "worker 2")
    service.expect("all are ready")
    old = dict(re.findall(r"^(\S+(?: \d)?) (\d+) runs first$", service.output, re.MULTILINE))
    behaviour.write_text("second")
    service.signal(signal.SIGHUP)
    for worker in ("worker 1", "worker 2"):
        service.expect(rf"^{worker} \d+ runs second$")
        service.expect(rf"^{worker} {old[worker]} stops$")
    service.expect("INFO rolled")
    assert is_running(int(old["web"]))


def test_a_roll_ends_at_the_first_failure_and_keeps_the_old_workers(
    host: Host, behaviour: Path
) -> None:
    service = host("worker 1", "worker 2")
    service.expect("all are ready")
    old = [int(pid) for pid in re.findall(r"(\d+) runs first", service.output)]
    behaviour.write_text("fail")
    service.signal(signal.SIGHUP)
    service.expect("ERROR the new worker 1 did not start; the old ones stay")
    assert all(map(is_running, old))
    assert service.output.count("fails") == 1


def test_a_new_worker_that_hangs_is_given_up_after_the_start_timeout(
    host: Host, behaviour: Path
) -> None:
    service = host("worker 1", start_timeout=0.3)
    old = pid_of(service.expect(r"worker 1 (\d+) runs"))
    service.expect("all are ready")
    behaviour.write_text("silent")
    service.signal(signal.SIGHUP)
    hanging = pid_of(service.expect(r"worker 1 started \(pid (\d+)\)"))
    service.expect(r"ERROR worker 1 was not ready in 0.3 s")
    service.expect("the old ones stay")
    assert is_running(old)
    assert not is_running(hanging)


def test_a_second_roll_gives_up_the_newcomer_of_the_first(host: Host, behaviour: Path) -> None:
    service = host("worker 1")
    service.expect("all are ready")
    behaviour.write_text("silent")
    service.signal(signal.SIGHUP)
    hanging = pid_of(service.expect(r"worker 1 (\d+) hangs"))
    behaviour.write_text("third")
    service.signal(signal.SIGHUP)
    service.expect("runs third")
    service.expect("INFO rolled")
    assert not is_running(hanging)


def test_a_change_of_code_rolls_the_workers(host: Host, behaviour: Path, tmp_path: Path) -> None:
    service = host("web", "worker 1", watch=str(tmp_path))
    service.expect("all are ready")
    behaviour.write_text("second")
    service.expect(r"INFO changed: behaviour\.py; rolling")
    service.expect(r"^worker 1 \d+ runs second")
    service.expect(r"^worker 1 \d+ stops")
    assert "web" not in service.output.partition("rolling")[2]


def test_while_code_is_watched_a_failed_start_waits_for_the_next_change(
    host: Host, behaviour: Path, tmp_path: Path
) -> None:
    behaviour.write_text("fail")
    service = host("worker 1", watch=str(tmp_path))
    service.expect("did not start: exit code 3; waiting for a change of the code")
    behaviour.write_text("mended")
    service.expect("runs mended")
    service.expect("all are ready")


def test_while_code_is_watched_a_worker_killed_at_its_start_is_started_again(
    host: Host, behaviour: Path, tmp_path: Path
) -> None:
    behaviour.write_text("silent")
    (tmp_path / "code").mkdir()
    service = host("worker 1", watch=str(tmp_path / "code"))
    kill(pid_of(service.expect(r"worker 1 (\d+) hangs")))
    service.expect("ERROR worker 1 did not start: signal SIGKILL; trying again")
    second = pid_of(service.expect(r"worker 1 (\d+) hangs"))
    behaviour.write_text("well")
    kill(second)
    service.expect("runs well")
    service.expect("all are ready")


def test_while_code_is_watched_an_interface_server_that_cannot_start_ends_the_service(
    host: Host, behaviour: Path, tmp_path: Path
) -> None:
    behaviour.write_text("fail")
    service = host("web", watch=str(tmp_path))
    service.expect("ERROR web did not start: exit code 3; stopping")
    assert service.ended() == 1


def test_an_old_worker_that_is_stopping_is_not_asked_again(host: Host, behaviour: Path) -> None:
    behaviour.write_text("stubborn")
    service = host("worker 1", grace=1)
    service.expect("all are ready")
    service.signal(signal.SIGHUP)
    service.expect("was asked")
    service.signal(signal.SIGTERM)
    assert service.ended() == 0
    asked = re.findall(r"(\d+) was asked", service.output)
    assert len(asked) == len(set(asked)) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_everything_in_order(host: Host, number: signal.Signals) -> None:
    service = host("web", "worker 1")
    service.expect("all are ready")
    service.signal(number)
    service.expect(r"^web \d+ stops")
    service.expect(r"^worker 1 \d+ stops")
    assert service.ended() == 0
    service.all_ended()


def test_what_does_not_stop_in_time_is_killed_and_named(host: Host, behaviour: Path) -> None:
    behaviour.write_text("stubborn")
    service = host("web", "worker 1", grace=0.4)
    service.expect("all are ready")
    service.signal(signal.SIGTERM)
    service.expect(r"WARNING web \(pid \d+\) did not stop in 0.3 s and was killed")
    service.expect(r"WARNING worker 1 \(pid \d+\) did not stop in 0.\d s and was killed")
    assert service.ended() == 0
    service.all_ended()


def test_a_second_signal_kills_at_once(host: Host, behaviour: Path) -> None:
    behaviour.write_text("stubborn")
    service = host("worker 1", grace=1000)
    service.expect("all are ready")
    service.signal(signal.SIGINT)
    service.expect("DEBUG stopping")
    service.signal(signal.SIGINT)
    assert service.ended() == 0
    service.all_ended()


def test_an_interrupt_of_the_whole_group_is_left_to_the_supervisor(host: Host) -> None:
    service = host("worker 1")
    service.expect("all are ready")
    os.killpg(service.pid, signal.SIGINT)
    service.expect(r"worker 1 \d+ stops")
    assert service.ended() == 0
    assert "Traceback" not in service.output


def test_a_closed_terminal_stops_everything(behaviour: Path) -> None:
    command = [sys.executable, "-c", CHILD, "worker 1", str(behaviour)]
    options = json.dumps({"specs": [{"name": "worker 1", "command": command, "rolls": True}]})
    # The leader of a session gets the first terminal that it opens as its own.
    adopt = "import os, sys; os.open(sys.argv[1], os.O_RDWR); os.execv(sys.argv[2], sys.argv[2:])"
    ours, theirs = pty.openpty()
    name = os.ttyname(theirs)
    with Service([sys.executable, "-c", adopt, name, sys.executable, "-c", HOST, options]) as host:
        host.expect("all are ready")
        os.close(theirs)
        os.close(ours)
        assert host.ended() == 0
        host.all_ended()


@pytest.mark.parametrize("how", ["first", "stubborn"])
def test_children_end_when_the_supervisor_is_killed(host: Host, behaviour: Path, how: str) -> None:
    behaviour.write_text(how)
    service = host("web", "worker 1")
    service.expect("all are ready")
    service.signal(signal.SIGKILL)
    service.all_ended()


@given(
    lives=st.lists(st.floats(min_value=0, max_value=100), max_size=200),
    chance=st.floats(min_value=0, max_value=1),
)
def test_delays_are_bounded_and_grow_until_a_process_lives_long_enough(
    lives: list[float], chance: float
) -> None:
    backoff = Backoff(first=0.5, limit=20.0, healthy_after=10.0)
    before = 0.0
    for lived in lives:
        delay = backoff.delay(lived, chance)
        if lived >= 10.0:
            assert delay == 0.0
        else:
            assert before <= delay <= 20.0
        before = delay


def test_chance_takes_off_up_to_half_of_a_delay() -> None:
    assert Backoff(first=4.0).delay(0.0, 0.0) == 4.0
    assert Backoff(first=4.0).delay(0.0, 1.0) == 2.0


@pytest.mark.parametrize(
    ("status", "words"),
    [(0, "exit code 0"), (3, "exit code 3"), (-9, "signal SIGKILL"), (-99, "signal 99")],
)
def test_an_exit_status_is_put_in_words(status: int, words: str) -> None:
    assert describe(status) == words
