"""`manage.py check` on the settings of sessions and origins."""

from typing import Any

import pytest
from django.core.checks import run_checks

pytestmark = pytest.mark.django_db

MODULE = "busway.django.security.websockets"


@pytest.mark.parametrize(
    ("found", "values"),
    [
        ("E010", {"CHANNEL_SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies"}),
        ("E010", {"CHANNEL_SESSION_ENGINE": "no.such.module"}),
        ("E011", {"CHANNEL_SESSION_KEY_PARAMETER": True}),
        (
            "E012",
            {
                "CHANNEL_SESSION_ENGINE": "busway.django.session_backends.bus",
                "CHANNEL_SESSION_LAYER": "none",
            },
        ),
        (
            "W010",
            {
                "SESSION_ENGINE": "busway.django.session_backends.bus",
                "SESSION_COOKIE_AGE": 10_000_000,
            },
        ),
        ("W011", {"CHANNEL_ORIGIN_VALIDATOR": None}),
        ("E013", {"CHANNEL_ORIGIN_VALIDATOR": 7}),
        ("E013", {"CHANNEL_ORIGIN_VALIDATOR": "no.such.module"}),
        ("E013", {"CHANNEL_ORIGIN_VALIDATOR": f"{MODULE}.matches"}),
    ],
)
def test_a_wrong_setting_is_found_with_what_to_do(
    settings: Any, found: str, values: dict[str, Any]
) -> None:
    for name, value in values.items():
        setattr(settings, name, value)
    messages = [message for message in run_checks() if message.id == f"busway.{found}"]
    assert len(messages) == 1
    assert messages[0].hint or found == "E013"


@pytest.mark.parametrize(
    "values",
    [
        {"SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies"},
        {"CHANNEL_SESSION_ENGINE": "busway.django.session_backends.bus"},
        {"CHANNEL_ORIGIN_VALIDATOR": f"{MODULE}.AllowedHostsOnlyOriginValidator"},
        {
            "SESSION_ENGINE": "busway.django.session_backends.bus",
            "SESSION_COOKIE_AGE": 10_000_000,
            "CHANNEL_LAYERS": {
                "default": {
                    "BACKEND": "busway.bus.memory.MemoryChannelLayer",
                    "CONFIG": {"policies": {"busway.session?": {"expiry": 10_000_000}}},
                }
            },
        },
    ],
)
def test_right_settings_pass(settings: Any, values: dict[str, Any]) -> None:
    for name, value in values.items():
        setattr(settings, name, value)
    assert not [m for m in run_checks() if m.id != "busway.W001"]
