"""The chart."""

from bench.results import Results


def svg(results: Results) -> str:
    return ""
