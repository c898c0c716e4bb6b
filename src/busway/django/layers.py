"""The channel layers of a project: what CHANNEL_LAYERS in the settings says.

    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "busway.bus.ipc.IPCChannelLayer",  # or "URL": "ipc://name?capacity=200"
            "CONFIG": {"capacity": 200},
            "ROUTING": "project.routing.channel_routing",
        },
    }

Without a BACKEND or URL the layer is the IPC layer, named after the project.
"""

import re
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from importlib import import_module
from pathlib import Path
from threading import RLock
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed

from busway.app.loading import load
from busway.bus.errors import ConfigurationError
from busway.bus.ipc import IPCChannelLayer
from busway.bus.layer import ChannelLayer
from busway.bus.memory import MemoryChannelLayer
from busway.bus.urls import check_url, open_layer
from busway.django.routing import Router

DEFAULT_CHANNEL_LAYER = "default"
"""The alias that is used where none is given."""

_KEYS = frozenset({"BACKEND", "URL", "CONFIG", "TEST_CONFIG", "ROUTING"})

MOVED = {
    "asgi_ipc.IPCChannelLayer": "busway.bus.ipc.IPCChannelLayer",
    "asgi_redis.RedisChannelLayer": "busway.bus.redis.RedisChannelLayer",
    "asgi_redis.RedisLocalChannelLayer": "busway.bus.redis.RedisLocalChannelLayer",
    "asgi_redis.RedisSentinelChannelLayer": "busway.bus.redis.RedisChannelLayer",
    "asgiref.inmemory.ChannelLayer": "busway.bus.memory.MemoryChannelLayer",
    "channels.layers.InMemoryChannelLayer": "busway.bus.memory.MemoryChannelLayer",
    "channels_redis.core.RedisChannelLayer": "busway.bus.redis.RedisChannelLayer",
    "channels_redis.pubsub.RedisPubSubChannelLayer": "busway.bus.redis.RedisChannelLayer",
}
"""Backends of other systems, and what stands in their place."""


class ChannelLayers:
    """The layers and routers by their aliases, each made when it is first used. Thread-safe."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._layers: dict[str, ChannelLayer] = {}
        self._routers: dict[str, Router] = {}

    @property
    def configs(self) -> Mapping[str, Mapping[str, Any]]:
        """What the settings say of each alias, a URL spelled out."""
        given = getattr(settings, "CHANNEL_LAYERS", None) or {DEFAULT_CHANNEL_LAYER: {}}
        if not isinstance(given, Mapping):
            raise ConfigurationError(
                f"CHANNEL_LAYERS is {given!r}, expected a dict of alias → options"
            )
        return {alias: _spelled_out(alias, config) for alias, config in given.items()}

    def __getitem__(self, alias: str) -> ChannelLayer:
        layer = self._layers.get(alias)
        if layer is None:
            with self._lock:
                layer = self._layers.get(alias)
                if layer is None:
                    layer = self._layers[alias] = self.make(alias)
        return layer

    def __contains__(self, alias: object) -> bool:
        return alias in self.configs

    def __iter__(self) -> Iterator[str]:
        return iter(self.configs)

    def make(self, alias: str, *, test: bool = False) -> ChannelLayer:
        """Return a new layer as the settings describe it; with `test`, by its TEST_CONFIG.

        Raises `ConfigurationError` when it is not described, or wrongly.
        """
        config = self.config(alias)
        return self.make_from(alias, for_tests(config) if test else config)

    def make_from(self, alias: str, config: Mapping[str, Any]) -> ChannelLayer:
        """Return a new layer for `alias`, as `config` describes it instead of the settings."""
        if "URL" in config:
            return open_layer(config["URL"])
        backend, options = _backend(alias, config)
        return backend(**options)

    def check(self, alias: str, config: Mapping[str, Any]) -> None:
        """Raise `ConfigurationError` when no layer can be made of `config`. Nothing is opened."""
        if "URL" in config:
            check_url(config["URL"])
        else:
            backend, options = _backend(alias, config)
            backend.check_options(**options)

    def router(self, alias: str = DEFAULT_CHANNEL_LAYER) -> Router:
        """Return the router of a layer: its ROUTING, without the defaults of a worker.

        Raises `ConfigurationError` when the routing cannot be used.
        """
        with self._lock:
            router = self._routers.get(alias)
            if router is None:
                routing = self.config(alias).get("ROUTING", [])
                router = self._routers[alias] = Router(routing)
            return router

    def set(self, alias: str, layer: ChannelLayer | None) -> ChannelLayer | None:
        """Put `layer` in place of the one that `alias` stands for; returns that.

        None: the one of the settings, made anew when it is needed. For tests.
        """
        with self._lock:
            before = self._layers.pop(alias, None)
            if layer is not None:
                self._layers[alias] = layer
            return before

    def set_router(self, alias: str, router: Router | None) -> Router | None:
        """Put `router` in place of the one that `alias` has; returns that. None: as in `set`."""
        with self._lock:
            before = self._routers.pop(alias, None)
            if router is not None:
                self._routers[alias] = router
            return before

    def make_test_backend(self, alias: str) -> ChannelLayer:
        """Return a new layer by the TEST_CONFIG of `alias`, for tests with real processes.

        Raises `ConfigurationError` when there is no TEST_CONFIG.
        """
        if "TEST_CONFIG" not in self.config(alias):
            raise ConfigurationError(
                f"CHANNEL_LAYERS[{alias!r}] has no TEST_CONFIG; add one, so that tests "
                "do not meet the messages of a running site"
            )
        return self.make(alias, test=True)

    def close(self) -> None:
        """Close all layers that were made, and forget the routers."""
        with self._lock:
            while self._layers:
                self._layers.popitem()[1].close()
            self._routers.clear()

    def config(self, alias: str) -> Mapping[str, Any]:
        """Return what the settings say of `alias`; raises `ConfigurationError` for nothing."""
        try:
            return self.configs[alias]
        except KeyError:
            raise ConfigurationError(
                f"there is no channel layer {alias!r}; CHANNEL_LAYERS has "
                + ", ".join(map(repr, self.configs))
            ) from None


channel_layers = ChannelLayers()
"""The layers of this process."""


def get_channel_layer(alias: str = DEFAULT_CHANNEL_LAYER) -> ChannelLayer:
    """Return a layer of the settings: `channel_layers[alias]`."""
    return channel_layers[alias]


def for_tests(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what describes a layer in tests, given what describes it: by its TEST_CONFIG."""
    given = config.get("TEST_CONFIG", {})
    if isinstance(given, str):
        return {"URL": given}
    # Not the bus of a site that runs beside the tests.
    own = {} if "BACKEND" in config else {"name": f"test-{project_name()}"[:40]}
    return {**config, "CONFIG": {**own, **given}}


