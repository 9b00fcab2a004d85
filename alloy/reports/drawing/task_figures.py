"""How certain the models' answers are: precision over recall of a task of the domain."""

from typing import Any

from alloy.reports.drawing.axis import linear_axis
from alloy.reports.drawing.charts import Chart, Point, Series, flatten
from alloy.reports.drawing.share_figures import Figure
from alloy.reports.text import visible

Tree = dict[str, Any]
_MARKS_ON_CURVE = 6


def precision_recall(report: Tree, labels: list[str]) -> Figure | None:
    """The curves of the first task that has any, a line for each model; ``labels`` of the arms."""
    names = [task["name"] for task in report["base"]["domain_tasks"]]
    found = [(name, _curves(report, name, labels)) for name in names]
    name, series = next(((name, curves) for name, curves in found if curves), ("", []))
    if not series:
        return None
    every = flatten(series)
    chart = Chart(
        title=f"Precision over recall, {visible(name, 28)}",
        description=f"Answers from the most certain on, {len(series)} models.",
        x=linear_axis("recall", [p.x for p in every], "f1", floor=0.0),
        y=linear_axis("precision", [p.y for p in every], "f1", floor=0.0),
        series=tuple(series),
        width=560,
        height=360,
    )
    caption = (
        "Of the answers (or likeliest labels) that are at least so certain, the share that is "
        "right, over the share of all rows that they answer rightly."
    )
    return Figure(group="domain", key="precision-recall", chart=chart, caption=caption)


def _curves(report: Tree, name: str, labels: list[str]) -> list[Series]:
    entries = [("base", "base", report["base"])]
    entries += [
        (f"arms.{i}", label, arm)
        for i, (arm, label) in enumerate(zip(report["arms"], labels, strict=True))
    ]
    series = []
    for style, (path, label, entry) in enumerate(entries, -1):
        for at, task in enumerate(entry["domain_tasks"]):
            points = (task["precision_recall"] or {}).get("points") or []
            if task["name"] != name or not points:
                continue
            place = f"{path}.domain_tasks.{at}.precision_recall.points"
            marks = tuple(
                Point(x=recall, y=found, x_path=f"{place}.{i}.2", y_path=f"{place}.{i}.1")
                for i, (_, found, recall) in enumerate(points)
            )
            every = max(1, len(marks) // _MARKS_ON_CURVE)
            series.append(Series(name=label, points=marks, style=style, mark_every=every))
    return series
