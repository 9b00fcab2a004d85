"""Two public label sets as recipes' inputs: python prepare.py CORPORA TASKS OUT

CORPORA holds tech_peps, tech_rust_rfcs and general_novels as .jsonl.zst with rows {id, text}; TASKS
holds clinc150/{data_full,domains}.json and openai_moderation/samples-1680.jsonl.gz. OUT receives:

    general.jsonl, retention.jsonl         PEPs, RFCs and the first novels in passages; every
                                           tenth document is never trained on
    clinc150.jsonl, clinc150_test.jsonl    utterance, then "domain > intent"; in-scope rows
    clinc150_labels.txt                    the 150 paths
    moderation.jsonl, moderation_test.jsonl text, then the verdict
    moderation_split.json                  which rows are tested, by the hash of their text
    tokenizer.json                         byte-level BPE of 4,096 entries over the training text

The published CLINC150 split is kept (validation rows are trained on). OpenAI's moderation set has
none: rows are ordered by the sha256 of their text and the first 480 are tested; texts that occur
twice stay on one side.
"""

import gzip
import hashlib
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard

from alloy.world.tokenizer import train_tokenizer
from evals.records import write_records

CATEGORIES = ("S", "H", "V", "HR", "SH", "S3", "H2", "V2")
MODERATION_TEST_TEXTS = 480
RETENTION_EVERY = 10
NOVELS = 20
PASSAGE_CHARACTERS = 20_000
VOCABULARY = 4096
TEXT_CHARACTERS = 1200
"""Of a moderated text that is shown: 1 in 12 is longer, up to 6,000."""

Row = dict[str, Any]


def main() -> None:
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    corpora, tasks, out = map(Path, sys.argv[1:])
    out.mkdir(parents=True, exist_ok=True)
    general = list(general_text(corpora))
    trained = [row for i, row in enumerate(general) if i % RETENTION_EVERY]
    write_records(out / "general.jsonl", trained)
    write_records(out / "retention.jsonl", general[::RETENTION_EVERY])
    labelled = [*clinc150(tasks / "clinc150", out), *moderation(tasks / "openai_moderation", out)]
    train_tokenizer(
        (row["text"] for row in [*trained[::3], *labelled]), VOCABULARY, out / "tokenizer.json"
    )


def general_text(corpora: Path) -> Iterator[Row]:
    for name, most in (("tech_peps", None), ("tech_rust_rfcs", None), ("general_novels", NOVELS)):
        with zstandard.open(corpora / f"{name}.jsonl.zst", "rt", encoding="utf-8") as lines:
            for row in map(json.loads, itertools.islice(lines, most)):
                starts = range(0, len(row["text"]), PASSAGE_CHARACTERS)
                for part, start in enumerate(starts):
                    text = row["text"][start : start + PASSAGE_CHARACTERS]
                    yield {"id": f"{name}-{row['id']}-{part}", "text": text}


def clinc150(folder: Path, out: Path) -> list[Row]:
    """Writes the test side and the labels; returns the training rows."""
    domains = json.loads((folder / "domains.json").read_text())
    path = {intent: f"{domain} > {intent}" for domain, own in domains.items() for intent in own}
    (out / "clinc150_labels.txt").write_text("".join(f"{p}\n" for p in sorted(path.values())))
    data = json.loads((folder / "data_full.json").read_text())
    test = [
        {"id": f"test-{n}", "utterance": text, "label": path[intent]}
        for n, (text, intent) in enumerate(data["test"])
    ]
    test.sort(key=lambda row: digest(row["utterance"]))  # a limit takes every intent
    write_records(out / "clinc150_test.jsonl", test)
    rows = [
        {"id": f"{split}-{n}", "text": f"Utterance: {text}\nIntent: {path[intent]}\n"}
        for split in ("train", "val")
        for n, (text, intent) in enumerate(data[split])
    ]
    write_records(out / "clinc150.jsonl", rows)
    return rows


def moderation(folder: Path, out: Path) -> list[Row]:
    """Writes the test side and the split; returns the training rows."""
    with gzip.open(folder / "samples-1680.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    texts = sorted({row["prompt"] for row in rows}, key=digest)
    tested = set(texts[:MODERATION_TEST_TEXTS])
    test, trained = [], []
    for n, row in enumerate(rows):
        shown = row["prompt"][:TEXT_CHARACTERS]
        if row["prompt"] in tested:
            test.append({"id": str(n), "comment": shown, "label": verdict(row)})
        else:
            text = f"Comment: {shown}\nViolation: {verdict(row)}\n"
            trained.append({"id": str(n), "text": text})
    split = {"test_rows": [row["id"] for row in test], "rule": "first 480 texts by sha256"}
    split |= {"test_hash": digest("".join(sorted(map(digest, tested))))}
    (out / "moderation_split.json").write_text(json.dumps(split) + "\n")
    write_records(out / "moderation_test.jsonl", test)
    write_records(out / "moderation.jsonl", trained)
    return trained


def verdict(row: Row) -> str:
    """A category that is not in a row was not labelled there, and counts as absent."""
    found = [category for category in CATEGORIES if row.get(category) == 1]
    return f"Yes: {', '.join(found)}" if found else "No"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    main()
