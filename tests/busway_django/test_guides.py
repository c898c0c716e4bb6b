"""What the guides for Django projects say."""

import re
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

from busway.bus.memory import MemoryChannelLayer
from busway.django import Group, channel_layers
from busway.django.binding import Binding
from busway.django.binding.websockets import WebsocketBinding
from busway.django.database import keeping_connections
from busway.django.layers import is_local
from busway.django.routing import Router
from busway.django.test import ChannelTestCase
from busway_django.consuming import Consumption, contents
from busway_django.project.models import Note

GUIDES = Path(__file__).parents[2] / "docs" / "how-to"
NAMES = re.findall(
    r"^\| `channels\.[\w.]+` \| `(busway[\w.]+)` \|$",
    (GUIDES / "from-channels-1.md").read_text(),
    re.MULTILINE,
)


def test_the_guide_has_a_table_of_names() -> None:
    assert len(NAMES) > 60


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_the_guide_is_there(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    try:
        found = import_module(module)
    except ModuleNotFoundError:
        if module.split(".")[2] in ("auth", "security", "sessions", "test"):
            pytest.skip(f"{module} is still to come")
        raise
    if not hasattr(found, attribute) and module == "busway.django.test":
        pytest.skip(f"{name} is still to come")
    assert hasattr(found, attribute)


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the routing of the guide's example, for the model of the tests' project."""
    pytest.importorskip("busway.django.auth")
    for name in ("notes", "notes.models", "notes.bindings", "notes.routing"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["notes.models"].Note = Note  # type: ignore[attr-defined]
    blocks = re.findall(
        r'```python title="notes/(\w+)\.py"\n(.*?)```',
        (GUIDES / "bind-models.md").read_text(),
        re.DOTALL,
    )
    for name, code in blocks:
        exec(code, vars(sys.modules[f"notes.{name}"]))  # noqa: S102
    yield sys.modules["notes.routing"].channel_routing
    bindings: Any = sys.modules["notes.bindings"]
    assert issubclass(bindings.NoteBinding, Binding)
    bindings.NoteBinding.unregister()


@pytest.mark.django_db
def test_the_example_of_a_binding_works(notes: Any) -> None:
    layer = MemoryChannelLayer()
    consume = Consumption(layer, notes)
    with keeping_connections():
        found = contents(consume("websocket.connect", path="/live/", headers=[]))
        assert found == [{"accept": True}]
        frame = '{"stream": "notes", "payload": {"action": "create", "data": {"text": "x"}}}'
        consume("websocket.receive", path="/live/", text=frame)
    assert consume.counts.failed == 0
    assert not Note.objects.exists()  # nobody is logged in
    layer.close()


def test_what_the_wrapper_of_a_layer_told_is_told_elsewhere() -> None:
    layer = MemoryChannelLayer()
    for gone in ("alias", "router", "local_only", "routing", "channel_layer"):
        assert not hasattr(layer, gone)
    assert isinstance(channel_layers.router("default"), Router)
    assert is_local(layer)
    layer.close()


class BindingTests(ChannelTestCase):
    """A binding in a test whose transaction is never committed."""

    def test_a_binding_tells_what_was_captured_and_nothing_else(self) -> None:
        class NoteBinding(WebsocketBinding):
            model = Note
            stream = "notes"
            fields: ClassVar = ["text"]

            @classmethod
            def group_names(cls, instance: Any) -> list[str]:
                return ["notes"]

            def has_permission(self, user: Any, action: str, pk: Any) -> bool:
                return False

        self.addCleanup(NoteBinding.unregister)
        Group("notes").add("watching")
        Note.objects.create(text="not told")
        assert self.get_next_message("watching") is None
        with self.captureOnCommitCallbacks(execute=True):
            Note.objects.create(text="told at once")
        message = self.get_next_message("watching", require=True)
        assert message is not None
        assert '"told at once"' in message.content["text"]
        assert self.get_next_message("watching") is None
