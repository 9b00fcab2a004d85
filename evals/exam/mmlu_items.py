"""Multiple-choice questions in MMLU's layouts: CSV folders of either release, or the hub's Parquet.

The original release has no header: question, four choices, letter A-D. The later one has the
header question,choice0..choice3,answer with answers 0-3. Both are told apart by the first row.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from configs import MmluTask, UserError
from evals.exam.mmlu_hub import LOCAL_HINT, MMLU_HUB, exam_files, fetch_exam, parquet_rows
from evals.exam.subjects import MMLU_CATEGORIES

LETTERS = "ABCD"
_COLUMNS = ("question", "choice0", "choice1", "choice2", "choice3", "answer")
CATEGORIES_FILE = "categories.json"


@dataclass(frozen=True)
class MmluItem:
    """One question; ``answer`` indexes ``choices``, ``index`` counts the rows of its file."""

    subject: str
    index: int
    question: str
    choices: tuple[str, str, str, str]
    answer: int


@dataclass(frozen=True)
class MmluSubject:
    """One subject: worked examples (only as many as are shown) and questions, in file order."""

    name: str
    category: str
    shots: tuple[MmluItem, ...]
    test: tuple[MmluItem, ...]


@dataclass(frozen=True)
class Exam:
    """All that is asked. ``replayed`` maps (subject, index) to whether the general sources hold
    the fact; None where no list was given. ``origin`` says where the questions are from."""

    subjects: tuple[MmluSubject, ...]
    shots: int
    replayed: dict[tuple[str, int], bool] | None = None
    origin: Mapping[str, str | None] = field(default_factory=dict)

    def items(self) -> Iterator[MmluItem]:
        """Every question, in the order of the records."""
        return (item for subject in self.subjects for item in subject.test)


def load_exam(task: MmluTask) -> Exam:
    """Read the folder that ``task`` names, or its dataset of the hub.

    Subjects come in the order of their names, questions in file order; a limit keeps the first
    ones of each subject, as lm-eval's does. Raises UserError naming file and line.
    """
    files = _csv_files(Path(task.path)) if task.path is not None else _hub_files(task)
    subjects = []
    for name, path in files.test.items():
        test = read_items(path, name)
        category = MMLU_CATEGORIES.get(name, files.categories.get(name, "other"))
        shots = _shots(files.dev[name], name, task.shots)
        subjects.append(MmluSubject(name, category, shots, test))
    replayed = None if task.items is None else _read_replayed(Path(task.items), subjects)
    if task.limit_per_subject is not None:
        limit = task.limit_per_subject
        subjects = [MmluSubject(s.name, s.category, s.shots, s.test[:limit]) for s in subjects]
    return Exam(tuple(subjects), task.shots, replayed, files.origin)


@dataclass(frozen=True)
class _Files:
    """The files of each subject, by its name and in the order of the names."""

    test: Mapping[str, Path]
    dev: Mapping[str, Path]
    categories: Mapping[str, str]
    origin: Mapping[str, str | None]


def _csv_files(folder: Path) -> _Files:
    names = _subject_names(folder)
    test = {name: folder / "test" / f"{name}_test.csv" for name in names}
    dev = {name: folder / "dev" / f"{name}_dev.csv" for name in names}
    return _Files(test, dev, _categories(folder), {"path": str(folder)})


def _hub_files(task: MmluTask) -> _Files:
    """Raises UserError where a copy of MMLU lacks subjects, as one that was fetched in parts."""
    hub = task.hub or MMLU_HUB
    found = fetch_exam(hub, task.revision)
    test, dev = (exam_files(found.folder, split) for split in ("test", "dev"))
    if not test:
        raise UserError(f"evals.mmlu: {hub} has no <subject>/test-*.parquet", LOCAL_HINT)
    missing = sorted(MMLU_CATEGORIES.keys() - test.keys())
    if hub == MMLU_HUB and missing:
        raise UserError(
            f"evals.mmlu: the copy of {hub} has {len(test)} of MMLU's {len(MMLU_CATEGORIES)} "
            f"subjects, the first that it lacks is {missing[0]}",
            f"go online to fetch the others; {LOCAL_HINT}",
        )
    places = {name: dev.get(name, path.with_name("dev-*.parquet")) for name, path in test.items()}
    origin = {"hub": hub, "revision": found.revision}
    return _Files(test, places, _categories(found.folder), origin)


def read_items(path: Path, subject: str) -> tuple[MmluItem, ...]:
    """The questions of one CSV or Parquet file. Raises UserError naming file and line."""
    if path.suffix == ".parquet":
        items = tuple(
            _item(path, row, subject, row - 1, cells, "0123") for row, cells in parquet_rows(path)
        )
        if not items:
            raise UserError(f"{path}: no rows", "add rows")
        return items
    rows = list(_csv_rows(path))
    if not rows:
        raise UserError(f"{path}: no rows", "each row is a question, four choices and the answer")
    columns = _header(path, rows[0][1])
    if columns is None:
        return tuple(
            _item(path, line, subject, index, row, LETTERS)
            for index, (line, row) in enumerate(rows)
        )
    items = []
    for index, (line, row) in enumerate(rows[1:]):
        if len(row) <= max(columns):
            raise UserError(
                f"{path}:{line}: {len(row)} columns, the header has {len(rows[0][1])}",
                "quote fields that hold a comma",
            )
        cells = [row[column] for column in columns]
        items.append(_item(path, line, subject, index, cells, "0123"))
    if not items:
        raise UserError(f"{path}: a header and no questions", "add rows")
    return tuple(items)


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of every row that is not blank."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            for row in reader:
                if row:
                    yield reader.line_num, row
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file", "give the folder that holds test/ and dev/"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}", "save it as UTF-8") from None
    except csv.Error as error:
        raise UserError(f"{path}: not CSV: {error}", "check the quotes") from None


def _header(path: Path, first: Sequence[str]) -> list[int] | None:
    """Where the six columns stand; None where the first row is a question."""
    names = [cell.strip().lower() for cell in first]
    if len(set(names) & set(_COLUMNS)) < 3:
        return None
    missing = [column for column in _COLUMNS if column not in names]
    if missing:
        raise UserError(
            f"{path}:1: the header has no column '{missing[0]}'", f"needed: {','.join(_COLUMNS)}"
        )
    return [names.index(column) for column in _COLUMNS]


def _item(
    path: Path, line: int, subject: str, index: int, cells: Sequence[str], keys: str
) -> MmluItem:
    if len(cells) != len(_COLUMNS):
        raise UserError(
            f"{path}:{line}: {len(cells)} columns, not 6",
            "a row is question, four choices, answer; quote fields that hold a comma",
        )
    question, a, b, c, d, key = cells
    answer = keys.find(key.strip()) if len(key.strip()) == 1 else -1
    if answer < 0:
        raise UserError(
            f"{path}:{line}: the answer is '{key}'",
            f"valid answers in this layout: {', '.join(keys)}",
        )
    for name, text in zip(_COLUMNS, cells, strict=True):
        if not text.strip():
            raise UserError(f"{path}:{line}: {name} is empty", "every question has four choices")
    return MmluItem(subject, index, question, (a, b, c, d), answer)


def _subject_names(folder: Path) -> list[str]:
    suffix = "_test.csv"
    names = sorted(p.name.removesuffix(suffix) for p in (folder / "test").glob(f"*{suffix}"))
    if not names:
        raise UserError(
            f"{folder}: no test/*_test.csv", "give a folder in MMLU's layout: test/ and dev/"
        )
    return names


def _shots(path: Path, subject: str, shots: int) -> tuple[MmluItem, ...]:
    """The first ``shots`` dev rows, which every question of the subject shows."""
    if shots == 0:
        return ()
    if not path.exists():
        raise UserError(f"{path}: no dev rows for {shots} shots", "add the file, or set shots: 0")
    items = read_items(path, subject)
    if len(items) < shots:
        raise UserError(
            f"{path}: {len(items)} dev rows, {shots} shots asked", f"set shots: {len(items)}"
        )
    return items[:shots]


def _categories(folder: Path) -> dict[str, str]:
    """{subject: category} of an exam that is not MMLU; without the file all are 'other'."""
    path = folder / CATEGORIES_FILE
    if not path.exists():
        return {}
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not JSON: {error}", "write {subject: category}") from None
    if not isinstance(tree, dict) or not all(isinstance(value, str) for value in tree.values()):
        raise UserError(f"{path}: not a mapping of names", "write {subject: category}")
    return tree


def _read_replayed(path: Path, subjects: Sequence[MmluSubject]) -> dict[tuple[str, int], bool]:
    """The sidecar; it must name every question once, or some would be in neither half."""
    known = {(item.subject, item.index) for subject in subjects for item in subject.test}
    replayed: dict[tuple[str, int], bool] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file", "correct evals.mmlu.items") from None
    for number, line in enumerate(lines, 1):
        key, value = _replayed_row(f"{path}:{number}", line)
        if key not in known:
            raise UserError(f"{path}:{number}: the exam has no {key[0]} {key[1]}", "0-based rows")
        if key in replayed:
            raise UserError(f"{path}:{number}: {key[0]} {key[1]} is named twice", "remove one")
        replayed[key] = value
    missing = sorted(known - replayed.keys())
    if missing:
        raise UserError(
            f"{path}: {len(missing)} questions are not in it, the first {missing[0][0]} "
            f"{missing[0][1]}",
            "name every question, replayed or not",
        )
    return replayed


def _replayed_row(where: str, line: str) -> tuple[tuple[str, int], bool]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    match row:
        case {"subject": str(subject), "index": int(index), "replayed": bool(value)}:
            return (subject, index), value
    raise UserError(
        f"{where}: not an item", 'write {"subject": "...", "index": 0, "replayed": true}'
    )
