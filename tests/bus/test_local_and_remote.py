"""A local and a remote layer as one keep the contract."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from busway.bus.conformance import Factory, Suite
from busway.bus.conformance.harness import eventually
from busway.bus.errors import ConfigurationError, UsageError
from busway.bus.ipc import IPCChannelLayer
from busway.bus.local_and_remote import LocalAndRemoteChannelLayer
from busway.bus.operations import GroupSend, Operation, Send

MIB = 1 << 20


def join(path: str, **options: object) -> LocalAndRemoteChannelLayer:
    """Return a layer whose remote part is a second bus on this machine."""
    local, remote = (
        IPCChannelLayer("test", directory=f"{path}/{part}", size=8 * MIB, **options)
        for part in ("local", "remote")
    )
    return LocalAndRemoteChannelLayer(local, remote)


class TestLocalAndRemote(Suite):
    """Every test of the contract, on two layers."""

    across_processes = True

    @pytest.fixture
    def layer_factory(self) -> Iterator[Factory]:
        """Return what makes layers on two small buses of this test's own."""
        with TemporaryDirectory(dir="/dev/shm", prefix="busway-test-") as path:
            yield partial(join, path)

    # A group's ordinary members are another matter here: what they get from it comes by a queue of
    # its own, with room, order and expiry of its own. The tests below say what holds instead.
    test_a_full_member_is_skipped_and_counted = None  # type: ignore[assignment]
    test_an_exchange_does_what_finds_room_and_returns_the_rest = None  # type: ignore[assignment]
    test_drops_are_counted_by_reason = None  # type: ignore[assignment]
    test_channels_leave_their_groups_when_a_message_to_them_expires_unread = None  # type: ignore[assignment]
    test_the_layer_behaves_like_the_model = None  # type: ignore[assignment]


@pytest.fixture
def layer() -> Iterator[LocalAndRemoteChannelLayer]:
    with TemporaryDirectory(dir="/dev/shm", prefix="busway-test-") as path:
        found = join(path, capacity=2)
        yield found
        found.close()


def test_channels_of_a_machine_stay_on_it(layer: LocalAndRemoteChannelLayer) -> None:
    layer.send("work", {})
    layer.send("body?x", {})
    layer.send("proc.x!y", {})
    assert layer.local.statistics().messages_pending == 2
    assert layer.remote.statistics("proc.x!").messages_pending == 1


def test_an_ordinary_member_gets_what_is_sent_to_it_and_to_its_groups(
    layer: LocalAndRemoteChannelLayer,
) -> None:
    layer.group_add("group", "work")
    layer.send("work", {"n": 1})
    layer.group_send("group", {"n": 2})
    found = [layer.receive(["work"])[1] for _ in range(2)]
    assert sorted(str(each) for each in found) == ["{'n': 1}", "{'n': 2}"]


def test_a_member_has_room_of_its_own_for_its_groups(layer: LocalAndRemoteChannelLayer) -> None:
    layer.group_add("group", "work")
    for n in range(2):
        layer.send("work", {"n": n})
    for n in range(3):
        layer.group_send("group", {"n": n})
    found = layer.statistics("work")
    assert (found.messages_pending, found.dropped) == (4, {"full": 1})


@pytest.mark.parametrize("operation", [Send("work", {}), GroupSend("group", {})])
def test_a_sleeper_is_woken_by_either(
    layer: LocalAndRemoteChannelLayer, operation: Operation
) -> None:
    layer.group_add("group", "work")
    receiver = layer.receiver()
    assert receiver.exchange((), (), ["work"], 9, wake_below=1).deliveries == []
    layer.exchange([operation])
    assert receiver.wait(10)
    held = receiver.exchange((), (), ["work"], 9, wake_below=1).deliveries
    assert len(held) == 1
    receiver.exchange((), held)
    receiver.close()
    assert layer.statistics().dropped == {}


def test_nothing_is_done_when_one_operation_of_many_is_wrong(
    layer: LocalAndRemoteChannelLayer,
) -> None:
    receiver = layer.receiver()
    with pytest.raises(UsageError):
        receiver.exchange([Send("work", {}), Send("proc.x!y", {"a": object()})])
    receiver.close()
    assert layer.statistics().messages_count == 0


def test_an_operation_that_is_wrong_costs_no_message(layer: LocalAndRemoteChannelLayer) -> None:
    layer.send("proc.x!y", {"n": 1})
    with layer.receiver() as receiver:
        with pytest.raises(UsageError):
            receiver.exchange([Send("work", {"a": object()})], (), ["proc.x!"], 9, wake_below=9)
        found = receiver.exchange((), (), ["proc.x!"], 9, wake_below=9).deliveries
    assert [each.message for each in found] == [{"n": 1}]


async def test_an_empty_message_is_one_to_peek_at(layer: LocalAndRemoteChannelLayer) -> None:
    layer.group_add("group", "work")
    layer.group_send("group", {"n": 1})
    layer.send("work", {})
    assert layer.peek("work") == await layer.apeek("work") == {}


def test_layers_with_other_limits_are_not_joined(tmp_path: Path) -> None:
    local = IPCChannelLayer("test", directory=tmp_path / "a", size=MIB)
    remote = IPCChannelLayer("test", directory=tmp_path / "b", size=MIB, message_size=1000)
    with pytest.raises(ConfigurationError, match="message_size is 1048576"):
        LocalAndRemoteChannelLayer(local, remote)
    local.close()
    remote.close()


@pytest.mark.parametrize("channel", ["work", "proc.x!y"])
def test_a_delayed_message_comes_to_a_reader_that_waits_elsewhere(
    layer: LocalAndRemoteChannelLayer, channel: str
) -> None:
    layer.send(channel, {}, delay=0.1)
    name = channel.removesuffix("y")
    with layer.receiver() as receiver:
        assert receiver.exchange((), (), [name], 9, wake_below=1).deliveries == []
        eventually(
            lambda: receiver.exchange((), (), [name], 9, wake_below=1).deliveries, "it is due"
        )
