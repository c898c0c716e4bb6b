"""What is particular to the IPC layer: names, URLs, forks and what stays behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import pytest

from busway.bus.errors import ConfigurationError, LayerUnavailable
from busway.bus.ipc import IPCChannelLayer, directory
from busway.bus.ipc.environment import Environment
from busway.bus.operations import Return
from busway.bus.stored_receiver import StoredReceiver
from busway.bus.transaction import Store, StoreFull
from busway.bus.urls import open_layer

MIB = 1 << 20


@pytest.mark.parametrize("name", ["", "a/b", "..", ".", "a b", "ä", "x" * 41])
def test_other_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="bus name"):
        IPCChannelLayer(name, directory=tmp_path / "bus")


def test_a_size_too_small_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="at least"):
        IPCChannelLayer(directory=tmp_path / "bus", size=1000)


def test_a_path_too_long_for_sockets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="too long a path"):
        IPCChannelLayer(directory=tmp_path / ("x" * 100), size=MIB)


def test_a_url_gives_name_directory_and_options(tmp_path: Path) -> None:
    layer = open_layer(f"ipc://chat?directory={tmp_path}/bus&size={MIB}&capacity=7")
    assert isinstance(layer, IPCChannelLayer)
    assert (layer.name, layer.directory) == ("chat", tmp_path / "bus")
    assert layer.policies.default.capacity == 7
    layer.close()


def test_a_url_with_a_path_or_an_unknown_option_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="has a path"):
        open_layer("ipc://chat/elsewhere")
    with pytest.raises(ConfigurationError, match="unknown option 'capcity'"):
        open_layer(f"ipc://chat?directory={tmp_path}/bus&capcity=7")


def test_what_was_begun_is_not_handed_out_again_when_its_layer_closes(tmp_path: Path) -> None:
    first, second = (IPCChannelLayer(directory=tmp_path / "bus", size=MIB) for _ in range(2))
    for n in range(3):
        first.send("work", {"n": n})
    receiver = first.receiver()
    receiver.begin(receiver.exchange((), (), ["work"], 3).deliveries[0])
    first.close()
    receiver.close()
    assert [second.receive(["work"])[1] for _ in range(3)] == [{"n": 1}, {"n": 2}, None]
    assert second.statistics("work").dropped == {"receiver died": 1}
    second.close()


def test_threads_that_ring_the_same_bell_all_reach_it(tmp_path: Path) -> None:
    layer = IPCChannelLayer(directory=tmp_path / "bus", size=MIB)
    ring = layer._ringer.ring
    with ThreadPoolExecutor(3) as threads:
        for _ in range(200):
            with layer.receiver() as receiver:
                names = [cast("StoredReceiver", receiver).name]
                assert list(threads.map(lambda _, names=names: ring(names), range(3))) == [True] * 3
                assert receiver.wait(5)
    layer.close()


def test_nothing_but_the_messages_stays_behind(tmp_path: Path) -> None:
    layer = IPCChannelLayer(directory=tmp_path / "bus", size=MIB)
    with layer.receiver() as receiver:
        layer.send("a", {})
        receiver.begin(receiver.exchange((), (), ["a"], 1).deliveries[0])
    layer.close()
    layer.close()
    found = {path.name for path in (tmp_path / "bus").rglob("*")}
    assert found == {"alive", "bells", "marks", "data.mdb", "lock.mdb"}


def test_what_a_killed_process_leaves_is_removed_by_the_next(tmp_path: Path) -> None:
    code = (
        "import sys; from busway.bus.ipc import IPCChannelLayer as Layer\n"
        f"layer = Layer(directory={str(tmp_path / 'bus')!r}, size={MIB})\n"
        "receiver = layer.receiver(); receiver.exchange((), (), ['a'], 1, wake_below=1)\n"
        "print('ready', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert len(list((tmp_path / "bus" / "bells").iterdir())) == 1
        process.kill()
    layer = IPCChannelLayer(directory=tmp_path / "bus", size=MIB)
    assert list((tmp_path / "bus" / "bells").iterdir()) == []
    assert len(list((tmp_path / "bus" / "alive").iterdir())) == 1
    layer.close()


def test_its_shard_is_its_directory_and_counts_who_else_is_there(tmp_path: Path) -> None:
    layer = IPCChannelLayer(directory=tmp_path / "bus", size=2 * MIB)
    (alone,) = layer.shards()
    assert (alone.name, alone.limit) == (str(tmp_path / "bus"), MIB)
    assert alone.detail == "other processes on it: 0"
    layer.send("a", {"text": "x" * 100_000})
    other = IPCChannelLayer(directory=tmp_path / "bus", size=2 * MIB)
    (shared,) = layer.shards()
    assert shared.detail == "other processes on it: 1"
    assert 100_000 < shared.used < alone.used + 150_000
    for each in (layer, other):
        each.close()


def test_a_shard_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = IPCChannelLayer(directory=tmp_path / "bus", size=MIB)

    def fail(_: Environment) -> int:
        raise LayerUnavailable("the bus failed; remove it")

    monkeypatch.setattr(Environment, "used", fail)
    (shard,) = layer.shards()
    assert (shard.name, shard.healthy) == (str(tmp_path / "bus"), False)
    assert shard.detail == "the bus failed; remove it"
    layer.close()


def test_a_forked_child_goes_on_as_a_process_of_its_own(tmp_path: Path) -> None:
    layer = IPCChannelLayer(directory=tmp_path / "bus", size=MIB)
    layer.send("from-parent", {"n": 1})
    child = os.fork()
    if not child:  # pragma: no cover  (in the child)
        code = 1
        try:
            if layer.receive(["from-parent"]) == ("from-parent", {"n": 1}):
                layer.send("from-child", {"n": 2})
                layer.close()
                code = 0
        finally:
            os._exit(code)
    signal.alarm(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert layer.receive(["from-child"]) == ("from-child", {"n": 2})
    with layer.receiver() as receiver:
        receiver.exchange((), (), ["x"], 1, wake_below=1)
        layer.send("x", {"n": 3})
        assert receiver.wait(5)
    layer.close()


@pytest.fixture
def shared_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Let buses without a directory live below a directory of this test."""
    with TemporaryDirectory(prefix="busway-") as path:
        monkeypatch.setattr(directory, "SHARED_MEMORY", Path(path))
        yield Path(path) / f"busway-{os.geteuid()}"


