"""What a message may hold, and how a refusal says where."""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from busway.bus.conformance.contents import MESSAGES
from busway.bus.errors import InvalidMessage
from busway.bus.messages import MAX_DEPTH, check_message, isolate

REFUSED = st.sampled_from([1j, object(), {1}, bytearray(), 2**63, float("nan"), float("-inf")])


@given(MESSAGES)
def test_everything_of_the_list_passes(message: dict[str, Any]) -> None:
    check_message(message)


@given(MESSAGES, REFUSED, st.lists(st.booleans(), max_size=10))
def test_a_refusal_names_the_place(
    message: dict[str, Any], wrong: object, nesting: list[bool]
) -> None:
    value, path = wrong, ""
    for in_list in nesting:
        value, path = ([0, value], "[1]" + path) if in_list else ({"k": value}, "['k']" + path)
    message = {**message, "wrong": value}
    with pytest.raises(InvalidMessage) as caught:
        check_message(message)
    assert caught.value.where == "message['wrong']" + path


@pytest.mark.parametrize("key", [1, None, b"a", ("a",), 1.5, True])
def test_a_refusal_names_the_dict_whose_key_is_no_text(key: object) -> None:
    with pytest.raises(InvalidMessage) as caught:
        check_message({"a": [{key: 1}]})
    assert caught.value.where == "a key of message['a'][0]"
    assert repr(key) in caught.value.found


@pytest.mark.parametrize("message", [None, [], "text", 7, [("a", 1)], b""])
def test_a_message_is_a_dict(message: Any) -> None:
    with pytest.raises(InvalidMessage, match=r"the message is .* expected a dict"):
        check_message(message)


def nested(levels: int, kind: type) -> Any:
    """Return so many lists or dicts in each other."""
    value: Any = 1
    for _ in range(levels):
        value = [value] if kind is list else {"in": value}
    return value


@pytest.mark.parametrize("kind", [list, dict])
def test_nesting_has_a_limit(kind: type) -> None:
    check_message({"a": nested(MAX_DEPTH, kind)})
    with pytest.raises(InvalidMessage, match=f"at most {MAX_DEPTH} levels"):
        check_message({"a": nested(MAX_DEPTH + 1, kind)})


class Lazy:
    """Pretends to be the text that it stands for, as lazy objects of frameworks do."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return str


@pytest.mark.parametrize("message", [{"a": Lazy()}, {"a": [Lazy()]}, {"a": {"b": Lazy()}}])
def test_what_only_pretends_to_be_text_is_refused(message: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage):
        check_message(message)
    with pytest.raises(InvalidMessage):
        isolate(message)


def test_the_text_of_a_refusal_stays_short() -> None:
    with pytest.raises(InvalidMessage) as caught:
        check_message({"a": {"x" * 10_000}})
    assert len(str(caught.value)) < 200


@given(MESSAGES)
def test_a_copy_is_equal_and_shares_nothing_that_can_change(message: dict[str, Any]) -> None:
    before = deepcopy(message)
    copy = isolate(message)
    assert copy == message
    spoil(copy)
    assert message == before


def spoil(value: Any) -> None:
    """Change everything in `value` that can be changed."""
    if isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            spoil(part)
    if isinstance(value, dict | list):
        value.clear()


def test_what_cannot_cross_the_bus_is_not_copied() -> None:
    with pytest.raises(InvalidMessage):
        isolate({"a": [{1}]})
