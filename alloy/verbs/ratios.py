"""sweep: an arm for each general share, and the share that follows from them."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alloy.planning import run_folder
from alloy.reports.judging import Report, join_report
from alloy.reports.records import read_records
from alloy.sweep_record import SweepRecord
from alloy.sweeps import run_sweep
from alloy.verbs.result import Progress, to_stderr
from configs import CheckFailed, Recipe


@dataclass(frozen=True)
class SweepResult:
    """A finished sweep; ``folder`` is what ``alloy.report`` takes."""

    folder: Path
    record: SweepRecord
    """What sweep.json holds: the base and every arm, with where its records are."""
    report: Report
    """The same sweep judged, with nothing written."""

    @property
    def failures(self) -> list[str]:
        """A line for each arm without scores."""
        return self.record.failures()

    def table(self) -> str:
        """The record's file, what is recommended, and what confirming runs say."""
        told = [confirmation.text for confirmation in self.report.confirmations]
        lines = [str(self.folder / "sweep.json"), self.report.recommendation.text, *told]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """What sweep.json holds."""
        return self.record.to_json()

    def require_complete(self) -> None:
        """Raises CheckFailed where an arm failed."""
        failed = self.failures
        if failed:
            raise CheckFailed(
                f"{self.record.name}: {len(failed)} arms failed: {'; '.join(failed)}",
                "run it again: what is done is kept",
            )


def sweep(recipe: Recipe, *, confirm: bool = False, progress: Progress = to_stderr) -> SweepResult:
    """Train and measure an arm for each general share of a recipe; what is done is reused.

    ``confirm`` also trains the recommended share, which no law was fitted to, and judges it on the
    budgets. A failed arm is recorded with its reason and does not stop the others. Raises UserError
    for a recipe that has no sweep or cannot be planned, and CheckFailed where there is no share to
    confirm.

    >>> import alloy
    >>> swept = alloy.sweep(alloy.load("sweep.yaml"))
    >>> [(arm.name, arm.failed) for arm in swept.record.arms]
    [('general_0.25', None)]
    """
    folder = run_folder(recipe)
    record = run_sweep(recipe, progress)
    report = join_report(read_records(folder))
    if confirm:
        record = run_sweep(recipe, progress, _share_to_confirm(report))
        report = join_report(read_records(folder))
    return SweepResult(folder, record, report)


def _share_to_confirm(report: Report) -> float:
    """The recommended share, rounded up to a tenth of a per cent."""
    told = report.recommendation
    if told.general_share is None:
        raise CheckFailed(f"there is no share to confirm: {told.text}", "see `alloy report`")
    return math.ceil(round(told.general_share * 1000, 6)) / 1000
