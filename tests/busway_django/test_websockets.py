"""Which pages may open WebSockets."""

import logging
from collections.abc import Sequence
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from busway.app import Message, route
from busway.app.exceptions import DenyConnection
from busway.app.targets import is_async, target_of
from busway.bus.errors import ConfigurationError, UsageError
from busway.django.framing import framed
from busway.django.security.websockets import (
    AllowedHostsOnlyOriginValidator,
    BaseOriginValidator,
    allowed_hosts_only,
    load_validator,
)
from busway_django.sockets import Socket

DENIED = [{"accept": False}]
ACCEPTED = [{"accept": True}]


def accept(message: Message) -> None:
    message.reply_channel.send({"accept": True})


async def aaccept(message: Message) -> None:
    await message.reply_channel.asend({"accept": True})


class Own:
    """A route of one's own."""

    def channel_names(self) -> list[str]:
        return ["websocket.connect"]

    def match(self, message: Message) -> Any:
        return accept, {}


def connect(origin: str | None, routing: Any = None, **headers: str) -> list[dict[str, Any]]:
    """Open a WebSocket from a page of `origin`."""
    given = headers | ({"Origin": origin} if origin is not None else {})
    return Socket(routing or [route("websocket.connect", accept)], headers=given).connect()


kinds = pytest.mark.parametrize(
    "routing",
    [
        pytest.param([route("websocket.connect", accept)], id="sync"),
        pytest.param([route("websocket.connect", aaccept)], id="async"),
        pytest.param([Own()], id="own route"),
    ],
)


@kinds
def test_pages_of_the_site_may_and_others_may_not(routing: Any) -> None:
    assert connect("https://www.example.com", routing) == ACCEPTED
    assert connect("https://www.example.com.evil.org", routing) == DENIED


@pytest.mark.parametrize(
    "origin",
    [
        "http://example.com",
        "https://a.b.example.com",
        "https://EXAMPLE.com",
        "http://127.0.0.1:8000",
        "http://testserver:80",
        "https://example.com:8443",
    ],
)
def test_hosts_of_allowed_hosts_may_with_any_port(origin: str) -> None:
    assert connect(origin) == ACCEPTED


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "null",
        "example.com",
        "https://",
        "https://evil.org",
        "https://evilexample.com",
        "https://example.com@evil.org",
        "https://evil.org/example.com",
        "https://evil.org#.example.com",
        "https://example.com:x",
        "https://example.com:99999999",
        "https://[::1",
        "https://example.com, https://evil.org",
        "https://ex ample.com",
        "https://ä.example.com",
        "file://",
    ],
)
def test_everything_else_may_not(origin: str) -> None:
    assert connect(origin) == DENIED


def test_whoever_is_no_browser_sends_no_origin_and_may() -> None:
    assert connect(None) == ACCEPTED


def test_two_origins_are_no_origin() -> None:
    message = Message(
        {
            "reply_channel": "web.x!1",
            "headers": [[b"origin", b"https://example.com"], [b"origin", b"https://evil.org"]],
        },
        "websocket.connect",
    )
    with pytest.raises(DenyConnection):
        AllowedHostsOnlyOriginValidator().check(message)


def test_a_refusal_is_logged_with_path_and_origin(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "busway.security")
    Socket(
        [route("websocket.connect", accept)],
        headers={"Origin": "https://evil.org"},
        path="/chat/\n",
    ).connect()
    assert "'/chat/\\n'" in caplog.text
    assert "'https://evil.org'" in caplog.text


@pytest.mark.parametrize("consumer", [accept, aaccept])
def test_the_check_comes_before_everything_else_around_a_consumer(consumer: Any) -> None:
    target = framed(target_of(consumer), "websocket.connect")
    headers = [[b"origin", b"https://evil.org"]]
    message = Message({"headers": headers}, "websocket.connect")
    with pytest.raises(DenyConnection):
        async_to_sync(target.consumer)(message) if target.is_async else target.consumer(message)


def test_other_channels_are_not_checked() -> None:
    routing = [route("websocket.receive", accept), route("http.request", accept)]
    socket = Socket(routing, headers={"Origin": "https://evil.org"})
    assert socket.receive() == ACCEPTED
    assert socket.request() == ACCEPTED


def test_with_debug_and_no_hosts_pages_of_this_machine_may(settings: Any) -> None:
    settings.ALLOWED_HOSTS = []
    assert connect("http://localhost:8000") == DENIED
    settings.DEBUG = True
    for host in ("localhost:8000", "a.localhost", "127.0.0.1:8000", "[::1]:8000"):
        assert connect(f"http://{host}") == ACCEPTED
    assert connect("http://example.com") == DENIED


