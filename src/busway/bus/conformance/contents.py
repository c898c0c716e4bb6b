"""What a message may hold, that it arrives as it was, and that nobody shares it."""

from collections import OrderedDict
from datetime import datetime
from decimal import Decimal
from enum import IntEnum
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from busway.bus.conformance.harness import Bus, Topic, label
from busway.bus.conformance.peers import PATIENCE
from busway.bus.errors import InvalidMessage, MessageTooLarge, UsageError
from busway.bus.operations import GroupSend, Send


class _Text(str):
    __slots__ = ()


class _Number(IntEnum):
    ONE = 1


class _Pair(NamedTuple):
    left: int
    right: int


MESSAGES = st.dictionaries(
    st.text(),
    st.recursive(
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(-(2**63), 2**63 - 1),
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(),
            st.binary(),
        ),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    ),
)
"""Messages that may cross the bus: a hypothesis strategy."""

VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    2**63 - 1,
    -(2**63),
    2**53 + 1,
    0.0,
    -0.0,
    1.5,
    1.0,
    5e-324,
    1.7976931348623157e308,
    "",
    "text",
    "ünï¢ødé \N{GRINNING FACE} \x00 \n",
    b"",
    b"bytes",
    bytes(range(256)),
    [],
    {},
    [None, True, 1, 1.5, "t", b"b", [[]], {}],
    {"": {"a b": [{"c": b"\xff"}]}, "\N{SNOWMAN}": None},
    [["name", "value"], [b"name", b"value"]],
]

REFUSED: list[tuple[Any, str]] = [
    ({"a": 2**63}, "message['a']"),
    ({"a": -(2**63) - 1}, "message['a']"),
    ({"a": float("nan")}, "message['a']"),
    ({"a": float("inf")}, "message['a']"),
    ({"a": [0, -float("inf")]}, "message['a'][1]"),
    ({"a": {1, 2}}, "message['a']"),
    ({"a": object()}, "message['a']"),
    ({"a": bytearray(b"x")}, "message['a']"),
    ({"a": memoryview(b"x")}, "message['a']"),
    ({"a": Decimal(1)}, "message['a']"),
    ({"a": datetime(2020, 1, 1)}, "message['a']"),  # noqa: DTZ001
    ({"a": _Number.ONE}, "message['a']"),
    ({"a": _Pair(1, 2)}, "message['a']"),
    ({"a": OrderedDict()}, "message['a']"),
    ({"a": {"b": [{"c": 1j}]}}, "message['a']['b'][0]['c']"),
    ({"a": ({"b": 1j},)}, "message['a'][0]['b']"),
    ({"a": {1: 2}}, "message['a']"),
    ({1: 2}, "message"),
    ({b"a": 2}, "message"),
    ({None: 2}, "message"),
    ({"a": "\ud800"}, "message['a']"),
    ({"a": {"\udfff": 1}}, "message['a']"),
    (None, "message"),
    ([], "message"),
    ("text", "message"),
    (b"bytes", "message"),
    ([("a", 1)], "message"),
]


