"""The file of a bus: reserved at once, of one version, and full without harm."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import lmdb
import pytest

from busway.bus.errors import ChannelFull, LayerUnavailable
from busway.bus.ipc import IPCChannelLayer
from busway.bus.ipc.environment import StoreTransaction
from busway.bus.ipc.processes import Presence
from busway.bus.operations import Return, Send
from busway.bus.transaction import StoreFull

MIB = 1 << 20


@pytest.fixture
def small_file_system(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB, in memory."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "busway-test", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small file system")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def fill(directory: Path) -> None:
    with (directory / "filling").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


def test_the_whole_size_is_reserved_at_once(tmp_path: Path) -> None:
    layer = IPCChannelLayer(directory=tmp_path / "bus", size=2 * MIB)
    found = (tmp_path / "bus" / "data.mdb").stat()
    layer.close()
    assert found.st_size == 2 * MIB
    assert found.st_blocks * 512 >= 2 * MIB


def test_a_file_system_without_room_is_an_error_with_a_remedy(small_file_system: Path) -> None:
    with pytest.raises(LayerUnavailable, match=r"no room for a bus of 8 MiB.*smaller 'size'"):
        IPCChannelLayer(directory=small_file_system / "bus", size=8 * MIB)
    assert not (small_file_system / "bus" / "data.mdb").exists()
    IPCChannelLayer(directory=small_file_system / "bus", size=MIB).close()


def test_a_full_file_system_is_an_error_with_a_remedy(small_file_system: Path) -> None:
    fill(small_file_system)
    with pytest.raises(LayerUnavailable, match=r"no room|cannot be made"):
        IPCChannelLayer(directory=small_file_system / "bus", size=MIB)


def test_a_file_system_that_fills_up_later_does_not_disturb_a_bus(small_file_system: Path) -> None:
    layer = IPCChannelLayer(directory=small_file_system / "bus", size=MIB)
    layer.receive(["a"])
    fill(small_file_system)
    sent = fill_bus(layer, 10_000)
    assert sent > 20
    assert [layer.receive([f"c{n}"])[0] for n in range(sent)] == [f"c{n}" for n in range(sent)]
    layer.close()


def test_no_message_is_lost_when_its_receiver_cannot_be_marked(small_file_system: Path) -> None:
    layer = IPCChannelLayer(directory=small_file_system / "bus", size=MIB)
    receiver = layer.receiver()
    layer.send("work", {"n": 1})
    fill(small_file_system)
    with pytest.raises(LayerUnavailable, match="make room"):
        receiver.exchange((), (), ["work"], 1)
    (small_file_system / "filling").unlink()
    assert [d.message for d in receiver.exchange((), (), ["work"], 1).deliveries] == [{"n": 1}]
    receiver.close()
    layer.close()


def fill_bus(layer: IPCChannelLayer, size: int) -> int:
    """Send to one channel after another until the bus is full; returns how many it took."""
    with layer.receiver() as sender:
        for sent in range(100_000):
            refused = sender.exchange([Send(f"c{sent}", {"body": bytes(size)})]).refused
            if refused:
                error = refused[0].error
                assert (error.reason, error.limit) == ("memory", layer._open().size // 2)
                return sent
    pytest.fail("the bus took everything")


@pytest.mark.parametrize("size", [10, 1000, 5000, 100_000])
def test_a_bus_that_is_full_refuses_and_goes_on(tmp_path: Path, size: int) -> None:
    layer = IPCChannelLayer(directory=tmp_path / "bus", size=2 * MIB, expiry=1000.0)
    first = fill_bus(layer, size)
    assert first * size <= MIB
    for _ in range(3):
        for n in range(first):
            assert layer.receive([f"c{n}"])[0] == f"c{n}"
        assert fill_bus(layer, size) >= first // 2
        layer.flush()
        first = fill_bus(layer, size)
    layer.close()


def test_memory_is_refused_for_one_message_and_not_for_what_is_received(tmp_path: Path) -> None:
    layer = IPCChannelLayer(directory=tmp_path / "bus", size=MIB)
    fill_bus(layer, 50_000)
    with layer.receiver() as receiver:
        outcome = receiver.exchange([Send("x", {"body": bytes(50_000)})], (), ["c0"], 1)
        assert [refusal.error.reason for refusal in outcome.refused] == ["memory"]
        assert [delivery.channel for delivery in outcome.deliveries] == ["c0"]
    layer.close()


def fill_with_memberships(layer: IPCChannelLayer) -> int:
    for n in range(20_000):
        try:
            layer.group_add(f"group-{'x' * 60}-{n // 50}", f"web.q!{n:x}")
        except ChannelFull:
            return n
    raise AssertionError("the bus has no limit")


def test_memberships_leave_room_for_work_and_for_clearing_up(tmp_path: Path) -> None:
    layer = IPCChannelLayer(directory=tmp_path / "bus", size=MIB)
    code = (
        "import os, sys\n"
        "from busway.bus.ipc import IPCChannelLayer as Layer\n"
        f"layer = Layer(directory={str(tmp_path / 'bus')!r})\n"
        "for n in range(8): layer.send('work', {'body': bytes(1500)})\n"
        "receiver = layer.receiver()\n"
        "receiver.exchange((), (), ['work'], 8, wake_below=1)\n"
        "print('ready', flush=True); sys.stdin.read()\n"
    )
    peer = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with peer:
        assert peer.stdout
        assert peer.stdout.readline() == b"ready\n"
        assert fill_with_memberships(layer) > 500
        peer.kill()
    layer.bury()
    assert [layer.receive(["work"])[0] for _ in range(8)] == ["work"] * 8
    other = IPCChannelLayer(directory=tmp_path / "bus")
    layer.group_discard(f"group-{'x' * 60}-0", "web.q!0")
    other.close()
    layer.close()


def test_a_transaction_that_finds_no_room_at_all_changes_nothing(tmp_path: Path) -> None:
    layer = IPCChannelLayer(directory=tmp_path / "bus", size=MIB)
    layer.send("work", {"n": 1})
    with layer.receiver() as receiver:
        held = receiver.exchange((), (), ["work"], 1).deliveries
        with pytest.MonkeyPatch.context() as patch:

            def full(self: object, *_: object) -> NoReturn:
                raise StoreFull

            patch.setattr(StoreTransaction, "__enter__", full)
            with pytest.raises(LayerUnavailable, match="full to the last page"):
                receiver.exchange([Return(held[0])])
            layer.tidy(0.0)
            layer.bury()
        receiver.exchange([Return(held[0])])
        assert layer.receive(["work"]) == ("work", {"n": 1})
    layer.close()


def pretend_another_version(directory: Path) -> None:
    with lmdb.open(str(directory), map_size=MIB) as found, found.begin(write=True) as txn:
        txn.put(b"v", b"other")
        txn.put(b"cwork", b"not a record")


def test_a_bus_that_another_version_left_begins_anew(tmp_path: Path) -> None:
    IPCChannelLayer(directory=tmp_path / "bus", size=MIB).close()
    pretend_another_version(tmp_path / "bus")
    layer = IPCChannelLayer(directory=tmp_path / "bus", size=MIB)
    assert layer.receive(["work"]) == (None, None)
    assert layer.statistics().messages_count == 0
    layer.close()


def test_a_bus_that_another_version_uses_is_refused(tmp_path: Path) -> None:
    IPCChannelLayer(directory=tmp_path / "bus", size=MIB).close()
    pretend_another_version(tmp_path / "bus")
    presence = Presence(tmp_path / "bus", "somebody")
    with pytest.raises(LayerUnavailable, match="another version of Busway") as caught:
        IPCChannelLayer(directory=tmp_path / "bus", size=MIB)
    assert str(tmp_path / "bus") in str(caught.value)
    assert "BUSWAY_LAYER=ipc://" in str(caught.value)
    presence.close()


def test_a_bus_in_use_keeps_its_size(tmp_path: Path) -> None:
    first = IPCChannelLayer(directory=tmp_path / "bus", size=MIB)
    code = (
        "from busway.bus.ipc import IPCChannelLayer as Layer\n"
        f"layer = Layer(directory={str(tmp_path / 'bus')!r}, size={4 * MIB})\n"
        "layer.send('a', {'n': 1}); layer.close()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert (tmp_path / "bus" / "data.mdb").stat().st_size == MIB
    assert first.receive(["a"]) == ("a", {"n": 1})
    first.close()


def test_a_file_that_is_no_bus_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bus").mkdir(mode=0o700)
    (tmp_path / "bus" / "data.mdb").write_bytes(b"something else" * 1000)
    with pytest.raises(LayerUnavailable, match="remove it"):
        IPCChannelLayer(directory=tmp_path / "bus", size=MIB)


def test_a_larger_size_grows_a_bus_that_nobody_uses(tmp_path: Path) -> None:
    layer = IPCChannelLayer(directory=tmp_path / "bus", size=MIB)
    layer.send("kept", {"n": 1})
    layer.close()
    layer = IPCChannelLayer(directory=tmp_path / "bus", size=2 * MIB)
    assert layer.receive(["kept"]) == ("kept", {"n": 1})
    assert (tmp_path / "bus" / "data.mdb").stat().st_size == 2 * MIB
    layer.close()
