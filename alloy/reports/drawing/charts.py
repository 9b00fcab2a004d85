"""Charts as SVG text, from numbers alone.

One drawing function serves points with whiskers and curves. Colours are CSS variables of the page
(Okabe and Ito's palette, which the colour-blind can tell apart), and every series has a marker
shape and a dash pattern of its own besides.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from alloy.reports.drawing.axis import Axis
from alloy.reports.drawing.labels import (
    Box,
    along_curve,
    along_line,
    beside_point,
    place_labels,
    text_width,
)
from alloy.reports.text import escape

STYLES = 7
"""Series styles s0..s6; more series than that repeat the colours with open markers."""
_DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 2", "12 4", "1 2")


@dataclass(frozen=True, kw_only=True)
class Point:
    """A measured value; ``x_path`` and ``y_path`` are its places in report.json."""

    x: float
    y: float
    x_path: str | None = None
    y_path: str | None = None
    x_interval: tuple[float, float] | None = None
    y_interval: tuple[float, float] | None = None
    label: str | None = None
    style: int | None = None
    """Overrides the series' style."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """Points that belong together. ``style`` -1 is the base: ink, with a star."""

    name: str
    points: tuple[Point, ...]
    style: int
    line: bool = True
    markers: bool = True
    mark_every: int = 1
    """Points from one marker to the next; where it starts depends on the style, so that the
    markers of curves that lie on each other do not."""
    dashed: bool = False
    band: tuple[tuple[float, float, float], ...] = ()
    """(x, low, high) of an interval that is shaded along the line."""


@dataclass(frozen=True, kw_only=True)
class Guide:
    """A reference line at ``value`` of one axis; ``style`` is that of the series it belongs to."""

    value: float
    label: str
    axis: str = "y"
    style: int | None = None


@dataclass(frozen=True, kw_only=True)
class Chart:
    """All of one picture; ``width`` and ``height`` are in CSS pixels at full size."""

    title: str
    description: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    guides: tuple[Guide, ...] = ()
    legend: bool = True
    width: int = 560
    height: int = 360


def draw(chart: Chart, key: str, prefix: str = "") -> str:
    """The chart as one ``<svg>`` element; ``key`` makes its ids unique on the page.

    ``prefix`` is put before the JSON paths of its points.
    """
    legend, legend_height = _legend(chart) if chart.legend else ("", 0)
    left = 22 + max((text_width(text) for _, text in chart.y.ticks), default=0) + 10
    frame = Box(left=left, top=10 + legend_height, right=chart.width - 14, bottom=chart.height - 46)
    parts = [
        f'<svg viewBox="0 0 {chart.width} {chart.height}" role="img" '
        f'aria-labelledby="{key}-t {key}-d">',
        f'<title id="{key}-t">{escape(chart.title)}</title>',
        f'<desc id="{key}-d">{escape(chart.description)}</desc>',
        legend,
        _axes(chart, frame),
        *(_guide(chart, guide, frame) for guide in chart.guides),
        *(_series(chart, series, frame, prefix) for series in chart.series),
        _labels(chart, frame),
        "</svg>",
    ]
    return "\n".join(part for part in parts if part)


def _x(chart: Chart, frame: Box, value: float) -> float:
    return chart.x.place(value, frame.left, frame.right)


def _y(chart: Chart, frame: Box, value: float) -> float:
    return chart.y.place(value, frame.bottom, frame.top)


def _axes(chart: Chart, frame: Box) -> str:
    parts = []
    for value, text in chart.y.ticks:
        y = _y(chart, frame, value)
        parts.append(_line(frame.left, y, frame.right, y, "grid"))
        parts.append(_text(frame.left - 6, y + 4, text, "tick", "end"))
    for value, text in chart.x.ticks:
        x = _x(chart, frame, value)
        parts.append(_line(x, frame.top, x, frame.bottom, "grid"))
        parts.append(_text(x, frame.bottom + 16, text, "tick", "middle"))
    parts.append(_line(frame.left, frame.bottom, frame.right, frame.bottom, "axis"))
    parts.append(_line(frame.left, frame.top, frame.left, frame.bottom, "axis"))
    middle_x, middle_y = (frame.left + frame.right) / 2, (frame.top + frame.bottom) / 2
    parts.append(_text(middle_x, chart.height - 10, chart.x.label, "name", "middle"))
    parts.append(
        f'<text class="name" text-anchor="middle" '
        f'transform="translate(14 {middle_y:.1f}) rotate(-90)">{escape(chart.y.label)}</text>'
    )
    return "\n".join(parts)


