"""The HTML page: one file that asks nothing of the network.

Every number on it is looked up in the report by its JSON path and carries that path, so that the
page can be checked against report.json.
"""

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from alloy.reports.drawing import arm_labels, draw, figures
from alloy.reports.judging import WORDS, budget_title
from alloy.reports.paths import lookup
from alloy.reports.text import MISSING, number, visible
from alloy.reports.writing.headline import verdict_word

Tree = dict[str, Any]
_HERE = Path(__file__).parent


def html_page(report: Tree) -> str:
    """The report, with those of other bases below it, as one self-contained HTML document."""
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    bodies = [_body(environment, report, "")]
    bodies += [
        _body(environment, other, f"others.{i}.") for i, other in enumerate(report["others"])
    ]
    return environment.get_template("page.html.j2").render(
        report=report,
        css=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        bodies=Markup("\n").join(bodies),
        n=_View(report, "").number,
        visible=visible,
    )


def _body(environment: Environment, report: Tree, prefix: str) -> Markup:
    """One report; ``prefix`` is where it lies in report.json."""
    suffix = prefix.replace(".", "-").rstrip("-")
    suffix = f"-{suffix}" if suffix else ""
    groups: dict[str, list[Any]] = {}
    for figure in figures(report):
        svg = Markup(draw(figure.chart, figure.key + suffix, prefix))
        groups.setdefault(figure.group, []).append({"svg": svg, "caption": figure.caption})
    view = _View(report, prefix)
    return Markup(
        environment.get_template("body.html.j2").render(
            report=report,
            suffix=suffix,
            groups=groups,
            n=view.number,
            between=view.interval,
            said=view.text,
            named=view.name,
            in_lineage=view.lineage_cell,
            entries=[("base", report["base"])]
            + [(f"arms.{i}", arm) for i, arm in enumerate(report["arms"])],
            labels=arm_labels(report),
            verdict_word=verdict_word,
            words=WORDS,
            budget_title=budget_title,
            breakdowns=_breakdowns(report),
            lineage_keys=_lineage_keys(report),
        )
    )


def _breakdowns(report: Tree) -> list[tuple[str, list[Tree]]]:
    """By category and by subject; one category alone is the exam as a whole."""
    found = [(by, breakdown(report, by)) for by in ("category", "subject")]
    return [(by, rows) for by, rows in found if by == "subject" or len(rows) > 1]


def breakdown(report: Tree, by: str) -> list[Tree]:
    """Rows of the table by category or subject: the base's path, and each arm's path or None."""
    rows = []
    for at, row in enumerate(report["base"][f"by_{by}"]):
        arms = []
        for i, arm in enumerate(report["arms"]):
            names = [other["name"] for other in arm[f"by_{by}"]]
            found = names.index(row["name"]) if row["name"] in names else None
            arms.append(None if found is None else f"arms.{i}.by_{by}.{found}")
        rows.append({"base": f"base.by_{by}.{at}", "name": row["name"], "arms": arms})
    return rows


def _lineage_keys(report: Tree) -> list[str]:
    """Keys of all lineages, in the order in which they first occur."""
    entries = (report["base"], *report["arms"])
    return list(dict.fromkeys(key for entry in entries for key in entry["lineage"] or {}))


class _View:
    """Values of the report as escaped elements that carry their path."""

    def __init__(self, report: Tree, prefix: str) -> None:
        self._report, self._prefix = report, prefix

    def number(self, path: str, kind: str) -> Markup:
        """A number, or the dash of a missing one."""
        text = number(lookup(self._report, path), kind)
        return Markup('<span class="n" data-path="{}" data-kind="{}">{}</span>').format(
            self._prefix + path, kind, text
        )

    def interval(self, path: str, kind: str) -> Markup:
        """The two limits at ``path``, on a line of their own; nothing where there are none."""
        if lookup(self._report, path) is None:
            return Markup("")
        low, high = self.number(f"{path}.0", kind), self.number(f"{path}.1", kind)
        return Markup('<small class="between">{} to {}</small>').format(low, high)

    def text(self, path: str) -> Markup:
        """A sentence of the report."""
        return Markup('<span data-path="{}" data-kind="text">{}</span>').format(
            self._prefix + path, visible(lookup(self._report, path))
        )

    def name(self, text: object, limit: int = 40) -> Markup:
        """A name from the records: isolated in direction, cut to ``limit`` characters."""
        short, whole = visible(text, limit), visible(text, 400)
        title = Markup(' title="{}"').format(whole) if short != whole else Markup("")
        # A long name of words_with_underscores breaks at them.
        parts = Markup("_<wbr>").join(short.split("_"))
        return Markup("<bdi{}>{}</bdi>").format(title, parts)

    def lineage_cell(self, path: str, key: str) -> Markup:
        """One value of a lineage as JSON."""
        lineage = lookup(self._report, f"{path}.lineage")
        if not lineage or key not in lineage:
            return Markup(MISSING)
        value = lineage[key]
        whole = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return Markup(
            '<span data-path="{}.lineage" data-key="{}" data-kind="json">{}</span>'
        ).format(self._prefix + path, visible(key), self.name(whole, 18))
