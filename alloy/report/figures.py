"""The report's numbers to charts. A chart whose numbers were not measured is left out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from alloy.report.axis import linear_axis, share_axis
from alloy.report.charts import Chart, Guide, Point, Series, draw, flatten
from alloy.report.text import number, visible

Tree = dict[str, Any]
MARKS_ON_CURVE = 6
ROLE_TITLES = {
    "general": "General (replayed) text",
    "retention": "Retention text",
    "domain": "Domain text",
}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A drawn chart and the sentence under it; ``group`` is the section that it belongs to."""

    group: str
    svg: str
    caption: str


def figures(report: Tree) -> list[Figure]:
    """Every chart of the page, in its order."""
    drawn = [_front(report), *_over_share(report), _replayed(report)]
    drawn += [_bpb_change(report, role) for role in ROLE_TITLES]
    drawn += [_loss(report), _learning_rate(report), *_loss_by_source(report)]
    return [figure for figure in drawn if figure is not None]


def arm_labels(report: Tree) -> list[str]:
    """A short label for each arm: its share where that is unique among its kind, else its name."""
    suffix = {"arm": "", "control": " control", "saturation": " short"}
    texts = [number(a["general_share"], "share") + suffix[a["kind"]] for a in report["arms"]]
    return [
        text if texts.count(text) == 1 else visible(arm["name"], 24)
        for text, arm in zip(texts, report["arms"], strict=True)
    ]


def _front(report: Tree) -> Figure | None:
    """Exam against F1, every model a labelled point."""
    points = [(_front_point(report["base"], "base", "base"), -1, report["base"])]
    for i, (arm, label) in enumerate(zip(report["arms"], arm_labels(report), strict=True)):
        points.append((_front_point(arm, f"arms.{i}", label), i, arm))
    shown = [(point, style, entry) for point, style, entry in points if point is not None]
    if len(shown) < 2:
        return None
    best = _not_dominated([p for p, _, entry in shown if entry["kind"] != "saturation"])
    series = [Series(name="", points=tuple(best), style=-1, markers=False, dashed=True)]
    series += [
        Series(name="", points=(point,), style=style, line=False) for point, style, _ in shown
    ]
    guides = _exam_guides(report)
    every = flatten(series)
    reach = [*_extent(every, "x"), *(guide.value for guide in guides)]
    chart = Chart(
        title="Exam accuracy against domain F1",
        description="Each model with 95% intervals; the dashed line joins those that no other "
        "measured model beats on both. The numbers are in the headline table.",
        x=linear_axis("exam accuracy (%)", reach, "percent"),
        y=linear_axis("domain F1 (weighted)", _extent(every, "y"), "f1", floor=0.0),
        series=tuple(series),
        guides=tuple(guides),
        legend=False,
        width=760,
        height=430,
    )
    caption = (
        "Up and to the right is better. Labels are general shares, whiskers 95% intervals; the "
        "dashed line joins the models that no other measured one beats on both axes."
    )
    return Figure(group="front", svg=draw(chart, "front"), caption=caption)


def _exam_guides(report: Tree) -> list[Guide]:
    """Where the exam budget ends, and what guessing reaches where a model is no better.

    A base at chance has no budget line: no claim is made.
    """
    base, allowed = report["base"], report["budget"]["mmlu_points"]
    guides = []
    if base["exam_accuracy"] is not None and allowed is not None and not base["at_chance"]:
        value = base["exam_accuracy"] - allowed / 100
        guides.append(Guide(value=value, label="exam budget", axis="x"))
    if base["chance_band"] and any(e["at_chance"] for e in (base, *report["arms"])):
        guides.append(Guide(value=base["chance_band"][1], label="chance", axis="x"))
    return guides


def _front_point(entry: Tree, path: str, label: str) -> Point | None:
    if entry["exam_accuracy"] is None or entry["domain_f1"] is None:
        return None
    return Point(
        x=entry["exam_accuracy"],
        y=entry["domain_f1"],
        x_path=f"{path}.exam_accuracy",
        y_path=f"{path}.domain_f1",
        x_interval=_pair(entry["exam_interval"]),
        y_interval=_pair(entry["domain_interval"]),
        label=label,
    )


def _not_dominated(points: Sequence[Point]) -> list[Point]:
    """Points that no other one reaches in x and y and beats in one of them, by x."""
    kept = [
        p
        for p in points
        if not any(q.x >= p.x and q.y >= p.y and (q.x > p.x or q.y > p.y) for q in points)
    ]
    return sorted(kept, key=lambda p: p.x)


