"""`manage.py check`: what is wrong with the channel layers of the settings, and what to do."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004  (Django's name)

from busway.bus.errors import BuswayError
from busway.bus.memory import MemoryChannelLayer
from busway.django.layers import backend_class, channel_layers, for_tests


def check_channel_layers(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Return what is wrong with CHANNEL_LAYERS and the routings in it. No layer is opened."""
    del app_configs
    try:
        configs = channel_layers.configs
    except BuswayError as error:
        return [Error(str(error), id="busway.E001")]
    found: list[CheckMessage] = []
    for alias, config in configs.items():
        found += _check_backend(alias, config)
        found += _check_routing(alias)
    return found


def check_installed_apps(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Return a warning when another application's `runserver` wins."""
    del app_configs
    places = list(settings.INSTALLED_APPS)
    own = _place(places, "busway.django", "busway.django.apps.BuswayConfig")
    static = _place(places, "django.contrib.staticfiles", _STATIC_CONFIG)
    if own is None or static is None or own < static:
        return []
    return [
        Warning(
            "'busway.django' stands behind 'django.contrib.staticfiles' in INSTALLED_APPS: "
            "runserver is Django's own, without WebSockets and workers.",
            hint="Put 'busway.django' before it.",
            id="busway.W002",
        )
    ]


_STATIC_CONFIG = "django.contrib.staticfiles.apps.StaticFilesConfig"


def _place(places: list[str], *names: str) -> int | None:
    return next((place for place, name in enumerate(places) if name in names), None)


def _check_backend(alias: str, config: Mapping[str, Any]) -> Iterator[CheckMessage]:
    is_memory = str(config.get("URL", "")).startswith("memory:")
    if "BACKEND" in config:
        try:
            is_memory = issubclass(backend_class(alias, config["BACKEND"]), MemoryChannelLayer)
        except Exception as error:  # noqa: BLE001  (its module may raise anything)
            yield Error(_sentence(str(error)), id="busway.E002")
            return
    yield from _check_options(alias, config)
    if is_memory and not settings.DEBUG:
        yield Warning(
            f"CHANNEL_LAYERS[{alias!r}] lives in one process.",
            hint="Workers and interface servers are several: use the IPC layer, for example "
            '"ipc://name".',
            id="busway.W001",
        )


def _check_options(alias: str, config: Mapping[str, Any]) -> Iterator[CheckMessage]:
    described = {"": config}
    if "TEST_CONFIG" in config:
        described[" and its TEST_CONFIG"] = for_tests(config)
    for what, each in described.items():
        try:
            channel_layers.check(alias, each)
        except Exception as error:  # noqa: BLE001  (a backend of others may raise anything)
            yield Error(
                f"No layer can be made of CHANNEL_LAYERS[{alias!r}]{what}: {error}",
                hint="Its options are those of its class, or the query of its URL.",
                id="busway.E004",
            )
            return


def _check_routing(alias: str) -> Iterator[CheckMessage]:
    try:
        channel_layers.router(alias)
    except Exception as error:  # noqa: BLE001  (its module may raise anything)
        yield Error(
            f"The ROUTING of CHANNEL_LAYERS[{alias!r}] cannot be used: {error}",
            hint="It is a list of route(…), or the dotted path of one.",
            id="busway.E003",
        )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
