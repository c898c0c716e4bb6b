"""Which policy a channel has."""

import re
from typing import Any

import pytest

from busway.bus.errors import ConfigurationError
from busway.bus.policy import DEFAULT_POLICIES, DeliveryPromise, Policies, Policy


def test_the_defaults_are_those_of_asgi() -> None:
    pattern, policy = Policies().find("anything")
    assert pattern == ""
    assert (policy.capacity, policy.expiry, policy.ordering) == (100, 60.0, None)
    assert policy.delivery is DeliveryPromise.AT_MOST_ONCE


def test_a_layers_defaults_reach_patterns_that_leave_them_out() -> None:
    policies = Policies({"a.*": {"expiry": 5.0}}, capacity=7, lane_capacity=3)
    _, policy = policies.find("a.b")
    assert (policy.capacity, policy.expiry, policy.lane_capacity) == (7, 5.0, 3)
    _, policy = policies.find("b")
    assert (policy.capacity, policy.expiry) == (7, 60.0)
    _, policy = policies.find("websocket.receive")
    assert (policy.capacity, policy.ordering) == (7, "reply_channel")


def test_the_first_pattern_that_matches_applies() -> None:
    policies = Policies({"a.b": {"capacity": 1}, "a.*": {"capacity": 2}, "*": {"capacity": 3}})
    assert [policies.find(name)[1].capacity for name in ("a.b", "a.c", "c")] == [1, 2, 3]


def test_ones_own_patterns_come_before_the_built_in() -> None:
    assert Policies().find("websocket.receive")[0] == "websocket.*"
    policies = Policies({"websocket.receive": {"capacity": 5}})
    pattern, policy = policies.find("websocket.receive")
    assert (pattern, policy.capacity, policy.ordering) == ("websocket.*", 5, "reply_channel")
    assert policies.find("websocket.connect") == Policies().find("websocket.connect")


def test_a_built_in_order_is_kept_unless_a_pattern_says_otherwise() -> None:
    assert Policies({"*": {"capacity": 5}}).find("websocket.connect")[1].ordering is not None
    policies = Policies({"websocket.receive": {"ordering": None}})
    assert policies.find("websocket.receive")[1].ordering is None
    policies = Policies({"websocket.receive": {"ordering": "path"}})
    pattern, policy = policies.find("websocket.receive")
    assert (pattern, policy.ordering) == ("websocket.receive", "path")


@pytest.mark.parametrize(
    ("channel", "field", "value"),
    [
        ("websocket.connect", "ordering", "reply_channel"),
        ("http.request.body?abc", "capacity", 8),
        ("http.request.body?abc", "expiry", 3600.0),
        ("http.ack?abc", "expiry", 600.0),
        ("web.reply.abc!1", "capacity", 2000),
        ("http.request", "ordering", None),
    ],
)
def test_the_built_in_policies_apply(channel: str, field: str, value: object) -> None:
    assert getattr(Policies().find(channel)[1], field) == value


def test_every_built_in_policy_can_be_reached() -> None:
    names = {"websocket.*": "websocket.x", "http.request.body*": "http.request.body?x"}
    names |= {"http.ack*": "http.ack?x", "web.*!": "web.x!y"}
    names["busway.session?"] = "busway.session?x"
    names["busway.session.new?"] = "busway.session.new?x"
    assert {Policies().find(names[pattern])[0] for pattern in DEFAULT_POLICIES} == set(
        DEFAULT_POLICIES
    )


def test_globs_match_whole_names_and_case() -> None:
    policies = Policies({"a.?": {"capacity": 1}, "[bc]x": {"capacity": 2}})
    found = [policies.find(name)[0] for name in ("a.b", "a.bc", "xa.b", "A.b", "bx", "dx")]
    assert found == ["a.?", "", "", "", "[bc]x", ""]


def test_regular_expressions_match_from_the_beginning() -> None:
    policies = Policies({re.compile(r"a\.\d+$"): {"capacity": 1}})
    assert [policies.find(name)[1].capacity for name in ("a.12", "a.12b", "xa.1")] == [1, 100, 100]


def test_random_parts_do_not_matter() -> None:
    policies = Policies({"*secret*": {"capacity": 1}})
    assert policies.find("plain?secret")[0] == ""
    assert policies.find("secret?plain")[0] == "*secret*"


def test_a_policy_object_serves_as_well_as_its_fields() -> None:
    policies = Policies(
        {"a": Policy(capacity=3, ordering="key"), "b": {"delivery": "at-least-once"}}
    )
    assert policies.find("a")[1] == Policy(capacity=3, ordering="key")
    assert policies.find("b")[1].delivery is DeliveryPromise.AT_LEAST_ONCE


def test_many_names_do_not_fill_the_memory() -> None:
    policies = Policies({"n.1*": {"capacity": 1}})
    for n in range(25_000):
        assert policies.find(f"n.{n}")[1].capacity == (1 if str(n).startswith("1") else 100)
    assert len(policies._found) <= 10_000


def test_all_policies_are_listed() -> None:
    policies = Policies({"a": {"capacity": 1}}, capacity=2)
    assert [each.capacity for each in policies.all()] == [2, 1, 2, 8, 2, 2000, 2, 1]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"capcity": 1}, "capcity.*known are capacity"),
        ({"capacity": 0}, "capacity is 0, expected at least 1"),
        ({"capacity": "1"}, "Expected `int`"),
        ({"capacity": True}, "Expected `int`"),
        ({"lane_capacity": -1}, "lane_capacity is -1"),
        ({"max_attempts": 0}, "max_attempts is 0"),
        ({"expiry": 0}, "expiry is 0"),
        ({"expiry": float("nan")}, "expiry is nan"),
        ({"expiry": float("inf")}, "expiry is inf"),
        ({"lease": -1.0}, "lease is -1"),
        ({"delivery": "twice"}, "Invalid enum value 'twice'"),
        ({"ordering": 7}, "Expected `str | null`"),
    ],
)
def test_a_mistake_is_named(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        Policies(**fields)
    with pytest.raises(ConfigurationError, match=r"the pattern 'a\.\*'") as caught:
        Policies({"a.*": fields})
    assert re.search(text.replace("`", "."), str(caught.value))


@pytest.mark.parametrize("pattern", [7, None, b"a"])
def test_a_pattern_is_text_or_a_regular_expression(pattern: Any) -> None:
    with pytest.raises(ConfigurationError):
        Policies({pattern: {"capacity": 1}})


def test_a_mistake_in_a_policy_object_is_named_too() -> None:
    with pytest.raises(ConfigurationError, match="capacity is 0"):
        Policies({"a": Policy(capacity=0)})