def test_the_last_process_removes_an_empty_bus(shared_memory: Path) -> None:
    first, second = IPCChannelLayer("passing", size=MIB), IPCChannelLayer("passing", size=MIB)
    first.send("a", {})
    first.close()
    assert second.receive(["a"]) == ("a", {})
    second.close()
    assert list(shared_memory.iterdir()) == []


def test_a_bus_with_messages_stays(shared_memory: Path) -> None:
    layer = IPCChannelLayer("staying", size=MIB)
    layer.send("a", {"n": 1})
    layer.close()
    layer = IPCChannelLayer("staying", size=MIB)
    assert layer.receive(["a"]) == ("a", {"n": 1})
    layer.close()
    assert list(shared_memory.iterdir()) == []


def test_what_is_for_a_reader_that_is_gone_keeps_no_bus(shared_memory: Path) -> None:
    layer = IPCChannelLayer("passing", size=MIB)
    layer.send("answer?gone", {})
    layer.send("web.gone!1", {})
    layer.group_add("room", "web.gone!1")
    layer.close()
    assert list(shared_memory.iterdir()) == []


def test_layers_that_come_and_go_at_once_find_each_other(shared_memory: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from busway.bus.ipc import IPCChannelLayer as Layer, directory\n"
        f"directory.SHARED_MEMORY = Path({str(shared_memory.parent)!r})\n"
        "for n in range(50):\n"
        f"    layer = Layer('busy', size={MIB}); layer.send('a', {{}}); layer.receive(['a'])\n"
        "    layer.close()\n"
    )
    crowd = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait(60) for process in crowd] == [0, 0, 0]


def test_layers_of_one_process_share_a_bus(tmp_path: Path) -> None:
    first = IPCChannelLayer(directory=tmp_path / "bus", size=MIB)
    second = IPCChannelLayer(directory=tmp_path / "bus", size=MIB)
    first.send("a", {"n": 1})
    first.close()
    assert second.receive(["a"]) == ("a", {"n": 1})
    second.close()


class Full(IPCChannelLayer):
    """A layer whose store is full in some of its next transactions."""

    full: tuple[bool, ...] = ()

    @contextmanager
    def transaction(self) -> Iterator[Store]:
        now, *later = self.full or (False,)
        self.full = tuple(later)
        with super().transaction() as store:
            yield store
            if now:
                raise StoreFull


def test_what_was_taken_stays_in_hand_when_the_bus_is_full_to_the_last_page(
    tmp_path: Path,
) -> None:
    layer = Full(directory=tmp_path / "bus", size=MIB)
    with layer.receiver() as receiver:
        layer.send("a", {"n": 1})
        (taken,) = receiver.exchange((), (), ["a"], 1).deliveries
        layer.full = (True, True)  # the exchange, and a second try that adds nothing
        with pytest.raises(LayerUnavailable, match="full to the last page"):
            receiver.exchange([Return(taken)])
        receiver.exchange([Return(taken)])
        assert layer.receive(["a"]) == ("a", {"n": 1})
    layer.close()
