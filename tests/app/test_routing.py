"""Routings: which consumer takes which message."""

import tracemalloc
from collections.abc import Collection
from functools import partial
from typing import Any

import pytest

from busway import (
    BaseConsumer,
    JsonWebsocketConsumer,
    Message,
    Router,
    WebsocketConsumer,
    enforce_ordering,
    include,
    route,
    route_class,
)
from busway.app import defaults
from busway.app.routing import Routing
from busway.app.targets import target_of
from busway.bus.errors import ConfigurationError, InvalidName
from busway.bus.policy import Policies


def one(message: Message, **kwargs: Any) -> None: ...


def two(message: Message, **kwargs: Any) -> None: ...


async def later(message: Message, **kwargs: Any) -> None: ...


def in_room(message: Message, room: str) -> None: ...


ROUTING = [route("jobs", one)]
NO_ROUTING = 7


def match(routing: Routing, channel: str, **content: Any) -> tuple[Any, dict[str, Any]] | None:
    return Router(routing).match(Message(content, channel))


class TestRoute:
    def test_the_first_that_matches_takes_the_message(self) -> None:
        routing = [
            route("http.request", one, path="^/one/$"),
            route("http.request", two),
            route("http.request", one),
        ]
        assert match(routing, "http.request", path="/one/") == (one, {})
        assert match(routing, "http.request", path="/x/") == (two, {})
        assert match(routing, "http.response", path="/x/") is None

    def test_all_filters_have_to_match(self) -> None:
        routing = [route("http.request", one, path=r"^/(?P<a>\w)$", method="^(?P<b>GET|PUT)$")]
        assert match(routing, "http.request", path="/x", method="PUT") == (
            one,
            {"a": "x", "b": "PUT"},
        )
        assert match(routing, "http.request", path="/x", method="POST") is None
        assert match(routing, "http.request", path="/x") is None
        assert match(routing, "http.request", path="/x", method=None) is None

    def test_filters_see_bytes_and_numbers(self) -> None:
        routing = [route("websocket.disconnect", one, code="^1001$", query_string="(?P<q>.*)")]
        assert match(routing, "websocket.disconnect", code=1001, query_string=b"a=1") == (
            one,
            {"q": "a=1"},
        )

    def test_it_can_be_for_several_channels(self) -> None:
        routing = [route(["a", "b?c"], one)]
        assert match(routing, "a") == match(routing, "b?c") == (one, {})

    def test_a_consumer_can_be_given_by_its_dotted_path(self) -> None:
        assert match([route("jobs", f"{__name__}.one")], "jobs") == (one, {})

    def test_path_converters(self) -> None:
        routing = [route("http.request", in_room, path="/chat/<slug:room>/")]
        assert match(routing, "http.request", path="/chat/lobby/") == (in_room, {"room": "lobby"})
        assert match(routing, "http.request", path="/chat/lobby/x") is None

    def test_arguments_of_one_message_are_not_those_of_the_next(self) -> None:
        router = Router([route("jobs", one)])
        first = router.match(Message({}, "jobs"))
        assert first is not None
        first[1]["left"] = "over"
        assert router.match(Message({}, "jobs")) == (one, {})

    def test_what_matched_once_matches_again(self) -> None:
        router = Router(
            [
                route("http.request", one, path="<int:a>/x"),
                route("http.request", two, path="<b>/y"),
            ]
        )
        for _ in range(2):
            for path, found in (
                ("1/x", (one, {"a": 1})),
                ("1/y", (two, {"b": "1"})),
                ("1/z", None),
                (b"2/x", (one, {"a": 2})),
            ):
                assert router.match(Message({"path": path}, "http.request")) == found

    def test_a_route_that_is_added_later_matches_what_nothing_did(self) -> None:
        router = Router([route("http.request", one, path="^/one$")])
        message = Message({"path": "/two", "method": "GET"}, "http.request")
        assert router.match(message) is None
        router.add_route(route("http.request", two, path="^/two$", method="^GET$"))
        assert router.match(message) == (two, {})
        message["method"] = "PUT"
        assert router.match(message) is None

    def test_paths_that_clients_make_up_fill_no_memory(self) -> None:
        router = Router([route("http.request", one, path="^/x")])
        message = Message({"path": "/x"}, "http.request")
        router.match(message)
        tracemalloc.start()
        try:
            for number in range(20_000):
                message["path"] = f"/x{number}"
                router.match(message)
            assert tracemalloc.get_traced_memory()[0] < 500_000
        finally:
            tracemalloc.stop()

    def test_what_is_no_consumer_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="a route's consumer is 7"):
            route("jobs", 7)  # type: ignore[arg-type]

    def test_a_bad_channel_is_refused(self) -> None:
        with pytest.raises(InvalidName):
            route("a b", one)
        with pytest.raises(ConfigurationError, match="belongs to one process"):
            route("web.reply!1", one)

    def test_a_filter_that_is_no_text_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="path=7 is not text"):
            route("jobs", one, path=7)  # type: ignore[arg-type]

    def test_arguments_that_the_consumer_does_not_take_are_refused(self) -> None:
        with pytest.raises(ConfigurationError, match=r"in_room.*cannot be called with \(message\)"):
            Router([route("jobs", in_room)])
        with pytest.raises(ConfigurationError, match=r"cannot be called with \(message, rum\)"):
            Router([route("jobs", in_room, path="/<rum>/")])


