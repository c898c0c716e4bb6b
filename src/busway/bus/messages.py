"""What a message may hold.

A message is a dict with text keys. Values are None, bool, int (signed 64-bit), float (finite),
str, bytes, and lists and dicts of these; tuples arrive as lists. The same list stands in the
ASGI specification (version 1, "Applications / Messages").
"""

import reprlib
from collections.abc import Mapping
from math import isfinite
from typing import Any, NoReturn

from busway.bus.errors import InvalidMessage

Message = Mapping[str, Any]

MAX_DEPTH = 64
"""Deepest nesting of lists and dicts."""

# By `type`, for a lazy object pretends to have the class of what it stands for.
_PLAIN = frozenset((str, bytes, bool, type(None)))
_MIN_INT, _MAX_INT = -(2**63), 2**63 - 1
_EXPECTED = "None, bool, int, float, str, bytes, or lists and dicts of them"


def check_message(message: Message) -> None:
    """Raise `InvalidMessage` when `message` holds something that cannot cross the bus."""
    if not isinstance(message, dict):
        raise InvalidMessage("the message", _describe(message), "a dict with text keys")
    for key, value in message.items():
        if type(key) is not str or type(value) not in _PLAIN:
            _check_dict(message, "message", 0)
            return


def isolate(message: Message) -> dict[str, Any]:
    """Return a copy of `message` that nobody else can change; raises as `check_message` does."""
    if type(message) is dict:
        for key, value in message.items():
            if type(key) is not str or type(value) not in _PLAIN:
                break
        else:
            return message.copy()  # nothing in it can change
    check_message(message)
    return {key: value if type(value) in _PLAIN else _copy(value) for key, value in message.items()}


def _copy(value: Any) -> Any:
    """Return a copy of a part of a checked message: only these have parts that can change."""
    kind = type(value)
    if kind is dict:
        return {k: v if type(v) in _PLAIN else _copy(v) for k, v in value.items()}
    if kind is list:
        return [v if type(v) in _PLAIN else _copy(v) for v in value]
    if kind is tuple:
        return tuple(map(_copy, value))
    return value


def _check_dict(found: dict[Any, Any], where: str, depth: int) -> None:
    for key, value in found.items():
        if type(key) is not str:
            raise InvalidMessage(f"a key of {where}", _describe(key), "text")
        if type(value) not in _PLAIN:
            _check_value(value, where, key, depth)


def _check_value(  # noqa: C901  (one branch a type)
    value: object, where: str, key: object, depth: int
) -> None:
    kind = type(value)
    if kind is int:
        if not _MIN_INT <= value <= _MAX_INT:  # type: ignore[operator]
            _refuse(value, where, key, "an int in the signed 64-bit range")
    elif kind is float:
        if not isfinite(value):  # type: ignore[arg-type]
            _refuse(value, where, key, "a finite float")
    elif depth == MAX_DEPTH:
        _refuse(value, where, key, f"at most {MAX_DEPTH} levels of nesting")
    elif kind is dict:
        _check_dict(value, f"{where}[{key!r}]", depth + 1)  # type: ignore[arg-type]
    elif kind is list or kind is tuple:
        inner = f"{where}[{key!r}]"
        for index, item in enumerate(value):  # type: ignore[arg-type,var-annotated]
            if type(item) not in _PLAIN:
                _check_value(item, inner, index, depth + 1)
    elif not issubclass(kind, str):
        _refuse(value, where, key, _EXPECTED)


def _refuse(value: object, where: str, key: object, expected: str) -> NoReturn:
    raise InvalidMessage(f"{where}[{key!r}]", _describe(value), expected)


def check_text(found: object, where: str = "message") -> None:
    """Raise `InvalidMessage` for text in a message that no encoding has: lone surrogates.

    For a message that turned out not to be encodable, to say where.
    """
    if isinstance(found, str):
        try:
            found.encode()
        except UnicodeEncodeError:
            raise InvalidMessage(where, f"text with a lone surrogate, {found!a}", "text") from None
    elif isinstance(found, dict):
        for key, value in found.items():
            check_text(key, f"a key of {where}")
            check_text(value, f"{where}[{key!r}]")
    elif isinstance(found, list | tuple):
        for index, value in enumerate(found):
            check_text(value, f"{where}[{index}]")


def _describe(value: object) -> str:
    return f"{type(value).__name__} {reprlib.repr(value)}"
