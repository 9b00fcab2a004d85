"""MMLU from the Hugging Face hub, in the Parquet layout of cais/mmlu.

    hub id, revision ─▶ huggingface_hub: snapshot of one commit ─▶ <subject>/{test,dev}-*.parquet

Each row has a question, a list of four choices and the answer as 0 to 3. What was fetched once is
read again without a network.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from configs import UserError

MMLU_HUB = "cais/mmlu"
LOCAL_HINT = "evals.mmlu.path names a local folder with test/*_test.csv and dev/*_dev.csv instead"
_SPLITS = ("test", "dev")
_REPEATED = "all"  # cais/mmlu's configuration that holds every subject once more
_COLUMNS = ("question", "choices", "answer")


@dataclass(frozen=True)
class HubExam:
    """Where the files are, and the commit that they are of; None of a local folder."""

    folder: Path
    revision: str | None


def fetch_exam(hub: str, revision: str | None) -> HubExam:
    """The test and dev files of a dataset, or of its local copy.

    Without a ``revision`` the newest commit is taken, or, where the hub cannot be reached, the one
    that was fetched last. Raises UserError where there is neither.
    """
    local = Path(hub).expanduser()
    if local.is_dir():
        if revision is not None:
            raise UserError(f"{hub} is a folder, which has no revision '{revision}'", "remove it")
        return HubExam(local, None)
    patterns = [f"*/{split}-*.parquet" for split in _SPLITS]
    try:
        folder = snapshot_download(
            hub,
            repo_type="dataset",
            revision=revision,
            allow_patterns=patterns,
            ignore_patterns=[f"{_REPEATED}/*"],
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        at = f" at revision '{revision}'" if revision else ""
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"evals.mmlu: {hub}{at} cannot be had: {reason}", LOCAL_HINT) from None
    return HubExam(Path(folder), Path(folder).name)  # a snapshot's folder is called by its commit


def exam_files(folder: Path, split: str) -> dict[str, Path]:
    """{subject: file} of a split. Raises UserError where a subject has several."""
    files: dict[str, Path] = {}
    for path in sorted(folder.glob(f"*/{split}-*.parquet")):
        subject = path.parent.name
        if subject in files:
            raise UserError(
                f"{path.parent}: several {split} files", "a subject has one file a split"
            )
        if subject != _REPEATED:
            files[subject] = path
    return files


def parquet_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(row from 1, cells) with the cells of a CSV row: question, four choices, answer."""
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: not Parquet: {error}", LOCAL_HINT) from None
    missing = [name for name in _COLUMNS if name not in table.column_names]
    if missing:
        raise UserError(f"{path}: no column '{missing[0]}'", f"needed: {', '.join(_COLUMNS)}")
    for number, row in enumerate(table.select(_COLUMNS).to_pylist(), 1):
        choices = row["choices"] or []
        yield number, [_text(cell) for cell in (row["question"], *choices, row["answer"])]


def _text(cell: object) -> str:
    return "" if cell is None else str(cell)
