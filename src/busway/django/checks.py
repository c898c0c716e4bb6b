"""`manage.py check`: what is wrong with the channel layers of the settings, and what to do."""

from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error

from busway.app.loading import load
from busway.bus.errors import BuswayError
from busway.bus.memory import MemoryChannelLayer
from busway.django.layers import channel_layers


def check_channel_layers(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Return what is wrong with CHANNEL_LAYERS and the routings in it. No layer is opened."""
    del app_configs
    return list(_findings())


def _findings() -> Iterator[CheckMessage]:
    try:
        configs = channel_layers.configs
    except BuswayError as error:
        yield Error(str(error), id="busway.E001")
        return
    for alias, config in configs.items():
        backend = config.get("BACKEND")
        if backend is not None:
            yield from _check_backend(alias, backend)
        elif str(config.get("URL", "")).startswith("memory:"):
            yield from _check_memory(alias)
        try:
            channel_layers.router(alias)
        except Exception as error:  # noqa: BLE001  (a routing's module may raise anything)
            yield Error(
                f"The ROUTING of CHANNEL_LAYERS[{alias!r}] cannot be used: {error}",
                hint="It is a list of route(…), or the dotted path of one.",
                id="busway.E003",
            )


def _check_backend(alias: str, path: str) -> Iterator[CheckMessage]:
    from busway.django.layers import MOVED  # noqa: PLC0415

    try:
        backend = load(path)
    except Exception as error:  # noqa: BLE001
        hint = MOVED.get(path)
        yield Error(
            f"The BACKEND {path!r} of CHANNEL_LAYERS[{alias!r}] cannot be imported: {error}",
            hint=f"Use {hint!r}." if hint else "It is the dotted path of a ChannelLayer.",
            id="busway.E002",
        )
    else:
        if backend is MemoryChannelLayer:
            yield from _check_memory(alias)


def _check_memory(alias: str) -> Iterator[CheckMessage]:
    if not settings.DEBUG:
        yield checks.Warning(
            f"CHANNEL_LAYERS[{alias!r}] lives in one process.",
            hint="Workers and interface servers are several: use the IPC layer, for example "
            '"ipc://name".',
            id="busway.W001",
        )
