"""What is compared with what, and how much better Busway is meant to be."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.cases.case import Metric
from bench.results import Key, Results, metric_of

_UVICORN = "channels-uvicorn"
_DAPHNE = "channels-daphne"
_DJANGO = "busway-django"
_REDIS = "busway-redis"
_LAYER = "busway-layer"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A line of the table of ratios: a variant of ours beside a variant of theirs.

    ``goals`` says by contestant how many times better ours is meant to be, at least.
    """

    title: str
    case: str
    metric_key: str
    ours: str
    theirs: str
    goals: Mapping[str, float] = field(default_factory=dict)
    #: Which contestant stands for us; empty: the first of all.
    us: str = ""

    @property
    def metric(self) -> Metric:
        return metric_of(self.case, self.metric_key)

    def key(self, contestant: str, *, is_ours: bool) -> Key:
        """What to look up in the results."""
        if is_ours and self.us:
            contestant = self.us
        return Key(self.case, self.ours if is_ours else self.theirs, contestant)

    def ratio(self, results: Results, us: str, them: str) -> float | None:
        """How many times better ours is; None when one of the two was not measured."""
        return results.ratio(self.key(us, is_ours=True), self.key(them, is_ours=False), self.metric)


@dataclass(frozen=True, slots=True)
class Limit:
    """A figure of ours that is meant not to exceed a value."""

    title: str
    case: str
    variant: str
    metric_key: str
    at_most: float
    #: Whose figure it is; empty: the first contestant's.
    us: str = ""

    @property
    def metric(self) -> Metric:
        return metric_of(self.case, self.metric_key)


COMPARISONS = (
    Comparison(
        *("Echo, 50 connections: sync consumer, theirs async", "echo", "messages_per_s"),
        *("sync", "async", {_UVICORN: 4}),
    ),
    Comparison(
        *("Echo, 50 connections: sync consumer, theirs sync", "echo", "messages_per_s"),
        *("sync", "sync", {_UVICORN: 12}),
    ),
    Comparison(
        *("Echo, 50 connections: async consumer, theirs async", "echo", "messages_per_s"),
        *("async", "async"),
        us="busway-async",
    ),
    Comparison(
        *("Round trip, p50: sync consumer, theirs async", "roundtrip", "p50_us"),
        *("sync", "async", {_UVICORN: 1}),
    ),
    Comparison(
        *("Round trip, p99: sync consumer, theirs async", "roundtrip", "p99_us"),
        *("sync", "async"),
    ),
    Comparison(
        *("Broadcast to 1,000, one at a time", "broadcast", "deliveries_per_s"),
        *("single", "single", {_UVICORN: 20, _DAPHNE: 20}),
    ),
    Comparison(
        *("Broadcast to 1,000, bursts of 50", "broadcast", "deliveries_per_s"),
        *("burst", "burst", {_UVICORN: 20, _DAPHNE: 20}),
    ),
    Comparison(
        *("Over Redis: echo, sync consumer, theirs async", "echo", "messages_per_s"),
        *("sync", "async", {_UVICORN: 3}),
        us=_REDIS,
    ),
    Comparison(
        *("Over Redis: broadcast, one at a time", "broadcast", "deliveries_per_s"),
        *("single", "single", {_UVICORN: 15}),
        us=_REDIS,
    ),
    Comparison(
        *("Over Redis: broadcast, bursts of 50", "broadcast", "deliveries_per_s"),
        *("burst", "burst", {_UVICORN: 15}),
        us=_REDIS,
    ),
    Comparison("Connects", "connects", "connects_per_s", "open", "open"),
    Comparison("Memory per idle socket", "idle", "server_kb", "open", "open"),
    Comparison(
        *("Hello view", "http", "requests_per_s", "hello", "hello"),
        {"gunicorn": 1.5, "django-uvicorn": 10, "django-daphne": 10},
        us=_DJANGO,
    ),
    Comparison(
        *("View with one query, SQLite", "http", "requests_per_s", "sqlite", "sqlite"),
        us=_DJANGO,
    ),
    Comparison(
        *("View with one query, PostgreSQL", "http", "requests_per_s", "postgresql", "postgresql"),
        us=_DJANGO,
    ),
    Comparison(
        *("Send and receive, one after the other", "layer", "messages_per_s"),
        *("single", "single", {"channels-redis": 5}),
        us=_LAYER,
    ),
    Comparison(
        *("Send and receive, 50 at a time", "layer", "messages_per_s"),
        *("many", "many", {"channels-redis": 5}),
        us=_LAYER,
    ),
)

LIMITS = (
    Limit("Lost in bursts", "broadcast", "burst", "lost", 0),
    Limit("Lost one at a time", "broadcast", "single", "lost", 0),
    Limit("Lost in bursts over Redis", "broadcast", "burst", "lost", 0, _REDIS),
    Limit("Memory per idle socket in the interface server", "idle", "open", "server_kb", 8),
)
