"""Charts as inline SVG: the only place where money becomes a float, for drawing alone.

The colours are the CSS variables of templates/shared/style.css (with a fallback for an SVG that stands alone) and
``currentColor``, so that one drawing is legible on light and dark pages and on paper. Names of services are not drawn:
the page shows the legend as text, where it wraps, can be copied and read aloud. The layout is fixed, so that the bytes
don't depend on the fonts of the machine.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

import vl_convert
from markupsafe import Markup, escape

from ratemill.documents.guard import DATA_LIMIT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

SERIES_COLOURS = ("#0b5c6b", "#c27a1a", "#5b6fb0", "#7a9e3d", "#a3497a", "#7d8791")
"""Fallbacks of ``--series-1`` to ``--series-6``; the last one is for the sum of all others."""

_WIDTH, _HEIGHT = 880, 230
_PADDING = {"left": 62, "right": 8, "top": 30, "bottom": 42}
_LABELLED_DAYS = (1, 5, 10, 15, 20, 25, 30)
_RESERVED = 600_000_000
"""Bytes of writable memory that the engine behind the drawings reserves with the first one, and never touches."""


@cache
def _draws() -> None:
    """Say, once and before the first drawing, what is reserved with it."""
    DATA_LIMIT.reserve(_RESERVED)


def stacked_days(series: Sequence[Sequence[Decimal]], *, unit: str, month: str, description: str) -> Markup:
    """Bars of one month's days, one colour per series, as an ``<svg>`` element.

    Args:
        series: per series one value for each day of the month, in order; at most as many series as there are colours.
        unit: title of the value axis, a currency code.
        month: title of the day axis.
        description: the chart in words, for readers who don't see it.

    Raises:
        ValueError: for too many series, or series of different lengths.
    """
    days = {len(values) for values in series}
    if len(series) > len(SERIES_COLOURS) or len(days) > 1:
        raise ValueError(f"{len(series)} series of {sorted(days)} days can't be drawn")
    points = [
        {"day": day, "series": number, "cost": float(value)}
        for number, values in enumerate(series)
        for day, value in enumerate(values, start=1)
        if value
    ]
    spec = _stacked_days_spec(max(days, default=31), unit, month)
    source, *derived = spec["data"]
    return _accessible(_drawn({**spec, "data": [{**source, "values": points}, *derived]}), description)


@cache
def _stacked_days_spec(days: int, unit: str, month: str) -> dict[str, Any]:
    """The chart without its data, compiled once: declaring and compiling takes longer than drawing."""
    return _compiled(_stacked_days_chart(days, unit, month))


def _stacked_days_chart(days: int, unit: str, month: str) -> dict[str, Any]:
    import altair as alt  # noqa: PLC0415 - takes a quarter of a second, and most commands draw nothing

    axis = {"domain": False, "ticks": False, "labelPadding": 6}
    chart = (
        alt.Chart(alt.Data(values=[{"day": 1, "series": 0, "cost": 0.0}]))
        .mark_bar()
        .encode(
            x=alt.X(
                "day:O",
                scale=alt.Scale(domain=list(range(1, days + 1)), paddingInner=0.22, paddingOuter=0.1),
                axis=alt.Axis(
                    title=month, labelAngle=0, values=list(_LABELLED_DAYS), minExtent=20, maxExtent=20, **axis
                ),
            ),
            y=alt.Y(
                "cost:Q",
                axis=alt.Axis(
                    title=unit,
                    titleAngle=0,
                    titleAlign="right",
                    titleAnchor="end",
                    titleX=-8,
                    titleY=-12,
                    tickCount=5,
                    labelExpr="abs(datum.value) < 10000 ? datum.label : replace(format(datum.value, '.3~s'), 'G', 'B')",
                    **axis,
                ),
            ),
            color=alt.Color(
                "series:O",
                scale=alt.Scale(
                    domain=list(range(len(SERIES_COLOURS))),
                    range=[f"var(--series-{n}, {colour})" for n, colour in enumerate(SERIES_COLOURS, start=1)],
                ),
                legend=None,
            ),
            order="series:O",
        )
        .properties(width=_WIDTH, height=_HEIGHT, padding=_PADDING, autosize=alt.AutoSizeParams(type="none"))
        .configure(aria=False, font="sans-serif", background="transparent")
        .configure_view(stroke=None)
        .configure_axis(
            gridColor="currentColor",
            gridOpacity=0.14,
            labelColor="currentColor",
            titleColor="currentColor",
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
        )
        .configure_axisX(grid=False)
    )
    declared: dict[str, Any] = chart.to_dict()
    return declared


_MORE, _LESS = 2, 1
"""Numbers of the colours of what goes up and what goes down."""
_NUMBERED_BARS = 20
"""So many bars have room for a number each; of more, every fifth has one."""
_FEWEST_BARS = 12
"""Fewer bars are as wide as so many would be."""


def signed_bars(values: Sequence[Decimal], *, unit: str, title: str, description: str) -> Markup:
    """Bars from zero up and down, numbered from 1 in the order given, as an ``<svg>`` element.

    Args:
        values: one for each bar.
        unit: title of the value axis, a currency code.
        title: what a number stands for, below the bars.
        description: the chart in words, for readers who don't see it.
    """
    spec = _signed_bars_spec(len(values), unit, title)
    points = [
        {"bar": number, "effect": float(value), "goes": "more" if value > 0 else "less"}
        for number, value in enumerate(values, start=1)
        if value
    ]
    source, *derived = spec["data"]
    return _accessible(_drawn({**spec, "data": [{**source, "values": points}, *derived]}), description)


@cache
def _signed_bars_spec(bars: int, unit: str, title: str) -> dict[str, Any]:
    """The chart without its data: the layout of :func:`stacked_days`, with other axes and colours."""
    spec = _stacked_days_chart(max(bars, _FEWEST_BARS), unit, title)
    numbers = range(1, bars + 1)
    axis = spec["encoding"]["x"]["axis"]
    axis["values"] = [n for n in numbers if bars <= _NUMBERED_BARS or n == 1 or not n % 5]
    spec["data"] = {"values": [{"bar": 1, "effect": 0.0, "goes": "more"}]}
    spec["encoding"]["x"]["field"] = "bar"
    spec["encoding"]["y"]["field"] = "effect"
    del spec["encoding"]["order"]
    spec["encoding"]["color"] = {
        "field": "goes",
        "type": "nominal",
        "scale": {
            "domain": ["more", "less"],
            "range": [f"var(--series-{n}, {SERIES_COLOURS[n - 1]})" for n in (_MORE, _LESS)],
        },
        "legend": None,
    }
    return _compiled(spec)


def _compiled(chart: dict[str, Any]) -> dict[str, Any]:
    _draws()
    compiled: dict[str, Any] = vl_convert.vegalite_to_vega(chart)
    return compiled


def _drawn(spec: dict[str, Any]) -> str:
    _draws()
    svg: str = vl_convert.vega_to_svg(spec)
    return svg


_ROLES_OF_PARTS = re.compile(r' (?:role="graphics-\w+"|aria-roledescription="[^"]*")')


def _accessible(svg: str, description: str) -> Markup:
    """``svg`` as one image with a description; its size is the page's business.

    The parts of an image are not read out, so they may not call themselves images without a description.
    """
    svg = _ROLES_OF_PARTS.sub("", svg)
    return Markup(svg.replace("<svg ", f'<svg role="img" aria-label="{escape(description)}" ', 1))  # noqa: S704 - drawn here; the text is escaped
