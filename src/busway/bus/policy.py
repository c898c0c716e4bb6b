"""How a channel behaves: capacity, expiry, delivery, ordering; set per pattern of its name."""

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from fnmatch import translate
from math import inf
from typing import Any, NamedTuple

import msgspec

from busway.bus.errors import ConfigurationError
from busway.bus.names import family


class DeliveryPromise(StrEnum):
    """What happens to a message whose receiver dies."""

    AT_MOST_ONCE = "at-most-once"
    AT_LEAST_ONCE = "at-least-once"


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rules of the channels that match one pattern."""

    capacity: int = 100
    """Messages that may wait in one channel (for process-specific ones: in one prefix)."""

    expiry: float = 60.0
    """Seconds that a message may wait before it is dropped, and counted."""

    delivery: DeliveryPromise = DeliveryPromise.AT_MOST_ONCE
    """Whether a message is handed out again when its receiver dies or its lease ends."""

    lease: float = 60.0
    """Seconds a receiver has for one message, with at-least-once."""

    max_attempts: int = 5
    """How often a message is handed out before it goes to the dead-letter channel."""

    dead_letter: str | None = None
    """Channel for messages that were given up; None: they are dropped and counted."""

    ordering: str | None = None
    """Message key whose value names the lane: messages of one lane are handled in the order
    they were sent and one at a time, whoever receives them. None: no lanes."""

    lane_capacity: int = 20
    """Messages that may wait in one lane behind the one that is being handled."""


DEFAULT_POLICIES: Mapping[str, Mapping[str, Any]] = {
    "websocket.*": {"ordering": "reply_channel"},
    # The capacity is the window: so many chunks of a body are under way at once. They wait for a
    # consumer that may be slow, and one that expires spoils the whole.
    "http.request.body*": {"capacity": 8, "expiry": 3600.0},
    # Acknowledgements wait for a consumer that may take its time between two chunks.
    "http.ack*": {"expiry": 600.0},
    # One prefix serves every connection of an interface server.
    "web.*!": {"capacity": 2000},
    # State that is kept as a message: while it is replaced the new one waits behind the old one.
    # Two weeks are the age that Django gives its sessions.
    "busway.session?": {"capacity": 2, "expiry": 1_209_600.0},
    "busway.session.new?": {"capacity": 1, "expiry": 10.0},
}
"""Policies that every layer starts with; what a user's pattern says counts before them."""


class _Rule(NamedTuple):
    """What one pattern says."""

    regex: re.Pattern[str]
    pattern: str
    fields: Mapping[str, Any]


class Policies:
    """Finds the policy of a channel by its name.

    Patterns are globs ("websocket.*") or compiled regular expressions, and match the channel's
    name up to and including its "?" or "!". The first of the user's that matches applies; what it
    leaves out comes from the first of `DEFAULT_POLICIES` that matches, then from the layer's own
    defaults. Thread-safe.
    """

    def __init__(
        self,
        patterns: Mapping[str | re.Pattern[str], Policy | Mapping[str, Any]] | None = None,
        **defaults: Any,
    ) -> None:
        """Check and compile `patterns`; `defaults` are fields of `Policy`.

        Raises `ConfigurationError` for an unknown field, a wrong type or a value out of range.
        """
        self.default = self._build("the layer", defaults)
        self._defaults = defaults
        self._own = [_rule(pattern, fields) for pattern, fields in (patterns or {}).items()]
        self._built_in = [_rule(pattern, fields) for pattern, fields in DEFAULT_POLICIES.items()]
        self._policies = [
            self._build(f"the pattern {rule.pattern!r}", {**defaults, **rule.fields})
            for rule in (*self._own, *self._built_in)
        ]
        self._found: dict[str, tuple[str, Policy]] = {}

    @staticmethod
    def _build(where: str, fields: Mapping[str, Any]) -> Policy:
        try:
            policy = msgspec.convert(dict(fields), Policy)
        except msgspec.ValidationError as error:
            known = ", ".join(Policy.__struct_fields__)
            raise ConfigurationError(f"policy of {where}: {error}; known are {known}") from None
        for field, least in _LEAST.items():
            value = getattr(policy, field)
            if not value >= least:
                raise ConfigurationError(
                    f"policy of {where}: {field} is {value}, expected at least {least}"
                )
        for field in ("expiry", "lease"):
            check_seconds(f"policy of {where}: {field}", getattr(policy, field))
        return policy

    def find(self, channel: str) -> tuple[str, Policy]:
        """Return the pattern and the policy that apply to `channel`.

        The pattern is the one that says how messages are ordered. It is part of a lane's
        identity: lanes span the channels of one pattern.
        """
        name = family(channel)
        found = self._found.get(name)
        if found is None:
            if len(self._found) >= 10_000:
                self._found.clear()
            found = self._found[name] = self._match(name)
        return found

    def _match(self, name: str) -> tuple[str, Policy]:
        own, built_in = _first(self._own, name), _first(self._built_in, name)
        fields = {**self._defaults, **built_in.fields, **own.fields}
        orders = own if "ordering" in own.fields or not built_in.pattern else built_in
        return orders.pattern, self._build(f"the channel {name!r}", fields)

    def all(self) -> Sequence[Policy]:
        """Return every policy that a channel could have."""
        return [self.default, *self._policies]


def _rule(pattern: str | re.Pattern[str], fields: Policy | Mapping[str, Any]) -> _Rule:
    name: object = pattern.pattern if isinstance(pattern, re.Pattern) else pattern
    if not isinstance(name, str):
        raise ConfigurationError(
            f"policy pattern {pattern!r}: expected a glob or a compiled expression, of text"
        )
    regex = pattern if isinstance(pattern, re.Pattern) else re.compile(translate(pattern))
    if isinstance(fields, Policy):
        fields = msgspec.structs.asdict(fields)
    elif not isinstance(fields, Mapping):
        raise ConfigurationError(
            f"policy of the pattern {name!r} is {fields!r}, expected a Policy or its fields"
        )
    return _Rule(regex, name, fields)


def _first(rules: Sequence[_Rule], name: str) -> _Rule:
    """Return the first rule for `name`, or one that says nothing."""
    return next((rule for rule in rules if rule.regex.match(name)), _NO_RULE)


_NO_RULE = _Rule(re.compile(""), "", {})


def check_seconds(what: str, found: object) -> None:
    """Raise `ConfigurationError` unless `found` is a finite number above 0."""
    if not isinstance(found, int | float) or not 0 < found < inf:
        raise ConfigurationError(f"{what} is {found!r}, expected seconds above 0")


_LEAST = {"capacity": 1, "lane_capacity": 1, "max_attempts": 1}
