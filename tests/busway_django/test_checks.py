"""`manage.py check`."""

from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.checks import CheckMessage
from django.core.management import call_command
from django.test import override_settings

from busway.bus.memory import MemoryChannelLayer
from busway.django.checks import check_channel_layers, check_installed_apps

MEMORY = "busway.bus.memory.MemoryChannelLayer"


@pytest.mark.django_db  # the checks of some versions ask the database
def test_a_project_without_mistakes_passes() -> None:
    call_command("check", fail_level="WARNING")


def findings(config: Any, *, debug: bool = False) -> list[CheckMessage]:
    """Return what is found wrong with CHANNEL_LAYERS."""
    with override_settings(CHANNEL_LAYERS={"default": config}, DEBUG=debug):
        return check_channel_layers(None)


@pytest.mark.parametrize(
    ("config", "number", "remedy"),
    [
        ({"BACKND": MEMORY}, "busway.E001", "known are BACKEND"),
        (7, "busway.E001", "expected a URL or a dict"),
        ({"BACKEND": "asgiref.inmemory.ChannelLayer"}, "busway.E002", f"use '{MEMORY}'"),
        ({"BACKEND": "nowhere.Layer"}, "busway.E002", "give the dotted path"),
        ({"BACKEND": "datetime.date"}, "busway.E002", "give the dotted path"),
        ({"ROUTING": "nowhere.routing"}, "busway.E003", "or the dotted path of one"),
        ({"ROUTING": [7]}, "busway.E003", "It is a list of route"),
        ({"CONFIG": {"capcity": 2}}, "busway.E004", "unknown field `capcity`"),
        ({"CONFIG": {"capacity": 0}}, "busway.E004", "capacity is 0, expected at least 1"),
        ({"CONFIG": {"size": 1}}, "busway.E004", "bus size is 1 bytes, expected at least"),
        ({"CONFIG": {"size": "1M"}}, "busway.E004", "bus size is '1M' bytes"),
        ({"CONFIG": {"name": "a b"}}, "busway.E004", "bus name 'a b'"),
        ({"CONFIG": {"name": 7}}, "busway.E004", "bus name 7"),
        ({"CONFIG": {"directory": 7}}, "busway.E004", "expected a path"),
        ({"CONFIG": {"group_expiry": None}}, "busway.E004", "group_expiry is None"),
        (
            {"CONFIG": {"policies": {"jobs": {"delivery": "at-least-once"}}}},
            "busway.E004",
            "which IPCChannelLayer does not offer",
        ),
        ({"CONFIG": {"policies": {"jobs": 7}}}, "busway.E004", "expected a Policy"),
        ({"TEST_CONFIG": {"capcity": 2}}, "busway.E004", "its TEST_CONFIG: "),
        ("ipc://name?capcity=2", "busway.E004", "unknown option 'capcity'"),
        ("ipc://name?capacity=many", "busway.E004", "expected int"),
        ("rabbit://name", "busway.E004", "no channel layer for 'rabbit://name'"),
        ({"URL": "ipc://a", "TEST_CONFIG": "ipc://b?x=1"}, "busway.E004", "unknown option 'x'"),
        ({"BACKEND": MEMORY}, "busway.W001", "use the IPC layer"),
        ("memory://", "busway.W001", "use the IPC layer"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(config: Any, number: str, remedy: str) -> None:
    (found,) = findings(config)
    assert found.id == number
    assert remedy in f"{found.msg} {found.hint}"


def test_the_memory_layer_will_do_for_development() -> None:
    assert findings({"BACKEND": MEMORY}, debug=True) == []


def test_good_descriptions_are_fine_and_open_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("busway.bus.ipc.environment.acquire", None)
    directory = str(tmp_path / "bus")
    for good in (
        f"ipc://name?capacity=2&directory={directory}",
        {},
        {"CONFIG": {"directory": Path(directory), "capacity": 2, "policies": {"a": {"expiry": 1}}}},
        {"TEST_CONFIG": {"directory": directory}},
    ):
        assert findings(good) == []
    assert not Path(directory).exists()


class Layer(MemoryChannelLayer):
    """A layer of others, with options of its own."""

    def __init__(self, *, hosts: list[str], **options: Any) -> None:
        """Connect to `hosts`, which are down."""
        super().__init__(**options)
        raise ConnectionError(hosts)


def test_the_servers_of_a_layer_need_not_be_up() -> None:
    layer = {"BACKEND": f"{__name__}.Layer", "CONFIG": {"hosts": ["down"], "capacity": 2}}
    assert findings(layer, debug=True) == []
    layer["CONFIG"] = {"hosts": ["down"], "capcity": 2}
    (found,) = findings(layer, debug=True)
    assert "unknown field `capcity`" in found.msg


@pytest.mark.parametrize(
    "static", ["django.contrib.staticfiles", "django.contrib.staticfiles.apps.StaticFilesConfig"]
)
def test_busway_has_to_stand_before_the_static_files(static: str) -> None:
    others = [name for name in settings.INSTALLED_APPS if "staticfiles" not in name]
    with override_settings(INSTALLED_APPS=[static, *others]):
        (found,) = check_installed_apps(None)
    assert found.id == "busway.W002"
    assert found.hint == "Put 'busway.django' before it."
    with override_settings(INSTALLED_APPS=others):
        assert check_installed_apps(None) == []
