"""Writes report.html, report.json and report.md of a sweep's folder."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alloy.reports.judging import Report, join_reports
from alloy.reports.records import read_records
from alloy.reports.writing.markdown import markdown_report
from alloy.reports.writing.page import html_page
from configs import UserError


@dataclass(frozen=True, kw_only=True)
class ReportFiles:
    """The report and where it lies."""

    report: Report
    html: Path
    json: Path
    markdown: Path


def write_report(
    folder: Path,
    out: Path | None = None,
    *,
    more: Sequence[Path] = (),
    price: float | None = None,
) -> ReportFiles:
    """Join the records below ``folder`` and ``more`` (see ``records``) and write them to ``out``.

    ``out`` is the sweep's folder where left out; several folders need one. ``price`` is of a rank
    for an hour. Each file is replaced as a whole, report.json last, so that a report.json is never
    newer than its page. Raises UserError where a sweep.json is missing or damaged, or the folder
    cannot be written.
    """
    if more and out is None:
        raise UserError(
            f"{1 + len(more)} folders are joined and none is the report's", "give --out"
        )
    report = join_reports([read_records(one) for one in (folder, *more)], price)
    tree = report.to_json()
    out = folder if out is None else out
    files = ReportFiles(
        report=report,
        html=out / "report.html",
        json=out / "report.json",
        markdown=out / "report.md",
    )
    contents = {
        files.html: html_page(tree),
        files.markdown: markdown_report(tree),
        files.json: json.dumps(tree, indent=1, allow_nan=False) + "\n",
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path, text in contents.items():
            _replace(path, text)
    except OSError as error:
        raise UserError(
            f"{out}: cannot write the report ({error.strerror})", "give --out"
        ) from None
    return files


def _replace(path: Path, text: str) -> None:
    """Write beside the target and rename, so that nobody reads half a file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
