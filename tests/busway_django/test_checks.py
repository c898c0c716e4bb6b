"""`manage.py check`."""

from typing import Any

import pytest
from django.conf import settings
from django.core.checks import CheckMessage
from django.core.management import call_command
from django.test import override_settings

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


def test_good_descriptions_are_fine_and_open_nothing() -> None:
    assert findings("ipc://a-bus-that-nobody-opens") == []
    assert findings({}) == []


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