def _over_share(report: Tree) -> list[Figure | None]:
    exam = _share_chart(
        report,
        key="share-exam",
        title="Exam accuracy over general share",
        fields=(("exam_accuracy", "exam_interval", ""),),
        y_label="exam accuracy (%)",
        kind="percent",
    )
    f1 = _share_chart(
        report,
        key="share-f1",
        title="Domain F1 over general share",
        fields=(("domain_f1", "domain_interval", ""),),
        y_label="domain F1 (weighted)",
        kind="f1",
    )
    whiskers = "Whiskers are 95% intervals of one model; the change table has the paired ones."
    return [
        Figure(group="share", svg=svg, caption=caption)
        for svg, caption in ((exam, f"Exam accuracy. {whiskers}"), (f1, f"Domain F1. {whiskers}"))
        if svg
    ]


def _replayed(report: Tree) -> Figure | None:
    svg = _share_chart(
        report,
        key="replayed",
        title="Replayed against never-replayed facts",
        fields=(
            ("exam_accuracy_replayed", "exam_interval_replayed", "replayed"),
            ("exam_accuracy_unreplayed", "exam_interval_unreplayed", "never replayed"),
        ),
        y_label="exam accuracy (%)",
        kind="percent",
    )
    if not svg:
        return None
    caption = (
        "Questions on facts that the general text repeats, and on facts that it does not. The gap "
        "is what replay protects only by rehearsing it."
    )
    return Figure(group="share", svg=svg, caption=caption)


def _share_chart(
    report: Tree,
    *,
    key: str,
    title: str,
    fields: Sequence[tuple[str, str, str]],
    y_label: str,
    kind: str,
) -> str:
    """Fields (value, interval, series name) of the arms and the control over their shares."""
    series, guides = [], []
    for style, (field, interval, name) in enumerate(fields):
        points = [
            Point(
                x=arm["general_share"],
                y=arm[field],
                x_path=f"arms.{i}.general_share",
                y_path=f"arms.{i}.{field}",
                y_interval=_pair(arm[interval]),
            )
            for i, arm in _by_share(report)
            if arm[field] is not None
        ]
        if points:
            series.append(Series(name=name, points=tuple(points), style=style))
        if points and report["base"][field] is not None:
            label = f"base, {name.split()[0]}" if name else "base"
            guides.append(Guide(value=report["base"][field], label=label, style=style))
    if not series:
        return ""
    every = flatten(series)
    values = [*_extent(every, "y"), *(guide.value for guide in guides)]
    chart = Chart(
        title=title,
        description=f"{y_label} of the arms and the control by the general share of their "
        "training; the base is a dashed line.",
        x=share_axis("general share of training (%, square-root scale)", [p.x for p in every]),
        y=linear_axis(y_label, values, kind, floor=0.0),
        series=tuple(series),
        guides=tuple(guides),
        width=400,
        height=320,
    )
    return draw(chart, key)


def _bpb_change(report: Tree, role: str) -> Figure | None:
    points = [
        Point(
            x=arm["general_share"],
            y=change["change"],
            x_path=f"arms.{i}.general_share",
            y_path=f"arms.{i}.change.{role}_bpb.change",
            y_interval=_pair(change["interval"]),
        )
        for i, arm in _by_share(report)
        if (change := arm["change"][f"{role}_bpb"]) is not None
    ]
    if not points:
        return None
    allowed = report["budget"]["retention_bpb"] if role == "retention" else None
    guides = [Guide(value=0.0, label="base")]
    if allowed is not None:
        guides.append(Guide(value=allowed, label="budget"))
    values = [*_extent(points, "y"), *(guide.value for guide in guides)]
    chart = Chart(
        title=f"{ROLE_TITLES[role]}: change in bits per byte",
        description="Arm minus base on the same documents, with paired 95% intervals.",
        x=share_axis("general share (%, square-root scale)", [p.x for p in points]),
        y=linear_axis("change (bits per byte)", values, "bpb_change"),
        series=(Series(name="", points=tuple(points), style=0),),
        guides=tuple(guides),
        width=400,
        height=300,
    )
    caption = f"{ROLE_TITLES[role]}, held out. Below the base line is better."
    return Figure(group="bpb", svg=draw(chart, f"bpb-{role}"), caption=caption)