class TestRouteClass:
    def test_it_takes_the_channels_of_the_class(self) -> None:
        router = Router([route_class(WebsocketConsumer, path="^/x$")])
        assert router.channels == {
            "websocket.connect",
            "websocket.receive",
            "websocket.disconnect",
        }
        assert router.match(Message({"path": "/x"}, "websocket.receive")) is not None
        assert router.match(Message({"path": "/y"}, "websocket.receive")) is None

    def test_a_class_can_be_given_by_its_dotted_path(self) -> None:
        assert len(Router([route_class("busway.WebsocketConsumer")]).channels) == 3

    @pytest.mark.parametrize("wrong", [one, int, f"{__name__}.one"])
    def test_what_is_no_class_of_ours_is_refused(self, wrong: Any) -> None:
        with pytest.raises(ConfigurationError, match="a subclass of BaseConsumer"):
            route_class(wrong)


class TestInclude:
    def test_it_strips_what_it_matched(self) -> None:
        routing = [include([route("http.request", in_room, path=r"^/(?P<room>\w+)/$")], path="^/x")]
        assert match(routing, "http.request", path="/x/lobby/") == (in_room, {"room": "lobby"})
        assert match(routing, "http.request", path="/lobby/") is None
        assert match(routing, "http.request", path="/x/x/lobby/") is None

    def test_it_adds_its_own_arguments(self) -> None:
        inner = [route("http.request", one, path="/<int:n>", method="(?P<method>GET)")]
        routing = [include([include(inner, path="/<slug:team>")], path="/v(?P<version>[0-9])")]
        assert match(routing, "http.request", path="/v2/red/7", method="GET") == (
            one,
            {"version": "2", "team": "red", "n": 7, "method": "GET"},
        )

    def test_the_message_itself_keeps_its_path(self) -> None:
        message = Message({"path": "/x/y"}, "http.request")
        assert Router([include([route("http.request", one, path="^/y")], path="^/x")]).match(
            message
        )
        assert message["path"] == "/x/y"

    def test_a_name_used_inside_and_outside_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="names 'a', as another"):
            Router([include([route("jobs", one, path="/<a>")], path="/<a>")])

    def test_an_end_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="leave the end off"):
            include([route("jobs", one)], path="^/x$")


class TestForms:
    def test_a_dict(self) -> None:
        assert match({"jobs": one, "more": f"{__name__}:two"}, "more") == (two, {})

    def test_a_dotted_path(self) -> None:
        assert match(f"{__name__}.ROUTING", "jobs") == (one, {})
        assert match([include(f"{__name__}:ROUTING")], "jobs") == (one, {})

    def test_a_class_in_a_dict(self) -> None:
        found = match({"websocket.connect": WebsocketConsumer}, "websocket.connect")
        assert found is not None
        assert callable(found[0])

    def test_an_object_of_your_own(self) -> None:
        class Weekday:
            def match(self, message: Message) -> tuple[Any, dict[str, Any]] | None:
                return (two, {"path": message["path"]}) if message["day"] == 1 else None

            def channel_names(self) -> Collection[str]:
                return ["jobs"]

        assert match([Weekday(), route("jobs", one)], "jobs", day=1, path="/") == (
            two,
            {"path": "/"},
        )
        assert match([Weekday(), route("jobs", one)], "jobs", day=2, path="/") == (one, {})
        assert match(Weekday(), "jobs", day=2) is None
        assert match([include(Weekday(), path="/<a>")], "jobs", day=1, path="/x/y") == (
            two,
            {"a": "x", "path": "/y"},
        )

    def test_two_lists_in_one_are_refused_with_the_remedy(self) -> None:
        with pytest.raises(ConfigurationError, match=r"expected route\(…\)"):
            Router([ROUTING])  # type: ignore[list-item]

    @pytest.mark.parametrize("wrong", [7, None, f"{__name__}.NO_ROUTING", one])
    def test_what_is_no_routing_is_refused(self, wrong: Any) -> None:
        with pytest.raises(ConfigurationError, match="expected a list of route"):
            Router(wrong)

    def test_routes_can_be_added(self) -> None:
        router = Router([])
        assert router.channels == frozenset()
        router.add_route(route("jobs", one))
        router.add_route(include({"more": two}))
        assert router.channels == {"jobs", "more"}


