"""`manage.py check`: what is wrong with the settings of sessions and of origins."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as CheckWarning

from busway.bus.errors import BuswayError
from busway.bus.names import family
from busway.bus.policy import Policies
from busway.django.layers import channel_layers
from busway.django.security.websockets import load_validator, validator_path
from busway.django.session_backends import bus
from busway.django.session_stores import ALTERNATIVES, channel_engine, check_channel_engine


def check_sessions(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Return what is wrong with CHANNEL_SESSION_ENGINE and what belongs to it."""
    del app_configs
    engine = channel_engine()
    found: list[CheckMessage] = []
    if getattr(settings, "CHANNEL_SESSION_ENGINE", None) or not engine.endswith("signed_cookies"):
        # Else it is the site's own choice, which is wrong only where channel sessions are used.
        try:
            check_channel_engine(engine)
        except BuswayError as error:
            found.append(Error(_sentence(error), hint=f"Use {ALTERNATIVES}.", id="busway.E010"))
    parameter = getattr(settings, "CHANNEL_SESSION_KEY_PARAMETER", None)
    if parameter is not None and not (parameter and isinstance(parameter, str)):
        found.append(
            Error(
                f"CHANNEL_SESSION_KEY_PARAMETER is {parameter!r}.",
                hint="It is the name of a query parameter, or None.",
                id="busway.E011",
            )
        )
    if bus.__name__ in (engine, settings.SESSION_ENGINE):
        found += _check_bus()
    return found


def _check_bus() -> list[CheckMessage]:
    alias = bus.layer_alias()
    if alias not in channel_layers.configs:
        return [
            Error(
                f"CHANNEL_SESSION_LAYER is {alias!r}, which is no channel layer.",
                hint="It is an alias in CHANNEL_LAYERS.",
                id="busway.E012",
            )
        ]
    options = channel_layers.configs[alias].get("CONFIG", {})
    try:
        policy = Policies(options.get("policies")).find(family(bus.CHANNEL))[1]
    except BuswayError:
        return []  # the check of the layers says so
    if policy.expiry >= settings.SESSION_COOKIE_AGE:
        return []
    return [
        CheckWarning(
            f"Sessions on the bus end after {policy.expiry:.0f} s, SESSION_COOKIE_AGE is "
            f"{settings.SESSION_COOKIE_AGE} s.",
            hint=f"Give CHANNEL_LAYERS[{alias!r}] the CONFIG "
            f'{{"policies": {{"{bus.CHANNEL}": {{"expiry": {settings.SESSION_COOKIE_AGE}}}}}}}.',
            id="busway.W010",
        )
    ]


def check_origins(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Return what is wrong with CHANNEL_ORIGIN_VALIDATOR."""
    del app_configs
    path: object = validator_path()
    if path is None:
        return [
            CheckWarning(
                "CHANNEL_ORIGIN_VALIDATOR is None: the pages of every site may open WebSockets "
                "here, with the cookies of whoever looks at them.",
                hint="Leave it out, unless no consumer believes a cookie.",
                id="busway.W011",
            )
        ]
    try:
        if not isinstance(path, str):
            return [
                Error(
                    f"CHANNEL_ORIGIN_VALIDATOR is {path!r}.",
                    hint="It is the dotted path of a subclass of BaseOriginValidator, or None.",
                    id="busway.E013",
                )
            ]
        load_validator(path)
    except Exception as error:  # noqa: BLE001  (its module may raise anything)
        return [Error(_sentence(error), id="busway.E013")]
    return []


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."
