"""CHANNEL_LAYERS in the settings."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from busway.app import context
from busway.app.message import Message
from busway.app.routing import route
from busway.bus.errors import ConfigurationError
from busway.bus.ipc import IPCChannelLayer
from busway.bus.memory import MemoryChannelLayer
from busway.django import Channel, Group, channel_layers
from busway.django.layers import get_channel_layer, is_local, project_name
from busway.django.routing import Router

MEMORY = "busway.bus.memory.MemoryChannelLayer"
LOCAL = "busway.bus.redis.RedisLocalChannelLayer"


def first(message: Message) -> None:
    """Consume for one layer."""


def second(message: Message) -> None:
    """Consume for another layer."""


routing = [route("jobs", first)]
other_routing = {"jobs": second}

TWO = {
    "default": {"BACKEND": MEMORY, "ROUTING": routing, "CONFIG": {"capacity": 3}},
    "other": {"BACKEND": MEMORY, "ROUTING": f"{__name__}.other_routing"},
}


@pytest.fixture
def two_layers() -> Iterator[None]:
    """Have two layers of different routings."""
    with override_settings(CHANNEL_LAYERS=TWO):
        yield


def made(config: Any, alias: str = "default", *, test: bool = False) -> Any:
    """Return the layer that `config` describes; it is closed."""
    with override_settings(CHANNEL_LAYERS={alias: config}):
        layer = channel_layers.make(alias, test=test)
    layer.close()
    return layer


def test_a_backend_gets_its_config() -> None:
    layer = made({"BACKEND": MEMORY, "CONFIG": {"capacity": 7}})
    assert isinstance(layer, MemoryChannelLayer)
    assert layer.policies.default.capacity == 7


def test_a_url_says_everything(tmp_path: Path) -> None:
    assert made("memory://?capacity=7").policies.default.capacity == 7
    assert made({"URL": "memory://?capacity=7"}).policies.default.capacity == 7
    assert isinstance(made(f"ipc://test?directory={tmp_path}/bus"), IPCChannelLayer)


def test_without_a_backend_it_is_the_ipc_layer(tmp_path: Path) -> None:
    layer = made({"CONFIG": {"directory": str(tmp_path / "bus")}})
    assert isinstance(layer, IPCChannelLayer)
    assert not is_local(layer)


@override_settings(CHANNEL_LAYERS=None)
def test_without_the_setting_there_is_a_default_layer() -> None:
    assert list(channel_layers) == ["default"]
    assert "default" in channel_layers


def test_the_name_of_the_bus_is_of_the_project() -> None:
    name = project_name()
    assert name.startswith("busway_django-")
    assert name == project_name()


def test_tests_have_a_layer_of_their_own() -> None:
    config = {"BACKEND": MEMORY, "TEST_CONFIG": {"capacity": 5}, "CONFIG": {"capacity": 6}}
    assert made(config, test=True).policies.default.capacity == 5
    assert made(config).policies.default.capacity == 6


@pytest.mark.parametrize("url", [{"URL": "memory://?capacity=6"}, {"BACKEND": MEMORY}])
def test_the_test_config_may_be_a_url(url: dict[str, Any]) -> None:
    config = url | {"TEST_CONFIG": "memory://?capacity=5"}
    assert made(config, test=True).policies.default.capacity == 5


@override_settings(CHANNEL_LAYERS={"default": {"BACKEND": MEMORY}})
def test_a_test_backend_needs_a_test_config() -> None:
    with pytest.raises(ConfigurationError, match="has no TEST_CONFIG; add one"):
        channel_layers.make_test_backend("default")


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({"BACKEND": "asgi_ipc.IPCChannelLayer"}, "use 'busway.bus.ipc.IPCChannelLayer'"),
        (
            {"BACKEND": "asgi_redis.RedisLocalChannelLayer"},
            "use 'busway.bus.redis.RedisLocalChannelLayer'",
        ),
        (
            {"BACKEND": LOCAL, "CONFIG": {"url": [("localhost", 6379)]}},
            r"\('localhost', 6379\); expected a URL",
        ),
        ({"BACKEND": LOCAL, "CONFIG": {"local": "no/name"}}, "no/name"),
        ({"BACKEND": LOCAL, "CONFIG": {"prefix": ""}}, "prefix is ''"),
        ({"URL": "local+redis://localhost?colour=red"}, "unknown option 'colour'"),
        ({"BACKEND": "no.such.Layer"}, "cannot be imported.*give the dotted path"),
        ({"BACKEND": "os.getcwd"}, "is <built-in function getcwd>"),
        ({"BACKEND": MEMORY, "CONFIG": {"capcity": 1}}, "capcity"),
        ({"BACKEND": MEMORY, "CONFIG": "capacity=1"}, "expected a dict of options"),
        ({"BACKEND": 3}, "expected a URL or dotted path"),
        ({"BACKND": MEMORY}, "has 'BACKND'; known are BACKEND, CONFIG"),
        ({"URL": "memory://", "CONFIG": {}}, "options belong into the URL"),
        ({"URL": "memory://", "TEST_CONFIG": {}}, "expected a URL"),
        ("carrier-pigeon://", "no channel layer for"),
        (3, "expected a URL or a dict"),
    ],
)
def test_a_wrong_description_is_refused_with_a_remedy(config: Any, error: str) -> None:
    with pytest.raises(ConfigurationError, match=error):
        made(config)


@pytest.mark.parametrize(
    "config",
    [
        "local+redis://no-such-host/0?local=chat&capacity=200",
        {"BACKEND": LOCAL, "CONFIG": {"url": "rediss://no-such-host", "local": "chat"}},
        {"BACKEND": "busway.bus.redis.RedisChannelLayer", "CONFIG": {"url": ["redis://no-such"]}},
    ],
)
def test_a_layer_on_redis_is_checked_without_asking_the_server(config: Any) -> None:
    with override_settings(CHANNEL_LAYERS={"default": config}):
        channel_layers.check("default", channel_layers.config("default"))


@override_settings(CHANNEL_LAYERS=[])
def test_an_empty_setting_is_as_none() -> None:
    assert list(channel_layers) == ["default"]


@override_settings(CHANNEL_LAYERS=["memory://"])
def test_a_list_is_no_description() -> None:
    with pytest.raises(ConfigurationError, match="expected a dict of alias"):
        list(channel_layers)


@pytest.mark.usefixtures("two_layers")
def test_each_alias_is_one_layer() -> None:
    assert channel_layers["default"] is channel_layers["default"] is get_channel_layer()
    assert channel_layers["other"] is not channel_layers["default"]
    with pytest.raises(ConfigurationError, match=r"no channel layer 'third'.*'default', 'other'"):
        _ = channel_layers["third"]


@pytest.mark.usefixtures("two_layers")
def test_each_alias_has_a_routing_of_its_own() -> None:
    message = Message({}, "jobs")
    found = [channel_layers.router(alias).find(message) for alias in ("default", "other")]
    names = [target.name.rpartition(".")[2] for target, _ in filter(None, found)]
    assert names == ["first", "second"]


@pytest.mark.usefixtures("two_layers")
def test_channels_and_groups_take_an_alias() -> None:
    Channel("jobs").send({"n": 1})
    Channel("jobs", alias="other").send({"n": 2})
    Group("all", "other").add("jobs")
    Group("all", "other").send({"n": 3})
    assert channel_layers["default"].receive(["jobs"])[1] == {"n": 1}
    assert channel_layers["other"].receive(["jobs"])[1] == {"n": 2}
    assert channel_layers["other"].receive(["jobs"])[1] == {"n": 3}
    assert channel_layers["default"].receive(["jobs"]) == (None, None)


@pytest.mark.usefixtures("two_layers")
def test_a_layer_can_be_put_in_place_of_another() -> None:
    before = channel_layers["default"]
    own = MemoryChannelLayer()
    assert channel_layers.set("default", own) is before
    Channel("jobs").send({"n": 1})
    assert own.receive(["jobs"])[1] == {"n": 1}
    assert context.current_layer() is own
    assert channel_layers.set("default", before) is own
    assert context.current_layer() is before
    own.close()


@pytest.mark.usefixtures("two_layers")
def test_a_router_can_be_put_in_place_of_another() -> None:
    before = channel_layers.router("other")
    own = Router([])
    assert channel_layers.set_router("other", own) is before
    assert channel_layers.router("other") is own
    channel_layers.set_router("other", None)
    assert channel_layers.router("other").channels == {"jobs"}


def test_changed_settings_close_the_layers_before() -> None:
    with override_settings(CHANNEL_LAYERS=TWO):
        first = channel_layers["default"]
    with override_settings(CHANNEL_LAYERS=TWO):
        assert channel_layers["default"] is not first