def _guide(chart: Chart, guide: Guide, frame: Box) -> str:
    kind = "" if guide.style is None else f"{_style_class(guide.style)} "
    if guide.axis == "y":
        y = _y(chart, frame, guide.value)
        return _line(frame.left, y, frame.right, y, f"{kind}guide")
    x = _x(chart, frame, guide.value)
    return _line(x, frame.top, x, frame.bottom, f"{kind}guide")


def _series(chart: Chart, series: Series, frame: Box, prefix: str) -> str:
    places = [(_x(chart, frame, p.x), _y(chart, frame, p.y)) for p in series.points]
    parts = [f'<g class="{_style_class(series.style)}">', _band(chart, series, frame)]
    if series.line and len(places) > 1:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        dash = _DASHES[series.style % STYLES] if series.style >= 0 else "4 3"
        dashes = f' stroke-dasharray="{dash}"' if dash and series.dashed else ""
        parts.append(f'<polyline class="curve" points="{path}"{dashes}/>')
    if series.markers:
        parts.extend(
            _point(chart, series, point, frame, at, prefix)
            for i, (point, at) in enumerate(zip(series.points, places, strict=True))
            if i % series.mark_every == _first_mark(series)
        )
    parts.append("</g>")
    return "\n".join(parts)


def _band(chart: Chart, series: Series, frame: Box) -> str:
    if not series.band:
        return ""
    upper = [(x, high) for x, _, high in series.band]
    lower = [(x, low) for x, low, _ in reversed(series.band)]
    corners = [
        f"{_x(chart, frame, x):.1f} {_y(chart, frame, _inside(y, chart.y)):.1f}"
        for x, y in (*upper, *lower)
    ]
    return f'<path class="band" d="M{"L".join(corners)}z"/>'


def _first_mark(series: Series) -> int:
    return series.style * series.mark_every // STYLES % series.mark_every


def _point(
    chart: Chart, series: Series, point: Point, frame: Box, at: tuple[float, float], prefix: str
) -> str:
    x, y = at
    style = series.style if point.style is None else point.style
    parts = [f'<g class="{_style_class(style)}">']
    if point.x_interval:
        low, high = (_x(chart, frame, _inside(v, chart.x)) for v in point.x_interval)
        parts.append(_line(low, y, high, y, "whisker"))
    if point.y_interval:
        low, high = (_y(chart, frame, _inside(v, chart.y)) for v in point.y_interval)
        parts.append(_line(x, low, x, high, "whisker"))
    paths = "".join(
        f' data-{axis}-path="{escape(prefix + path)}" data-{axis}="{value!r}"'
        for axis, path, value in (("x", point.x_path, point.x), ("y", point.y_path, point.y))
        if path
    )
    parts.append(_mark(style, x, y, paths) + "</g>")
    return "".join(parts)


def _mark(style: int, x: float, y: float, attributes: str = "") -> str:
    kind = "mark open" if style >= STYLES else "mark"
    return f'<path class="{kind}" d="{marker(style, x, y)}"{attributes}/>'


def _labels(chart: Chart, frame: Box) -> str:
    """Labels of points and guides, placed off marks, whiskers, curves and one another."""
    named, boxes = [], []
    for series in chart.series:
        places = [(_x(chart, frame, p.x), _y(chart, frame, p.y)) for p in series.points]
        boxes += along_curve(places) if series.line else []
        for point, (x, y) in zip(series.points, places, strict=True):
            boxes += (
                _covered(chart, frame, point, x, y)
                if series.markers and series.mark_every == 1
                else []
            )
            if point.label and series.markers:
                named.append(beside_point(x, y, point.label))
    notes = [
        along_line(
            frame,
            _y(chart, frame, guide.value) if guide.axis == "y" else _x(chart, frame, guide.value),
            guide.label,
            upright=guide.axis == "x",
        )
        for guide in chart.guides
    ]
    for note, guide in zip(notes, chart.guides, strict=True):
        level = note.choices[0].bottom + 3
        if guide.axis == "y":
            boxes.append(Box(left=frame.left, top=level - 1, right=frame.right, bottom=level + 1))
    placed = place_labels([*notes, *named], boxes, frame)
    kinds = ["note"] * len(notes) + ["label"] * len(named)
    return "\n".join(
        _text(x, y, text, kind, "start") for (x, y, text), kind in zip(placed, kinds, strict=True)
    )