def _loss(report: Tree) -> Figure | None:
    series = _curves(report, "loss")
    if not series:
        return None
    steps = max(arm["curve"]["steps_per_point"] for arm in report["arms"] if arm["curve"])
    svg = _curve_chart(
        series, "loss", "Training loss over tokens", "training loss (nats per token)", "f1"
    )
    averaged = f" Each point is the mean of up to {steps} logged steps." if steps > 1 else ""
    caption = (
        "Training loss on each arm's own blend; arms with different blends are not comparable "
        f"by it.{averaged}"
    )
    return Figure(group="training", svg=svg, caption=caption)


def _learning_rate(report: Tree) -> Figure | None:
    series = _curves(report, "lr")
    if not series:
        return None
    caption = "Learning rate over tokens."
    if len(series) > 1 and len({tuple((p.x, p.y) for p in s.points) for s in series}) == 1:
        first = series[0]
        series = [Series(name="all arms", points=first.points, style=0, markers=False)]
        caption = "Learning rate over tokens, the same in all arms."
    svg = _curve_chart(series, "lr", "Learning rate over tokens", "learning rate", "lr")
    return Figure(group="training", svg=svg, caption=caption)


def _curves(report: Tree, field: str) -> list[Series]:
    series = []
    for i, (arm, label) in enumerate(zip(report["arms"], arm_labels(report), strict=True)):
        points = _curve_points(arm["curve"], arm["curve"][field]) if arm["curve"] else ()
        if points:
            every = max(1, len(points) // MARKS_ON_CURVE)
            series.append(Series(name=label, points=points, style=i, mark_every=every))
    return series


def _loss_by_source(report: Tree) -> list[Figure | None]:
    curves = [arm["curve"] for arm in report["arms"] if arm["curve"]]
    names = sorted({source["name"] for curve in curves for source in curve["loss_by_source"]})
    return [
        _source_losses(arm, i, label, names)
        for i, (arm, label) in enumerate(zip(report["arms"], arm_labels(report), strict=True))
        if arm["curve"]
    ]


def _source_losses(arm: Tree, i: int, label: str, names: Sequence[str]) -> Figure | None:
    series = [
        Series(
            name=visible(source["name"], 20),
            points=points,
            style=names.index(source["name"]),
            mark_every=max(1, len(points) // MARKS_ON_CURVE),
        )
        for source in arm["curve"]["loss_by_source"]
        if (points := _curve_points(arm["curve"], source["loss"]))
    ]
    if not series:
        return None
    title = f"Training loss by source, {label}"
    svg = _curve_chart(series, f"source-{i}", title, "loss (nats per token)", "f1", small=True)
    return Figure(group="sources", svg=svg, caption=f"{label}: {visible(arm['name'], 40)}")


def _curve_points(curve: Tree, values: Sequence[float | None]) -> tuple[Point, ...]:
    return tuple(
        Point(x=float(tokens), y=value)
        for tokens, value in zip(curve["tokens"], values, strict=True)
        if value is not None
    )


def _curve_chart(
    series: Sequence[Series], key: str, title: str, y_label: str, kind: str, small: bool = False
) -> str:
    every = flatten(series)
    chart = Chart(
        title=title,
        description=f"{y_label} by tokens trained, {len(series)} curves.",
        x=linear_axis("tokens trained", [0.0, *(p.x for p in every)], "tokens", floor=0.0),
        y=linear_axis(
            y_label, [p.y for p in every], kind, floor=0.0 if min(p.y for p in every) >= 0 else None
        ),
        series=tuple(series),
        width=400 if small else 560,
        height=300 if small else 360,
    )
    return draw(chart, key)


def _by_share(report: Tree) -> list[tuple[int, Tree]]:
    """Arms and control with their indices, by share; the shorter saturation run stays out."""
    kept = [(i, a) for i, a in enumerate(report["arms"]) if a["kind"] != "saturation"]
    return sorted(kept, key=lambda pair: (pair[1]["general_share"], pair[0]))


def _extent(points: Sequence[Point], axis: str) -> list[float]:
    """Every coordinate and interval limit of ``axis``."""
    values: list[float] = []
    for point in points:
        interval = point.x_interval if axis == "x" else point.y_interval
        values += [point.x if axis == "x" else point.y, *(interval or ())]
    return values


def _pair(interval: Sequence[float] | None) -> tuple[float, float] | None:
    return (interval[0], interval[1]) if interval else None
