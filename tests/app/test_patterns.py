"""Filters: regular expressions and paths with converters."""

import re
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from busway.app.patterns import Filter, text_of
from busway.bus.errors import ConfigurationError


def match(source: str, text: str, *, prefix: bool = False) -> tuple[int, dict[str, Any]] | None:
    arguments: dict[str, Any] = {}
    end = Filter("path", source, prefix=prefix).match(text, arguments)
    return None if end < 0 else (end, arguments)


class TestRegularExpressions:
    def test_they_match_at_the_beginning(self) -> None:
        assert match("/chat", "/chat/room") == (5, {})
        assert match("chat", "/chat/") is None
        assert match(r"^/chat/$", "/chat/room") is None

    def test_named_groups_become_arguments(self) -> None:
        assert match(r"^/(?P<room>\w+)/(?P<n>\d+)$", "/lobby/7") == (8, {"room": "lobby", "n": "7"})

    def test_named_groups_that_took_no_part_are_left_out(self) -> None:
        assert match(r"^/(?P<room>\w+)?$", "/") == (1, {})

    @pytest.mark.parametrize(
        "source", [r"(?P<a>x)", r"(?<=x)y", r"(?<!x)y", r"a<b", r"\<html>", r"(?P<a>\w)(?P=a)"]
    )
    def test_their_own_angle_brackets_make_no_path(self, source: str) -> None:
        assert Filter("text", source, prefix=False).names == frozenset(
            re.compile(source).groupindex
        )
        assert match(source, "<<nothing>>") is None

    def test_an_escaped_angle_bracket_is_one(self) -> None:
        assert match(r"\<html>", "<html>") == (6, {})

    def test_a_bad_one_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match=r"path='\(' is not a regular expression"):
            Filter("path", "(", prefix=False)


class TestPaths:
    def test_parts_become_arguments_of_their_types(self) -> None:
        uuid = "075194d3-6885-417e-a8a8-6c931e272f00"
        path = "/<room>/<int:n>/<slug:s>/<uuid:u>/<path:rest>"
        assert match(path, f"/lobby/07/a-b_c/{uuid}/x/y") == (
            len(f"/lobby/07/a-b_c/{uuid}/x/y"),
            {"room": "lobby", "n": 7, "s": "a-b_c", "u": UUID(uuid), "rest": "x/y"},
        )

    @pytest.mark.parametrize(
        ("source", "text"),
        [
            ("/<int:n>/", "/x/"),
            ("/<int:n>/", "/-1/"),
            ("/<int:n>/", "/٣/"),
            ("/<slug:s>/", "/a.b/"),
            ("/<str:s>/", "//"),
            ("/<str:s>/", "/a/b/"),
            ("/<uuid:u>/", "/075194D3-6885-417E-A8A8-6C931E272F00/"),
            ("/<path:p>", "/"),
        ],
    )
    def test_other_values_do_not_match(self, source: str, text: str) -> None:
        assert match(source, text) is None

    def test_the_whole_value_has_to_match(self) -> None:
        assert match("/<int:n>", "/1/2") is None
        assert match("/<int:n>", "/1\n") is None
        assert match("/<int:n>", "x/1") is None

    def test_a_prefix_leaves_the_rest(self) -> None:
        assert match("/<slug:team>", "/red/chat/", prefix=True) == (4, {"team": "red"})

    def test_all_else_is_literal(self) -> None:
        assert match("/a.b(c)*/<int:n>", "/a.b(c)*/1") == (10, {"n": 1})
        assert match("/a.b(c)*/<int:n>", "/aXb(c)*/1") is None

    def test_an_int_too_long_for_python_does_not_match(self) -> None:
        assert match("/<int:n>", "/" + "9" * 5000) is None

    def test_an_unknown_converter_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="<date:d> names no converter; known are str"):
            Filter("path", "/<date:d>/", prefix=False)

    def test_a_mixture_with_regular_expressions_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="one or the other"):
            Filter("path", r"^/(?P<room>\w+)/<int:n>/$", prefix=False)

    def test_a_name_used_twice_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="'a' stands in it twice"):
            Filter("path", "/<a>/<int:a>/", prefix=False)

    @given(st.from_regex(r"[-a-zA-Z0-9_]+", fullmatch=True), st.integers(0, 10**30))
    def test_what_was_put_in_comes_out(self, slug: str, number: int) -> None:
        path = f"/{slug}/{number}"
        assert match("/<slug:s>/<int:n>", path) == (len(path), {"s": slug, "n": number})


class TestPrefixes:
    @pytest.mark.parametrize("source", ["^/chat$", r"^/chat\Z", r"^/chat\\$"])
    def test_an_end_is_refused(self, source: str) -> None:
        with pytest.raises(ConfigurationError, match="leave the end off"):
            Filter("path", source, prefix=True)

    def test_an_escaped_dollar_is_no_end(self) -> None:
        assert match(r"^/price\$", "/price$9", prefix=True) == (7, {})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("é", "é"),
        ("é".encode(), "é"),
        (b"\xff", "\ufffd"),
        (1000, "1000"),
        (1.5, "1.5"),
        (None, None),
        (["a"], None),
        ({}, None),
    ],
)
def test_the_text_that_filters_see(value: Any, text: str | None) -> None:
    assert text_of(value) == text