def _covered(chart: Chart, frame: Box, point: Point, x: float, y: float) -> list[Box]:
    """What a point's marker and whiskers cover."""
    boxes = [Box(left=x - 6, top=y - 6, right=x + 6, bottom=y + 6)]
    if point.x_interval:
        low, high = (_x(chart, frame, _inside(v, chart.x)) for v in point.x_interval)
        boxes.append(Box(left=low, top=y - 1, right=high, bottom=y + 1))
    if point.y_interval:
        low, high = (_y(chart, frame, _inside(v, chart.y)) for v in point.y_interval)
        boxes.append(Box(left=x - 1, top=min(low, high), right=x + 1, bottom=max(low, high)))
    return boxes


def _legend(chart: Chart) -> tuple[str, float]:
    """The legend above the plot, in as many lines as it needs, and its height."""
    entries = [s for s in chart.series if s.name]
    if len(entries) < 2:
        return "", 0
    parts, x, y = [], 8.0, 14.0
    for series in entries:
        width = 34 + text_width(series.name) + 14
        if x + width > chart.width and x > 8:
            x, y = 8.0, y + 18
        dash = _DASHES[series.style % STYLES] if series.dashed and series.style >= 0 else ""
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        parts.append(f'<g class="{_style_class(series.style)}">')
        if series.line:
            parts.append(f'<path class="curve" d="M{x:.1f} {y - 4:.1f}h26"{dashes}/>')
        if series.markers:
            parts.append(_mark(series.style, x + 13, y - 4))
        parts.append("</g>" + _text(x + 32, y, series.name, "tick", "start"))
        x += width
    return "\n".join(parts), y + 8


def marker(style: int, x: float, y: float, size: float = 5.0) -> str:
    """Path data of a style's marker shape around (x, y); style -1 is a star."""
    if style < 0:
        return _polygon(x, y, [size * 1.5 if i % 2 == 0 else size * 0.65 for i in range(10)])
    shape = style % STYLES
    if shape == 0:
        r = size * 0.95
        return f"M{x - r:.1f} {y:.1f}a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0z"
    if shape == 4:
        return (
            f"M{x - size:.1f} {y - size:.1f}L{x + size:.1f} {y + size:.1f}"
            f"M{x + size:.1f} {y - size:.1f}L{x - size:.1f} {y + size:.1f}"
        )
    turns = {1: (4, 0.125), 2: (3, 0.0), 3: (4, 0.0), 5: (3, 0.5), 6: (6, 0.0)}
    corners, turn = turns[shape]
    return _polygon(x, y, [size * 1.25] * corners, turn)


def _polygon(x: float, y: float, radii: Sequence[float], turn: float = 0.0) -> str:
    """A closed path whose corners lie at even angles, the first at the top."""
    corners = []
    for i, radius in enumerate(radii):
        angle = 2 * math.pi * (i / len(radii) + turn) - math.pi / 2
        corners.append(f"{x + radius * math.cos(angle):.1f} {y + radius * math.sin(angle):.1f}")
    return "M" + "L".join(corners) + "z"


def _inside(value: float, axis: Axis) -> float:
    return min(max(value, axis.low), axis.high)


def _style_class(style: int) -> str:
    return "base" if style < 0 else f"s{style % STYLES}"


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<path class="{kind}" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>'


def _text(x: float, y: float, text: str, kind: str, anchor: str) -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def flatten(series: Iterable[Series]) -> list[Point]:
    """All points of some series."""
    return [point for one in series for point in one.points]


def extent(points: Sequence[Point], axis: str) -> list[float]:
    """Every coordinate and interval limit of ``axis``."""
    values: list[float] = []
    for point in points:
        interval = point.x_interval if axis == "x" else point.y_interval
        values += [point.x if axis == "x" else point.y, *(interval or ())]
    return values


def pair(interval: Sequence[float] | None) -> tuple[float, float] | None:
    """An interval of the report as a point has it."""
    return (interval[0], interval[1]) if interval else None
