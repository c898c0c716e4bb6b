"""Requests: how many times a second a Django view answers."""

from typing import ClassVar

from bench.cases.case import LOAD_CPU, SERVER_CPU, Case, Metric, Variant
from bench.load.browsers import Browsers
from bench.load.meter import Meter
from bench.target import Effort, Target

CLIENTS = 50

#: What the views in ``apps/django_urls.py`` answer.
_EXPECTED = {"hello": b"hello", "sqlite": b"item 7", "postgresql": b"item 7"}


class Requests(Case):
    name = "http"
    title = f"Django, {CLIENTS} clients"
    variants: ClassVar = {
        "hello": Variant("hello view", frozenset({"/hello"})),
        "sqlite": Variant("view with one query, SQLite", frozenset({"/sqlite"})),
        "postgresql": Variant("view with one query, PostgreSQL", frozenset({"/postgresql"})),
    }
    metrics = (
        Metric("requests_per_s", "requests", "/s", "more"),
        SERVER_CPU,
        LOAD_CPU,
    )

    def measure(self, target: Target, variant: str, effort: Effort) -> dict[str, float]:
        with Browsers(target, f"/{variant}", CLIENTS) as browsers:
            meter = Meter(target)
            answers = browsers.run(effort.seconds, _EXPECTED[variant])
            per_s = answers / meter.elapsed_s()
            cost = meter.cost(answers)
        return {"requests_per_s": per_s, **cost}
