r"""Filters of routes: regular expressions, and paths with converters.

A filter is a regular expression, matched at the beginning of a value; its named groups become
keyword arguments. A filter that holds `<name>` or `<converter:name>` is a path with converters
instead: `/chat/<slug:room>/`. Everything else in it is literal, and the whole value has to match.
The `<` of a regular expression's own syntax, `(?P<name>`, `(?<=` and `(?<!`, does not count, and
`\<` in a regular expression is a plain "<".
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn
from uuid import UUID

from busway.bus.errors import ConfigurationError


class Converter(NamedTuple):
    """One kind of part in a path: what its text looks like, and what it becomes."""

    regex: str
    convert: Callable[[str], Any] | None = None
    """Raises ValueError for text that is no such value after all; None: the text stays text."""


CONVERTERS: Mapping[str, Converter] = {
    "str": Converter(r"[^/]+"),
    "int": Converter(r"[0-9]+", int),
    "slug": Converter(r"[-a-zA-Z0-9_]+"),
    "uuid": Converter(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", UUID),
    "path": Converter(r".+"),
}
"""By their names in `<converter:name>`; `<name>` is a "str"."""

_PART = re.compile(r"(?<![?\\])(?<!\?P)<(?:(?P<converter>[^<>:\s]*):)?(?P<name>[A-Za-z_]\w*)>")


class Filter:
    """One compiled filter."""

    __slots__ = ("_conversions", "_match", "key", "names", "source")

    def __init__(self, key: str, source: str, *, prefix: bool) -> None:
        """Compile `source`, for the values of the message key `key`.

        With `prefix`, it is to match the beginning of a value, and the rest is matched by others.
        Raises `ConfigurationError` when it cannot be compiled.
        """
        self.key = key
        self.source = source
        self._conversions: list[tuple[str, Callable[[str], Any]]] = []
        try:
            if _PART.search(source):
                pattern = re.compile(self._translate(), re.DOTALL)
                self._match = pattern.match if prefix else pattern.fullmatch
            else:
                pattern = re.compile(source)
                self._match = pattern.match
        except re.error as error:
            raise ConfigurationError(
                f"the filter {key}={source!r} is not a regular expression: {error}"
            ) from None
        if prefix and re.search(r"(?<!\\)(?:\\\\)*(?:\$|\\Z)$", source):
            raise ConfigurationError(
                f"the filter {key}={source!r} of an include ends with {source[-1]!r}: it matches "
                "a prefix, so nothing would be left for the routes inside; leave the end off"
            )
        self.names = frozenset(pattern.groupindex)
        """The keyword arguments that it makes."""

    def match(self, text: str, arguments: dict[str, Any]) -> int:
        """Match `text` and add to `arguments`. Returns how much of it matched, or -1.

        Named groups that took no part add no argument.
        """
        found = self._match(text)
        if found is None:
            return -1
        if self.names:
            named = found.groupdict()
            if None in named.values():
                named = {name: part for name, part in named.items() if part is not None}
            for name, convert in self._conversions:
                try:
                    named[name] = convert(named[name])
                except ValueError:  # an int of thousands of digits
                    return -1
            arguments.update(named)
        return found.end()

    def _translate(self) -> str:
        """Return the regular expression of a path with converters."""
        pieces: list[str] = []
        names: set[str] = set()
        end = 0
        if "(?" in self.source:
            self._refuse("it mixes <parts> with a regular expression; write it as one or the other")
        for part in _PART.finditer(self.source):
            name, kind = part["name"], part["converter"]
            converter = CONVERTERS.get("str" if kind is None else kind)
            if converter is None:
                known = ", ".join(CONVERTERS)
                self._refuse(f"{part[0]} names no converter; known are {known}")
            if name in names:
                self._refuse(f"{name!r} stands in it twice")
            names.add(name)
            if converter.convert:
                self._conversions.append((name, converter.convert))
            pieces += re.escape(self.source[end : part.start()]), f"(?P<{name}>{converter.regex})"
            end = part.end()
        pieces.append(re.escape(self.source[end:]))
        return "".join(pieces)

    def _refuse(self, why: str) -> NoReturn:
        raise ConfigurationError(f"the filter {self.key}={self.source!r}: {why}")


def text_of(value: Any) -> str | None:
    """Return the text that filters see of a message's value; None: they match nothing.

    Text is seen as it is, bytes as UTF-8, and numbers in decimal.
    """
    if value.__class__ is str:
        text: str = value
        return text
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return str(value) if isinstance(value, (int, float)) else None
