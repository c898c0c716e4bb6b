"""Which layer is the current one."""

import threading

import pytest

from busway.app.context import Outbox, current_layer, held_by, outbox, set_layer
from busway.bus.errors import ConfigurationError
from busway.bus.layer import ChannelLayer
from busway.bus.memory import MemoryChannelLayer


@pytest.fixture(autouse=True)
def _clean() -> object:
    before = set_layer(None)
    yield
    opened = set_layer(before)
    if opened is not None:
        opened.close()


def test_the_environment_names_the_process_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUSWAY_LAYER", "memory://?capacity=7")
    layer = current_layer()
    assert isinstance(layer, MemoryChannelLayer)
    assert layer.policies.default.capacity == 7
    assert current_layer() is layer


def test_threads_open_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUSWAY_LAYER", "memory://")
    start = threading.Barrier(8)
    found: list[ChannelLayer] = []

    def look() -> None:
        start.wait()
        found.append(current_layer())

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(id, found))) == 1


def test_a_bad_url_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUSWAY_LAYER", "carrier-pigeon://")
    with pytest.raises(ConfigurationError, match="carrier-pigeon"):
        current_layer()


def test_set_layer_returns_the_one_before(layer: ChannelLayer) -> None:
    other = MemoryChannelLayer()  # closed by _clean
    assert set_layer(layer) is None
    assert set_layer(other) is layer
    assert current_layer() is other


def test_in_a_consumer_its_workers_layer_is_current(layer: ChannelLayer) -> None:
    set_layer(MemoryChannelLayer())  # closed by _clean
    held = Outbox(layer)
    outbox.set(held)
    assert current_layer() is layer
    assert held_by(None) is held_by(layer) is held.operations
    held.open = False
    assert held_by(None) is None
    assert current_layer() is layer
    outbox.set(None)
    assert current_layer() is not layer
