"""Charts of one quantity over the general share: measured points, and the law where there is one.

Exam, F1 and bits per byte differ only in what a ``ShareChart`` says of them.
"""

from dataclasses import dataclass
from typing import Any

from alloy.reports.drawing.axis import linear_axis, share_axis
from alloy.reports.drawing.charts import Chart, Guide, Point, Series, extent, flatten, pair
from alloy.reports.paths import lookup

Tree = dict[str, Any]
_WHISKERS = "Whiskers are 95% intervals of one model; the change table has the paired ones."
_LAW = " The line is the law, shaded its 95% interval."


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A chart, its key among those of a report, and the sentence under it.

    ``group`` is the section that it belongs to.
    """

    group: str
    key: str
    chart: Chart
    caption: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """Values of the arms at ``path`` with intervals at ``interval``; ``base`` is the base's."""

    path: str
    interval: str
    name: str = ""
    base: str | None = None
    """Path of the base's value; None: the base is the zero line."""


@dataclass(frozen=True, kw_only=True)
class ShareChart:
    """One chart over the share."""

    key: str
    group: str
    title: str
    lines: tuple[Line, ...]
    y_label: str
    kind: str
    caption: str
    floor: float | None = 0.0
    quantity: str | None = None
    """The law that is drawn with the points."""
    budget: str | None = None
    """The budget that is drawn as a line."""


def _bpb(role: str, title: str) -> ShareChart:
    change = f"change.{role}_bpb"
    return ShareChart(
        key=f"bpb-{role}",
        group="bpb",
        title=f"{title}: change in bits per byte",
        lines=(Line(path=f"{change}.change", interval=f"{change}.interval"),),
        y_label="change (bits per byte)",
        kind="bpb_change",
        caption=f"{title}, held out, arm minus base on the same documents. Below the base line is "
        "better.",
        floor=None,
        quantity=f"{role}_bpb",
        budget="retention_bpb" if role == "retention" else None,
    )


CHARTS = (
    ShareChart(
        key="share-exam",
        group="share",
        title="Exam accuracy over general share",
        lines=(Line(path="exam_accuracy", interval="exam_interval", base="exam_accuracy"),),
        y_label="exam accuracy (%)",
        kind="percent",
        caption=f"Exam accuracy. {_WHISKERS}",
    ),
    ShareChart(
        key="share-f1",
        group="share",
        title="Domain F1 over general share",
        lines=(Line(path="domain_f1", interval="domain_interval", base="domain_f1"),),
        y_label="domain F1 (weighted)",
        kind="f1",
        caption=f"Domain F1. {_WHISKERS}",
        quantity="domain_f1",
    ),
    ShareChart(
        key="replayed",
        group="share",
        title="Replayed against never-replayed facts",
        lines=tuple(
            Line(
                path=f"exam_accuracy_{key}",
                interval=f"exam_interval_{key}",
                name=name,
                base=f"exam_accuracy_{key}",
            )
            for key, name in (("replayed", "replayed"), ("unreplayed", "never replayed"))
        ),
        y_label="exam accuracy (%)",
        kind="percent",
        caption="Questions on facts that the general text repeats, and on facts that it does not. "
        "The gap is what replay protects only by rehearsing it.",
    ),
    _bpb("general", "General (replayed) text"),
    _bpb("retention", "Retention text"),
    _bpb("domain", "Domain text"),
)


def share_figures(report: Tree) -> list[Figure]:
    """Every chart over the share whose numbers were measured."""
    return [figure for chart in CHARTS if (figure := _figure(report, chart)) is not None]


def _figure(report: Tree, spec: ShareChart) -> Figure | None:
    law = next((law for law in report["law"] if law["quantity"] == spec.quantity), None)
    series, guides = [], []
    for style, line in enumerate(spec.lines):
        points = _points(report, line)
        if not points:
            continue
        joined = law is None and len({p.x for p in points}) == len(points)
        series.append(Series(name=line.name, points=tuple(points), style=style, line=joined))
        value = 0.0 if line.base is None else lookup(report["base"], line.base)
        if value is not None:
            label = f"base, {line.name.split()[0]}" if line.name else "base"
            one = style if len(spec.lines) > 1 or line.base is not None else None
            guides.append(Guide(value=value, label=label, style=one))
    if not series:
        return None
    allowed = report["budget"][spec.budget] if spec.budget else None
    if allowed is not None:
        guides.append(Guide(value=allowed, label="budget"))
    every = flatten(series)
    values = [*extent(every, "y"), *(guide.value for guide in guides)]
    if law is not None:
        series.insert(0, _law_series(law))
        values += law["value"]
    chart = Chart(
        title=spec.title,
        description=f"{spec.y_label} of the arms and the control by the general share of their "
        "training; the base is a dashed line.",
        x=share_axis("general share of training (%, square-root scale)", [p.x for p in every]),
        y=linear_axis(spec.y_label, values, spec.kind, floor=spec.floor),
        series=tuple(series),
        guides=tuple(guides),
        width=400,
        height=320,
    )
    caption = spec.caption + (_LAW if law else "")
    return Figure(group=spec.group, key=spec.key, chart=chart, caption=caption)


def _points(report: Tree, line: Line) -> list[Point]:
    return [
        Point(
            x=arm["general_share"],
            y=value,
            x_path=f"arms.{i}.general_share",
            y_path=f"arms.{i}.{line.path}",
            y_interval=pair(lookup(arm, line.interval)),
        )
        for i, arm in _by_share(report)
        if (value := lookup(arm, line.path)) is not None
    ]


def _law_series(law: Tree) -> Series:
    rows = zip(law["general_share"], law["value"], law["low"], law["high"], strict=True)
    kept = [row for row in rows if None not in row]
    return Series(
        name="",
        points=tuple(Point(x=x, y=y) for x, y, _, _ in kept),
        style=0,
        markers=False,
        band=tuple((x, low, high) for x, _, low, high in kept),
    )


def _by_share(report: Tree) -> list[tuple[int, Tree]]:
    """Arms, control and confirming runs with their indices, by share."""
    kept = [
        (i, a)
        for i, a in enumerate(report["arms"])
        if a["general_share"] is not None and a["kind"] != "saturation"
    ]
    return sorted(kept, key=lambda pair: (pair[1]["general_share"], pair[0]))
