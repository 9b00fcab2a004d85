"""Turns the report's numbers into charts. A chart whose numbers were not measured is left out."""

from collections.abc import Sequence
from typing import Any

from alloy.reports.drawing.axis import linear_axis
from alloy.reports.drawing.charts import Chart, Guide, Point, Series, extent, flatten, pair
from alloy.reports.drawing.share_figures import Figure, share_figures
from alloy.reports.drawing.task_figures import precision_recall
from alloy.reports.text import number, visible

Tree = dict[str, Any]
MARKS_ON_CURVE = 6


def figures(report: Tree) -> list[Figure]:
    """Every chart of the page, in its order."""
    drawn = [_front(report), *share_figures(report)]
    drawn += [precision_recall(report, arm_labels(report))]
    drawn += [_loss(report), _learning_rate(report), _mix(report)]
    drawn += [*_by_source(report, "curve"), *_by_source(report, "heldout")]
    return [figure for figure in drawn if figure is not None]


def arm_labels(report: Tree) -> list[str]:
    """A short label for each arm: its share (of a merge its lambda, of an average its count) where
    that is unique among its kind, else its name."""
    texts = [_arm_label(arm) for arm in report["arms"]]
    return [
        text if texts.count(text) == 1 else visible(arm["name"], 24)
        for text, arm in zip(texts, report["arms"], strict=True)
    ]


def _arm_label(arm: Tree) -> str:
    if arm["kind"] == "merge":
        return f"merge {arm['merge']['lambda']:g}"
    if arm["kind"] == "average":
        return f"mean of {arm['average']['checkpoints']}"
    suffix = {"arm": "", "control": " control", "saturation": " short", "confirm": " confirm"}
    return number(arm["general_share"], "share") + suffix[arm["kind"]]


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
    reach = [*extent(every, "x"), *(guide.value for guide in guides)]
    chart = Chart(
        title="Exam accuracy against domain F1",
        description="Each model with 95% intervals; the dashed line joins those that no other "
        "measured model beats on both. The numbers are in the headline table.",
        x=linear_axis("exam accuracy (%)", reach, "percent"),
        y=linear_axis("domain F1 (weighted)", extent(every, "y"), "f1", floor=0.0),
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
    kinds = {arm["kind"] for arm in report["arms"]}
    if "merge" in kinds:
        caption += " A merge, which was not trained, has its part of the way from the base."
    if "average" in kinds:
        caption += " A mean is that of so many last checkpoints of one run."
    return Figure(group="front", key="front", chart=chart, caption=caption)


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
        x_interval=pair(entry["exam_interval"]),
        y_interval=pair(entry["domain_interval"]),
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


def _loss(report: Tree) -> Figure | None:
    series = _curves(report, "loss")
    if not series:
        return None
    steps = max(arm["curve"]["steps_per_point"] for arm in report["arms"] if arm["curve"])
    chart = _curve_chart(
        series, "Training loss over tokens", "training loss (nats per token)", "f1"
    )
    averaged = f" Each point is the mean of up to {steps} logged steps." if steps > 1 else ""
    caption = (
        "Training loss on each arm's own blend; arms with different blends are not comparable "
        f"by it.{averaged}"
    )
    return Figure(group="training", key="loss", chart=chart, caption=caption)


def _learning_rate(report: Tree) -> Figure | None:
    series = _curves(report, "lr")
    if not series:
        return None
    caption = "Learning rate over tokens."
    if len(series) > 1 and len({tuple((p.x, p.y) for p in s.points) for s in series}) == 1:
        first = series[0]
        series = [Series(name="all arms", points=first.points, style=0, markers=False)]
        caption = "Learning rate over tokens, the same in all arms."
    chart = _curve_chart(series, "Learning rate over tokens", "learning rate", "lr")
    return Figure(group="training", key="lr", chart=chart, caption=caption)


def _curves(report: Tree, field: str) -> list[Series]:
    series = []
    for i, (arm, label) in enumerate(zip(report["arms"], arm_labels(report), strict=True)):
        points = _curve_points(arm["curve"], arm["curve"][field]) if arm["curve"] else ()
        if points:
            every = max(1, len(points) // MARKS_ON_CURVE)
            series.append(Series(name=label, points=points, style=i, mark_every=every))
    return series


def _mix(report: Tree) -> Figure | None:
    """The general share of each phase, as its receipt has it, over the tokens of the run."""
    series = []
    for i, (arm, label) in enumerate(zip(report["arms"], arm_labels(report), strict=True)):
        points = _mix_points(arm)
        if points:
            series.append(Series(name=label, points=points, style=i, dashed=True))
    if not series:
        return None
    chart = _curve_chart(series, "Mix over tokens", "general share (%)", "percent")
    caption = "General share of what was trained on, by phase, as the receipts count it."
    return Figure(group="training", key="mix", chart=chart, caption=caption)


def _mix_points(arm: Tree) -> tuple[Point, ...]:
    phases = (arm["receipt"] or {}).get("phases") or []
    rows = sum(phase["rows"] or 0 for phase in phases)
    points, done = [], 0.0
    for phase in phases:
        shares = [s["realised_share"] for s in phase["sources"] if s["role"] == "general"]
        if not phase["rows"] or None in shares:
            return ()
        begin, done = done, done + arm["tokens"] * phase["rows"] / rows
        points += [Point(x=at, y=sum(shares)) for at in (begin, done)]
    return tuple(points)


_OVER_TOKENS = {
    "curve": ("loss_by_source", "loss", "Training loss", "loss (nats per token)", "f1"),
    "heldout": ("sources", "bpb", "Held-out text", "bits per byte", "bpb"),
}
"""By key of an arm: where its sources are, what they have, the title, the axis and its numbers."""


def _by_source(report: Tree, key: str) -> list[Figure | None]:
    """A chart for each arm with a curve for each source."""
    inner = _OVER_TOKENS[key][0]
    curves = [arm[key] for arm in report["arms"] if arm[key]]
    names = sorted({source["name"] for curve in curves for source in curve[inner]})
    return [
        _arm_by_source(arm, i, label, names, key)
        for i, (arm, label) in enumerate(zip(report["arms"], arm_labels(report), strict=True))
        if arm[key]
    ]


def _arm_by_source(arm: Tree, i: int, label: str, names: Sequence[str], key: str) -> Figure | None:
    inner, field, what, y_label, kind = _OVER_TOKENS[key]
    series = [
        Series(
            name=visible(source["name"], 20),
            points=points,
            style=names.index(source["name"]),
            mark_every=max(1, len(points) // MARKS_ON_CURVE),
        )
        for source in arm[key][inner]
        if (points := _curve_points(arm[key], source[field]))
    ]
    if not series:
        return None
    chart = _curve_chart(series, f"{what} by source, {label}", y_label, kind, small=True)
    caption = f"{label}: {visible(arm['name'], 40)}"
    return Figure(group=f"{key}_sources", key=f"{key}-{i}", chart=chart, caption=caption)


def _curve_points(curve: Tree, values: Sequence[float | None]) -> tuple[Point, ...]:
    return tuple(
        Point(x=float(tokens), y=value)
        for tokens, value in zip(curve["tokens"], values, strict=True)
        if value is not None
    )


def _curve_chart(
    series: Sequence[Series], title: str, y_label: str, kind: str, small: bool = False
) -> Chart:
    every = flatten(series)
    return Chart(
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