class TestEveryHost:
    """ALLOWED_HOSTS = ["*"]."""

    @pytest.fixture(autouse=True)
    def hosts(self, settings: Any) -> None:
        settings.ALLOWED_HOSTS = ["*"]

    def test_only_pages_of_the_same_host_may(self) -> None:
        assert connect("https://a.org", Host="a.org") == ACCEPTED
        assert connect("https://a.org:8443", Host="A.org:80") == ACCEPTED
        assert connect("https://evil.org", Host="a.org") == DENIED
        assert connect("null", Host="a.org") == DENIED
        assert connect("https://a.org") == DENIED

    def test_a_proxy_that_is_believed_names_the_host(self, settings: Any) -> None:
        headers = {"Host": "inside:8000", "X-Forwarded-Host": "a.org"}
        assert connect("https://a.org", **headers) == DENIED
        settings.USE_X_FORWARDED_HOST = True
        assert connect("https://a.org", **headers) == ACCEPTED


class Origins(BaseOriginValidator):
    """For the tests: says which with their ports."""

    def get_allowed_origins(self) -> Sequence[str]:
        return ["https://example.com", "http://local:8000", ".everywhere.org", "https://[::1]:9"]


class Nulls(Origins):
    allow_null = True

    def get_allowed_origins(self) -> Sequence[str]:
        return ["null"]


class Everybody(BaseOriginValidator):
    def get_allowed_origins(self) -> Sequence[str]:
        return ["*"]


class Lottery(BaseOriginValidator):
    def validate_origin(self, parsed_origin: Any) -> bool:
        return bool(parsed_origin.hostname == "winner.org")


def use(settings: Any, validator: type[BaseOriginValidator] | None) -> None:
    """Let the project use `validator`."""
    settings.CHANNEL_ORIGIN_VALIDATOR = (
        None if validator is None else f"{validator.__module__}.{validator.__qualname__}"
    )


class TestOfOnesOwn:
    @pytest.mark.parametrize(
        ("origin", "answer"),
        [
            ("https://example.com", ACCEPTED),
            ("https://example.com:443", ACCEPTED),
            ("https://example.com:444", DENIED),
            ("http://example.com", DENIED),
            ("https://www.example.com", DENIED),
            ("http://local:8000", ACCEPTED),
            ("http://local", DENIED),
            ("ftp://www.everywhere.org:21", ACCEPTED),
            ("https://[::1]:9", ACCEPTED),
            ("null", DENIED),
        ],
    )
    def test_origins_may_be_allowed_with_scheme_and_port(
        self, settings: Any, origin: str, answer: Any
    ) -> None:
        use(settings, Origins)
        assert connect(origin) == answer

    def test_the_app_may_decide_about_null(self, settings: Any) -> None:
        use(settings, Nulls)
        assert connect("null") == ACCEPTED
        assert connect("https://example.com") == DENIED

    def test_everybody_may_be_allowed_but_null(self, settings: Any) -> None:
        use(settings, Everybody)
        assert connect("https://evil.org") == ACCEPTED
        assert connect("null") == DENIED

    def test_it_may_decide_freely(self, settings: Any) -> None:
        use(settings, Lottery)
        assert connect("https://winner.org") == ACCEPTED
        assert connect("https://example.com") == DENIED

    def test_none_checks_nothing(self, settings: Any) -> None:
        use(settings, None)
        assert connect("https://evil.org") == ACCEPTED

    def test_what_is_no_validator_lets_nobody_in(self, settings: Any) -> None:
        settings.CHANNEL_ORIGIN_VALIDATOR = "busway_django.test_websockets.accept"
        assert connect("https://example.com")[0]["status"] == 500
        with pytest.raises(ConfigurationError, match="expected a subclass of BaseOriginValidator"):
            load_validator(settings.CHANNEL_ORIGIN_VALIDATOR)

    def test_one_that_says_nothing_is_told(self) -> None:
        with pytest.raises(NotImplementedError, match="override get_allowed_origins"):
            BaseOriginValidator().get_allowed_origins()


class TestDecorator:
    @pytest.fixture(autouse=True)
    def validator(self, settings: Any) -> None:
        use(settings, None)

    @pytest.mark.parametrize("consumer", [accept, aaccept])
    def test_it_checks_one_consumer(self, consumer: Any) -> None:
        routing = [route("websocket.connect", allowed_hosts_only(consumer))]
        assert connect("https://example.com", routing) == ACCEPTED
        assert connect("https://evil.org", routing) == DENIED
        routing = [route("websocket.connect", Lottery(consumer))]
        assert connect("https://winner.org", routing) == ACCEPTED

    def test_it_is_as_sync_or_async_as_its_consumer(self) -> None:
        assert not is_async(allowed_hosts_only(accept))
        assert is_async(allowed_hosts_only(aaccept))

    def test_it_keeps_the_name_of_its_consumer(self) -> None:
        assert vars(allowed_hosts_only(accept))["__name__"] == "accept"

    def test_without_a_consumer_it_cannot_be_called(self) -> None:
        with pytest.raises(UsageError, match="decorates no consumer"):
            allowed_hosts_only()(Message({}, "websocket.connect"))
