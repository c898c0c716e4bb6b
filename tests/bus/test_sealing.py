"""Layers that encrypt what messages hold."""

import logging
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from bus.topics import LONG, OfMessages
from busway.bus.bundles import decode_bundle, tie
from busway.bus.codec import encode
from busway.bus.conformance import Factory, Suite
from busway.bus.errors import ConfigurationError
from busway.bus.ipc import IPCChannelLayer
from busway.bus.memory import MemoryChannelLayer
from busway.bus.operations import Return, Send
from busway.bus.records import index_key, queue_prefix
from busway.bus.transaction import Transaction

OLD, NEW = "an old key of many letters", "a new key of many letters"


class TestEncryptedIPC(Suite if LONG else OfMessages):  # type: ignore[misc]
    """What the contract says of messages, on an IPC layer with keys."""

    across_processes = True

    @pytest.fixture
    def layer_factory(self) -> Iterator[Factory]:
        """Return what makes layers on a small bus of this test's own."""
        with TemporaryDirectory(dir="/dev/shm", prefix="busway-test-") as path:
            yield partial(
                IPCChannelLayer,
                name="test",
                directory=path,
                size=8 * 1024 * 1024,
                encryption_keys=[NEW, OLD],
            )


def stored(layer: MemoryChannelLayer) -> bytes:
    with layer.transaction() as store:
        tables = [store.scan(bytes([table])) for table in range(97, 123)]
        return b"".join(key + value for table in tables for key, value in table)


def forge(layer: MemoryChannelLayer, channel: str, message: dict[str, Any]) -> None:
    """Put another message into the first record of a queue."""
    with layer.transaction() as store:
        key = queue_prefix(channel) + index_key(
            Transaction(store, store.data, layer.plans, 0.0).channel(channel).head
        )
        (found,) = decode_bundle(store.data.get(key) or b"")
        raw = [getattr(found, name) for name in found.__struct_fields__[:9]]
        raw[5] = message
        store.data.put(key, tie([encode(raw)]))


@pytest.fixture
def layer() -> Iterator[MemoryChannelLayer]:
    made = MemoryChannelLayer(encryption_keys=[NEW])
    yield made
    made.close()


def test_nothing_of_a_message_can_be_read_where_it_is_stored(layer: MemoryChannelLayer) -> None:
    layer.group_add("group", "work")
    layer.send("work", {"secret": "pineapple"})
    layer.send("work", {"secret": "pineapple"}, delay=60)
    layer.group_send("group", {"secret": "pineapple"})
    assert b"work" in stored(layer)
    assert b"pineapple" not in stored(layer)
    assert layer.receive(["work"]) == ("work", {"secret": "pineapple"})


@pytest.mark.parametrize(
    "message", [{}, {"": b"x" * 100}, {"": "text"}, {"text": "in clear"}, {"": b"", "a": 1}]
)
def test_a_forged_message_is_dropped_counted_and_said(
    layer: MemoryChannelLayer, message: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    layer.send("work", {})
    forge(layer, "work", message)
    layer.send("work", {"n": 1})
    with caplog.at_level(logging.WARNING, "busway.bus"):
        assert layer.peek("work") is None
        found = layer.receive(["work"], timeout=5)
    assert found == ("work", {"n": 1})
    assert layer.statistics("work").dropped == {"tampered": 1}
    assert "encryption_keys" in caplog.text


def test_a_message_moved_to_another_channel_is_forged(layer: MemoryChannelLayer) -> None:
    layer.send("other", {"n": 1})
    with layer.transaction() as store:
        key = queue_prefix("other") + index_key(
            Transaction(store, store.data, layer.plans, 0.0).channel("other").head
        )
        (found,) = decode_bundle(store.data.get(key) or b"")
    layer.send("work", {})
    forge(layer, "work", found.message)
    assert layer.receive(["work"]) == (None, None)
    assert layer.statistics("work").dropped == {"tampered": 1}


def test_a_lane_goes_on_behind_a_forged_message() -> None:
    layer = MemoryChannelLayer(encryption_keys=[NEW], policies={"work": {"ordering": "key"}})
    receiver = layer.receiver()
    receiver.exchange([Send("work", {"key": "a", "n": n}) for n in range(2)])
    forge(layer, "work", {"": b"x" * 50})
    assert receiver.exchange((), (), ["work"], 9, wake_below=1).deliveries == []
    assert receiver.wait(5)
    (second,) = receiver.exchange((), (), ["work"], 9, wake_below=1).deliveries
    assert second.message == {"key": "a", "n": 1}
    receiver.exchange([Return(second)])
    receiver.close()
    assert layer.receive(["work"])[1] == {"key": "a", "n": 1}
    layer.close()


def test_keys_can_be_changed_one_process_after_the_other() -> None:
    with TemporaryDirectory(dir="/dev/shm", prefix="busway-test-") as path:
        make = partial(IPCChannelLayer, "test", directory=path, size=1 << 20)
        steps = [[OLD], [OLD, NEW], [NEW, OLD], [NEW]]
        for before, after in pairwise(steps):
            first, second = make(encryption_keys=before), make(encryption_keys=after)
            for sender, reader in ((first, second), (second, first)):
                sender.send("work", {"n": 1})
                assert reader.receive(["work"]) == ("work", {"n": 1})
            first.close()
            second.close()


def test_a_url_has_keys_separated_by_commas() -> None:
    with TemporaryDirectory(dir="/dev/shm", prefix="busway-test-") as path:
        layer = IPCChannelLayer.from_url(
            f"ipc://test?directory={path}&size=2000000&encryption_keys={'a' * 16},{'b' * 16}"
        )
        assert layer.seal is not None
        layer.close()
    with pytest.raises(ConfigurationError, match="key 1 of encryption_keys has 1 bytes"):
        MemoryChannelLayer(encryption_keys=["a"])