def exact(value: Any) -> Any:
    """Return `value` with the types of everything in it, so that 1, 1.0 and True differ."""
    if isinstance(value, dict):
        return dict, {key: exact(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value), [exact(inner) for inner in value]
    return type(value), repr(value)


class Contents(Topic):
    """A message arrives as it was sent, or is refused with a reason."""

    @pytest.mark.parametrize("value", VALUES, ids=label)
    def test_values_arrive_as_they_were(self, bus: Bus, value: Any) -> None:
        layer = bus.layer()
        message = {"value": value, "in a list": [value], "in a dict": {"x": value}}
        layer.send("typed", message)
        assert exact(layer.next_message("typed")) == exact(message)

    def test_any_message_arrives_as_it_was(self, one_bus: Bus) -> None:
        layer = one_bus.layer()

        @settings(deadline=None)
        @given(MESSAGES)
        def check(message: dict[str, Any]) -> None:
            layer.send("typed", message)
            assert exact(layer.next_message("typed")) == exact(message)

        check()

    def test_an_empty_message_arrives(self, bus: Bus) -> None:
        layer = bus.layer()
        layer.send("typed", {})
        assert layer.receive("typed") == ("typed", {})

    def test_tuples_arrive_as_lists(self, bus: Bus) -> None:
        layer = bus.layer()
        layer.send("typed", {"a": (1, ("b", [b"c", ()]))})
        assert exact(layer.next_message("typed")) == exact({"a": [1, ["b", [b"c", []]]]})

    def test_subclasses_of_str_arrive_as_str(self, bus: Bus) -> None:
        layer = bus.layer()
        layer.send("typed", {"a": _Text("b"), "in": [_Text("c")], "under": {"d": _Text("e")}})
        expected = {"a": "b", "in": ["c"], "under": {"d": "e"}}
        assert exact(layer.next_message("typed")) == exact(expected)

    def test_subclasses_of_str_pass_wherever_text_does(self, bus: Bus) -> None:
        layer = bus.layer()
        message = {"reply_channel": _Text("b"), "in": [_Text("c")]}
        expected = exact({"reply_channel": "b", "in": ["c"]})
        for channel in ("typed", "websocket.receive", "proc.x!a"):
            layer.group_add(_Text("group"), _Text(channel))
            layer.send(_Text(channel), message)
            layer.send(_Text(channel), message, delay=0.001)
            layer.group_send(_Text("group"), message)
            layer.group_discard(_Text("group"), _Text(channel))
            read = "proc.x!" if channel == "proc.x!a" else channel
            for _ in range(3):
                found, received = layer.receive(_Text(read), timeout=PATIENCE)
                assert exact(found) == exact(channel)
                assert exact(received) == expected

    def test_text_that_no_encoding_has_is_no_key_of_a_lane(self, bus: Bus) -> None:
        layer = bus.layer()
        for delay in (0.0, 60.0):
            with pytest.raises(InvalidMessage) as caught:
                layer.send("websocket.receive", {"reply_channel": "\ud800"}, delay=delay)
            assert caught.value.where == "message['reply_channel']"

    def test_the_order_of_keys_is_kept(self, bus: Bus) -> None:
        layer = bus.layer()
        layer.send("typed", {"z": 1, "a": 2, "m": 3})
        assert list(layer.next_message("typed")) == ["z", "a", "m"]

    @pytest.mark.parametrize(("message", "where"), REFUSED, ids=label)
    def test_everything_else_is_refused_with_the_place_where_it_stands(
        self, bus: Bus, message: Any, where: str
    ) -> None:
        layer = bus.layer()
        layer.group_add("group", "typed")
        with pytest.raises(InvalidMessage) as caught:
            layer.send("typed", message)
        assert where in caught.value.where
        assert isinstance(caught.value, UsageError)
        with pytest.raises(InvalidMessage):
            layer.group_send("group", message)
        assert layer.receive("typed") == (None, None)

    def test_nesting_without_end_is_refused(self, bus: Bus) -> None:
        layer = bus.layer()
        endless: list[Any] = []
        endless.append(endless)
        deep: dict[str, Any] = {}
        for _ in range(100_000):
            deep = {"in": deep}
        for value in (endless, deep):
            with pytest.raises(InvalidMessage):
                layer.send("typed", {"a": value})

    def test_forty_levels_of_nesting_arrive(self, bus: Bus) -> None:
        layer = bus.layer()
        value: Any = 1
        for level in range(40):
            value = [value] if level % 2 else {"in": value}
        layer.send("typed", {"a": value})
        assert layer.next_message("typed") == {"a": value}


class Size(Topic):
    """A message over the limit is refused, with both sizes in the error."""

    def test_a_message_over_the_limit_is_refused(self, bus: Bus) -> None:
        layer = bus.layer(message_size=1000)
        layer.send("big", {"a": b"x" * 900})
        with pytest.raises(MessageTooLarge) as caught:
            layer.send("big", {"a": b"x" * 1001})
        assert caught.value.channel == "big"
        assert caught.value.limit == 1000
        assert 1001 < caught.value.size < 1101
        assert [len(each["a"]) for each in layer.drain("big")] == [900]

    def test_a_group_message_over_the_limit_is_refused(self, bus: Bus) -> None:
        layer = bus.layer(message_size=1000)
        layer.group_add("group", "big")
        layer.group_add("group", "proc.x!big")
        with pytest.raises(MessageTooLarge):
            layer.group_send("group", {"a": b"x" * 1001})
        assert layer.receive("big", "proc.x!") == (None, None)

    def test_text_counts_as_encoded(self, bus: Bus) -> None:
        layer = bus.layer(message_size=1000)
        with pytest.raises(MessageTooLarge):
            layer.send("big", {"a": "ä" * 501})

    def test_a_megabyte_goes_through_by_default(self, bus: Bus) -> None:
        layer = bus.layer()
        content = bytes(range(256)) * 4000
        layer.send("big", {"a": content})
        assert layer.next_message("big")["a"] == content
        with pytest.raises(MessageTooLarge):
            layer.send("big", {"a": bytes(1024 * 1024)})


class Isolation(Topic):
    """Whoever changes a message changes nobody else's."""

    def test_changing_a_message_after_sending_it_changes_nothing(self, bus: Bus) -> None:
        layer = bus.layer()
        message: dict[str, Any] = {"list": [1, {"x": 1}]}
        layer.send("apart", message)
        message["list"][1]["x"] = 2
        message["new"] = True
        assert layer.next_message("apart") == {"list": [1, {"x": 1}]}

    def test_two_sends_of_one_message_arrive_apart(self, bus: Bus) -> None:
        layer = bus.layer()
        reader = layer.reader()
        message: dict[str, Any] = {"list": []}
        reader.exchange([Send("apart", message), Send("apart", message)])
        first = layer.next_message("apart")
        first["list"].append(1)
        assert layer.next_message("apart") == {"list": []}

    def test_members_of_a_group_get_messages_of_their_own(self, bus: Bus) -> None:
        layer = bus.layer()
        members = ["plain", "one?x", "proc.x!a", "proc.x!b", "proc.y!c"]
        for member in members:
            layer.group_add("group", member)
        message: dict[str, Any] = {"list": []}
        layer.group_send("group", message)
        message["list"].append("sender")
        got = set()
        for _ in members:
            channel, found = layer.receive("plain", "one?x", "proc.x!", "proc.y!")
            assert found == {"list": []}
            found["list"].append(channel)
            got.add(channel)
        assert got == set(members)

    def test_two_group_messages_arrive_apart(self, bus: Bus) -> None:
        layer = bus.layer()
        reader = layer.reader()
        layer.group_add("group", "proc.x!a")
        message: dict[str, Any] = {"list": []}
        reader.exchange([GroupSend("group", message), GroupSend("group", message)])
        first, second = reader.take("proc.x!")
        first.message["list"].append(1)
        assert second.message == {"list": []}
