"""The chart: one panel for each comparison, one bar for each contestant, as SVG."""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from itertools import chain, cycle

from bench.comparisons import COMPARISONS, Comparison
from bench.contestants import CONTESTANTS
from bench.report import amount, times
from bench.results import Results

_US = CONTESTANTS[0]

# Sizes in pixels.
_WIDTH = 1040
_MARGIN = 32
_HEADER = 96
_PANEL_WIDTH = 472
_LABEL_WIDTH = 176
_BAR_WIDTH = 170
_BAR_HEIGHT = 16
_BAR_STEP = 26
#: Without bars.
_PANEL_HEIGHT = 72

_OURS = "#0f766e"
_THEIRS = ("#94a3b8", "#b6c2d1", "#d9e0e8")

_TITLE = "Busway beside its peers"

_STYLE = """\
text { font-family: system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
.h1 { font-size: 22px; font-weight: 700; fill: #0f172a; }
.h2 { font-size: 14px; font-weight: 600; fill: #0f172a; }
.note { font-size: 12px; fill: #64748b; }
.label { font-size: 12px; fill: #334155; }
.ours { font-weight: 700; fill: #0f766e; }
.ratio { font-weight: 700; fill: #0f172a; }"""


@dataclass(frozen=True, slots=True)
class Bar:
    """A contestant's figure; ``ratio`` is how many times better Busway is, None for Busway."""

    title: str
    colour: str
    value: float
    text: str
    ratio: str | None


def svg(results: Results) -> str:
    """The chart of all comparisons that were measured."""
    panels = [(each, bars) for each in COMPARISONS if len(bars := list(_bars(each, results))) > 1]
    rows = [panels[first : first + 2] for first in range(0, len(panels), 2)]
    heights = [_PANEL_HEIGHT + _BAR_STEP * max(len(bars) for _, bars in row) for row in rows]
    height = _HEADER + sum(heights) + _MARGIN // 2
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{_TITLE}">',
        f"<style>{_STYLE}</style>",
        f'<rect width="{_WIDTH}" height="{height}" rx="12" fill="#ffffff" stroke="#e2e8f0"/>',
        *_header(results),
    ]
    y = _HEADER
    for row, step in zip(rows, heights, strict=True):
        for x, panel in zip((_MARGIN, 2 * _MARGIN + _PANEL_WIDTH), row, strict=False):
            parts += [f'<g transform="translate({x} {y})">', *_panel(*panel), "</g>"]
        y += step
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bars(comparison: Comparison, results: Results) -> Iterator[Bar]:
    """Ours, if it was measured, then theirs."""
    us = next(each for each in CONTESTANTS if each.name == (comparison.us or _US.name))
    those = [us, *(each for each in CONTESTANTS if each.group == us.group and each is not us)]
    for contestant, colour in zip(those, chain([_OURS], cycle(_THEIRS)), strict=False):
        is_ours = contestant is us
        value = results.figure(comparison.key(contestant.name, is_ours=is_ours), comparison.metric)
        if value is not None:
            ratio = comparison.ratio(results, _US.name, contestant.name)
            text = amount(value, comparison.metric)
            yield Bar(
                contestant.title,
                colour,
                value,
                text,
                None if is_ours or not ratio else times(ratio),
            )


def _header(results: Results) -> Iterator[str]:
    yield _text(_MARGIN, 42, "h1", _TITLE)
    where = f"{results.machine['Processor']}; Python {results.machine['Python']}"
    note = f"Bold: how many times better Busway is. {where}"
    yield _text(_MARGIN, 64, "note", note)


def _panel(comparison: Comparison, bars: list[Bar]) -> Iterator[str]:
    metric = comparison.metric
    yield _text(0, 14, "h2", comparison.title)
    yield _text(0, 32, "note", f"{metric.title}, {metric.better} is better")
    longest = max(bar.value for bar in bars)
    for number, bar in enumerate(bars):
        yield from _bar(bar, 44 + number * _BAR_STEP, bar.value / longest)


def _bar(bar: Bar, y: int, share: float) -> Iterator[str]:
    width = max(2.0, share * _BAR_WIDTH)
    base = y + _BAR_HEIGHT - 4
    emphasis = "label ours" if bar.colour == _OURS else "label"
    yield _text(0, base, emphasis, bar.title)
    yield (
        f'<rect x="{_LABEL_WIDTH}" y="{y}" width="{width:.1f}" height="{_BAR_HEIGHT}" '
        f'rx="3" fill="{bar.colour}"/>'
    )
    value = escape(bar.text)
    if bar.ratio:
        value += f' <tspan class="ratio" dx="6">{escape(bar.ratio)}</tspan>'
    x = _LABEL_WIDTH + width + 8
    yield f'<text x="{x:.1f}" y="{base}" class="{emphasis}">{value}</text>'


def _text(x: int, y: int, style: str, text: str) -> str:
    return f'<text x="{x}" y="{y}" class="{style}">{escape(text)}</text>'
