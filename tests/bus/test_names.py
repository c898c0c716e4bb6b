"""The grammar of names."""

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from busway.bus import names
from busway.bus.errors import InvalidName

WORD = st.text("abcXYZ019-_.", min_size=1, max_size=40)
NORMAL = WORD
SINGLE = st.builds("{}?{}".format, WORD, WORD)
SPECIFIC = st.builds("{}!{}".format, WORD, WORD)
PREFIX = st.builds("{}!".format, WORD)

CHECKS: list[Callable[[object], None]] = [
    names.check_channel,
    names.check_group,
    names.check_receivable,
]


def accepts(check: Callable[[object], None], name: object) -> bool:
    """Return whether `check` lets `name` pass."""
    try:
        check(name)
    except InvalidName:
        return False
    return True


@given(NORMAL)
def test_a_normal_name_is_good_for_everything(name: str) -> None:
    assert all(accepts(check, name) for check in CHECKS)


@given(SINGLE)
def test_a_single_reader_channel_is_sent_to_and_read_by_its_full_name(name: str) -> None:
    assert [accepts(check, name) for check in CHECKS] == [True, False, True]


@given(SPECIFIC)
def test_a_process_specific_channel_is_sent_to_by_its_full_name(name: str) -> None:
    assert [accepts(check, name) for check in CHECKS] == [True, False, False]


@given(PREFIX)
def test_a_prefix_is_only_read(name: str) -> None:
    assert [accepts(check, name) for check in CHECKS] == [False, False, True]


@given(WORD)
def test_half_a_single_reader_name_is_good_for_nothing(word: str) -> None:
    assert not any(accepts(check, f"{word}?") for check in CHECKS)


@given(st.text(max_size=12))
def test_what_passes_is_exactly_the_grammar(name: str) -> None:
    word = "[A-Za-z0-9_.-]+"
    assert accepts(names.check_channel, name) == bool(re.fullmatch(f"{word}([?!]{word})?", name))
    assert accepts(names.check_group, name) == bool(re.fullmatch(word, name))


@pytest.mark.parametrize("check", CHECKS)
def test_ninety_nine_characters_are_the_most(check: Callable[[object], None]) -> None:
    assert accepts(check, "x" * 99)
    assert not accepts(check, "x" * 100)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", [None, 7, b"name", ["name"], {"name": 1}, ("name",)])
def test_what_is_no_text_is_no_name(check: Callable[[object], None], name: object) -> None:
    with pytest.raises(InvalidName) as caught:
        check(name)
    assert caught.value.name == name


@given(WORD, WORD)
def test_messages_queue_under_the_prefix_or_the_name(word: str, local: str) -> None:
    assert names.address(f"{word}!{local}") == f"{word}!"
    assert names.address(f"{word}!") == f"{word}!"
    assert names.address(f"{word}?{local}") == f"{word}?{local}"
    assert names.address(word) == word


@given(WORD, WORD)
def test_policies_see_names_without_their_random_part(word: str, local: str) -> None:
    assert names.family(f"{word}!{local}") == f"{word}!"
    assert names.family(f"{word}?{local}") == f"{word}?"
    assert names.family(word) == word


@pytest.mark.parametrize("pattern", ["reply?", "web.reply.abc!"])
def test_new_channels_can_be_sent_to_and_are_never_the_same(pattern: str) -> None:
    found = {names.new_channel(pattern) for _ in range(1000)}
    assert len(found) == 1000
    for name in found:
        names.check_channel(name)
        assert name.startswith(pattern)


def test_a_pattern_that_leaves_no_room_for_the_random_part_is_refused() -> None:
    with pytest.raises(InvalidName):
        names.new_channel("x" * 95 + "?")


def test_new_prefixes_can_be_read_and_are_never_the_same() -> None:
    found = {names.new_process_prefix("web.reply") for _ in range(1000)}
    assert len(found) == 1000
    for prefix in found:
        names.check_receivable(prefix)
        assert re.fullmatch(r"web\.reply\.[A-Za-z0-9_-]{12}!", prefix)


@pytest.mark.parametrize("name", ["web!", "web?x", "a b", "x" * 99])
def test_prefixes_are_made_of_plain_names_that_leave_room(name: str) -> None:
    with pytest.raises(InvalidName):
        names.new_process_prefix(name)