class TestTargets:
    def test_sync_and_async_consumers_are_told_apart(self) -> None:
        class Callable:
            async def __call__(self, message: Message) -> None: ...

        class Sync:
            def __call__(self, message: Message) -> None: ...

        assert [
            target_of(found).is_async
            for found in (one, later, Callable(), Sync(), partial(later), partial(one))
        ] == [False, True, True, False, True, False]

    def test_they_have_names_for_people(self) -> None:
        assert target_of(one).name == f"{__name__}.one"
        assert target_of(partial(one)).name == f"{__name__}.one"
        assert target_of(WebsocketConsumer).name == "busway.app.consumers.WebsocketConsumer"

    def test_a_router_knows_those_of_a_channel(self) -> None:
        router = Router([route("jobs", one), route("jobs", later), route("more", later)])
        assert [target.is_async for target in router.targets("jobs") or ()] == [False, True]
        assert [target.is_async for target in router.targets("more") or ()] == [True]
        assert router.targets("none") == []

    def test_nobody_knows_those_of_an_object_of_your_own(self) -> None:
        class Own:
            def match(self, message: Message) -> None: ...

            def channel_names(self) -> Collection[str]:
                return ["jobs"]

        assert Router([route("jobs", one), Own()]).targets("jobs") is None


class TestDefaults:
    def consumers(self, routing: Routing) -> dict[str, Any]:
        router = Router(routing)
        router.check_default()
        found = {name: router.match(Message({}, name)) for name in router.channels}
        return {name: consumer and consumer[0] for name, consumer in found.items()}

    def test_an_empty_routing_refuses_everybody(self) -> None:
        assert self.consumers([]) == {
            "http.request": defaults.not_found,
            "http.disconnect": defaults.ignore,
            "websocket.connect": defaults.deny,
            "websocket.receive": defaults.ignore,
            "websocket.disconnect": defaults.ignore,
        }

    def test_a_routing_with_frames_only_accepts_sockets(self) -> None:
        found = self.consumers([route("websocket.receive", one)])
        assert found["websocket.connect"] is defaults.accept
        assert found["websocket.receive"] is one

    def test_what_is_routed_stays(self) -> None:
        routed = dict.fromkeys(self.consumers([]), one)
        assert self.consumers(routed) == routed

    def test_requests_that_no_route_takes_go_to_the_consumer_that_is_given(self) -> None:
        router = Router(
            [
                route("http.request", one, path="^/one/$"),
                include([route("http.request", one)], path="^/in"),
            ]
        )
        router.check_default(two)
        paths = ("/one/", "/in/", "/else/")
        found = [router.match(Message({"path": path}, "http.request")) for path in paths]
        assert [consumer and consumer[0] for consumer in found] == [one, one, two]
        everything = Router([route("http.request", one)])
        everything.check_default(two)
        assert len(everything.targets("http.request") or ()) == 1


class TestOrdering:
    def test_a_channel_without_order_is_refused_with_the_remedy(self) -> None:
        router = Router([route("jobs", enforce_ordering(one_ordered))])
        with pytest.raises(ConfigurationError, match=r'"jobs": \{"ordering": "reply_channel"'):
            router.check_ordering(Policies())
        router.check_ordering(Policies({"jobs": {"ordering": "customer"}}))

    def test_websockets_are_ordered_unless_configured_otherwise(self) -> None:
        @enforce_ordering(slight=True)
        class Ordered(JsonWebsocketConsumer): ...

        router = Router([route_class(Ordered)])
        router.check_ordering(Policies())
        with pytest.raises(ConfigurationError, match="Ordered relies on the order"):
            router.check_ordering(Policies({"websocket.receive": {"ordering": None}}))

    def test_others_do_not_mind(self) -> None:
        Router([route("jobs", one), route_class(BaseConsumer)]).check_ordering(Policies())


def one_ordered(message: Message) -> None: ...
