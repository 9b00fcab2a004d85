"""report: the records of sweeps as one page, JSON and Markdown, with a gate and a model card."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alloy.reports.judging import GateVerdict, Report, gate
from alloy.reports.writing import headline_table, model_card, write_report
from configs import CheckFailed


@dataclass(frozen=True)
class ReportResult:
    """A report and the files that it was written to."""

    report: Report
    html: Path
    json: Path
    markdown: Path

    def table(self) -> str:
        """The headline table: base, arms, changes, verdicts."""
        return headline_table(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """What report.json holds."""
        return self.report.to_json()

    def gate(self, arm: str | None = None) -> GateVerdict:
        """Whether an arm keeps every budget; left out: the confirmed or recommended one."""
        return gate(self.to_json(), arm)

    def require_kept(self, arm: str | None = None) -> str:
        """The sentence that every budget is kept. Raises CheckFailed where one is not."""
        told = self.gate(arm)
        if told.word != "kept":
            raise CheckFailed(told.text, "see the budgets in the report")
        return told.text

    def write_model_card(self, arm: str | None = None) -> Path:
        """Write model_card.md of an arm beside the page."""
        path = self.html.with_name("model_card.md")
        path.write_text(model_card(self.to_json(), arm), encoding="utf-8")
        return path


def report(
    folder: str | Path,
    more: Sequence[str | Path] = (),
    *,
    out: str | Path | None = None,
    price: float | None = None,
) -> ReportResult:
    """Join the records below a sweep's ``folder`` and ``more`` and write the report.

    ``out`` is the folder of the report, the sweep's own where left out; ``price`` is of one rank
    for an hour. Raises UserError where a sweep.json is missing or damaged.

    >>> import alloy
    >>> reported = alloy.report("runs/tiny_sweep")
    >>> [arm.name for arm in reported.report.arms]
    ['general_0.25']
    >>> reported.html.name
    'report.html'
    """
    place = None if out is None else Path(out)
    files = write_report(Path(folder), place, more=[Path(m) for m in more], price=price)
    return ReportResult(files.report, files.html, files.json, files.markdown)
