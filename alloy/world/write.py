"""WorldConfig -> files: the one place where a world touches the disk."""

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from alloy.world.comments import make_comments
from alloy.world.config import WorldConfig, WorldFiles
from alloy.world.corpora import make_corpora
from alloy.world.exam import Exam, make_exam
from alloy.world.facts import make_facts
from alloy.world.tokenizer import train_tokenizer


def write_world(folder: Path, config: WorldConfig) -> WorldFiles:
    """Generate a world and write it under `folder`; the same config writes the same bytes."""
    files = WorldFiles.under(folder)
    folder.mkdir(parents=True, exist_ok=True)
    facts = make_facts(config)
    exam = make_exam(config, facts)
    corpora = make_corpora(config, facts, exam)
    train, test = make_comments(config)
    corpora["comments_train"] = [comment.document for comment in train]
    for name, texts in corpora.items():
        rows = ({"id": f"{name}-{index}", "text": text} for index, text in enumerate(texts))
        _write_jsonl(folder / f"{name}.jsonl", rows)
    _write_jsonl(
        files.comments_test,
        (
            {"id": f"comments_test-{index}", "prompt": comment.prompt, "label": comment.label}
            for index, comment in enumerate(test)
        ),
    )
    _write_exam(files, exam)
    read = [text for name in ("pretrain", "comments_train") for text in corpora[name]]
    train_tokenizer(read, config.vocab_size, files.tokenizer)
    return files


def _write_exam(files: WorldFiles, exam: Exam) -> None:
    """MMLU's original layout: headerless CSV rows of question, four options, letter."""
    for split, tables in (("dev", exam.dev), ("test", exam.test)):
        (files.exam / split).mkdir(parents=True, exist_ok=True)
        for subject, items in tables.items():
            path = files.exam / split / f"{subject}_{split}.csv"
            with path.open("w", encoding="utf-8", newline="") as stream:
                writer = csv.writer(stream, lineterminator="\n")
                writer.writerows((item.question, *item.options, item.letter) for item in items)
    _write_jsonl(
        files.exam_items,
        (
            {"subject": subject, "index": index, "replayed": item.replayed}
            for subject, items in exam.test.items()
            for index, item in enumerate(items)
        ),
    )


def _write_jsonl(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """One JSON object a line."""
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