def is_local(layer: ChannelLayer) -> bool:
    """Tell whether only this process can use `layer`."""
    return isinstance(layer, MemoryChannelLayer)


def project_name() -> str:
    """Return the name of the project's bus: that of its settings' package, and where it is."""
    module = settings.SETTINGS_MODULE or "busway"
    name = module.partition(".")[0]
    mark = blake2b(str(_place(name)).encode(), digest_size=4).hexdigest()
    return f"{re.sub('[^A-Za-z0-9_.-]', '-', name)[:30]}-{mark}"


def _place(name: str) -> Path:
    """Return the directory of a top-level package or module; if there is none, the current one."""
    try:
        found = import_module(name)
    except ImportError:
        return Path.cwd()
    if paths := list(getattr(found, "__path__", ())):  # also without an __init__.py
        return Path(paths[0]).resolve()
    return Path(found.__file__).resolve().parent if found.__file__ else Path.cwd()


def _spelled_out(alias: str, config: object) -> Mapping[str, Any]:
    if isinstance(config, str):
        return {"URL": config}
    if not isinstance(config, Mapping):
        raise ConfigurationError(
            f"CHANNEL_LAYERS[{alias!r}] is {config!r}, expected a URL or a dict of "
            + ", ".join(sorted(_KEYS))
        )
    unknown = sorted(set(config) - _KEYS)
    if unknown:
        raise ConfigurationError(
            f"CHANNEL_LAYERS[{alias!r}] has {unknown[0]!r}; known are " + ", ".join(sorted(_KEYS))
        )
    if "URL" in config and ("BACKEND" in config or "CONFIG" in config):
        raise ConfigurationError(
            f"CHANNEL_LAYERS[{alias!r}] has a URL and a BACKEND or CONFIG; "
            "options belong into the URL then, as in ipc://name?capacity=200"
        )
    for key, expected in _expected(config).items():
        if key in config and not isinstance(config[key], expected):
            raise ConfigurationError(
                f"CHANNEL_LAYERS[{alias!r}][{key!r}] is {config[key]!r}, expected "
                + ("a dict of options" if expected is Mapping else "a URL or dotted path")
            )
    return config


def _backend(alias: str, config: Mapping[str, Any]) -> tuple[type[ChannelLayer], Mapping[str, Any]]:
    """Return the class of a layer without a URL, and its options."""
    options = config.get("CONFIG", {})
    if "BACKEND" in config:
        return backend_class(alias, config["BACKEND"]), options
    return IPCChannelLayer, {"name": project_name(), **options}


def _expected(config: Mapping[str, Any]) -> dict[str, type]:
    test_config = str if "URL" in config or isinstance(config.get("TEST_CONFIG"), str) else Mapping
    return {"BACKEND": str, "URL": str, "CONFIG": Mapping, "TEST_CONFIG": test_config}


def backend_class(alias: str, path: str) -> type[ChannelLayer]:
    """Import the BACKEND `path` of `alias`; raises `ConfigurationError` when it is none."""
    wrong = f"the BACKEND {path!r} of CHANNEL_LAYERS[{alias!r}]"
    remedy = "give the dotted path of a ChannelLayer, or a URL"
    if path in MOVED:
        raise ConfigurationError(f"{wrong} is of another system; use {MOVED[path]!r}")
    try:
        found = load(path)
    except (ConfigurationError, ImportError) as error:
        raise ConfigurationError(f"{wrong} cannot be imported: {error}; {remedy}") from error
    if not isinstance(found, type) or not issubclass(found, ChannelLayer):
        raise ConfigurationError(f"{wrong} is {found!r}; {remedy}")
    return found


def _forget(*, setting: str, **_: Any) -> None:
    if setting == "CHANNEL_LAYERS":
        channel_layers.close()


setting_changed.connect(_forget)
