"""The Django application `busway.django`."""

from django.apps import AppConfig
from django.core import checks

from busway.app.context import set_opener
from busway.app.message import hint
from busway.django import database  # noqa: F401  (hears of connections before others, who may fail)
from busway.django.checks import check_channel_layers, check_installed_apps
from busway.django.hints import MISSING
from busway.django.layers import DEFAULT_CHANNEL_LAYER, channel_layers
from busway.django.session_checks import check_origins, check_sessions


class BuswayConfig(AppConfig):
    """Makes the default channel layer of the settings the process's."""

    name = "busway.django"
    label = "busway"
    verbose_name = "Busway"

    def ready(self) -> None:
        """Register the checks, and say what the layer is; none is opened before it is used."""
        checks.register(check_channel_layers)
        checks.register(check_installed_apps)
        checks.register(check_sessions)
        checks.register(check_origins)
        for attribute, remedy in MISSING.items():
            hint(attribute, remedy)
        set_opener(lambda: channel_layers[DEFAULT_CHANNEL_LAYER])
        # Models may be imported now, not before.
        from busway.django.binding.registry import register_waiting  # noqa: PLC0415

        register_waiting()
