"""Turn public text into the inputs of the US Code recipes: python prepare.py CORPORA OUT

CORPORA holds law_us_code, general_novels, tech_peps and tech_rust_rfcs as .jsonl.zst with rows
{id, text, meta}. OUT receives, all JSONL:

    novels.jsonl, retention_novels.jsonl   every fifth novel is never trained on
    peps.jsonl, rfcs.jsonl                 as they are
    us_code.jsonl                          sections of the US Code
    us_code_titles.jsonl                   the start of each section, then the title it is in
    us_code_test.jsonl                     starts of held-out sections, to be named
    tokenizer.json                         byte-level BPE of 4,096 entries over the general side
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import xxhash
import zstandard

from alloy.world.tokenizer import train_tokenizer
from evals.records import write_records

HEAD_CHARACTERS = 300
"""Of a section's text that is shown before its title is asked."""
TEST_ROWS = 600
RETENTION_EVERY = 5
VOCABULARY = 4096
TOKENIZER_DOCUMENTS = 400
TOKENIZER_CHARACTERS = 20_000
_FOOTER = "\n\n----------\n\nPrevious"

Row = dict[str, Any]


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    corpora, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    novels = list(read(corpora / "general_novels.jsonl.zst"))
    trained = [n for i, n in enumerate(novels) if i % RETENTION_EVERY]
    write_records(out / "novels.jsonl", trained)
    write_records(out / "retention_novels.jsonl", novels[::RETENTION_EVERY])
    peps = list(read(corpora / "tech_peps.jsonl.zst"))
    rfcs = list(read(corpora / "tech_rust_rfcs.jsonl.zst"))
    write_records(out / "peps.jsonl", peps)
    write_records(out / "rfcs.jsonl", rfcs)
    write_us_code(corpora, out)
    rows = [*trained, *peps, *rfcs]
    sample = rows[:: max(1, len(rows) // TOKENIZER_DOCUMENTS)]
    texts = (row["text"][:TOKENIZER_CHARACTERS] for row in sample)
    train_tokenizer(texts, VOCABULARY, out / "tokenizer.json")


def write_us_code(corpora: Path, out: Path) -> None:
    """Sections, labelled starts, and a test side chosen by the hash of the section's text."""
    sections = [s for s in map(section, read(corpora / "law_us_code.jsonl.zst")) if s["text"]]
    sections.sort(key=lambda s: (xxhash.xxh3_64_intdigest(s["text"].encode()), s["id"]))
    test_texts = {s["text"] for s in sections[:TEST_ROWS]}
    trained = [s for s in sections if s["text"] not in test_texts]
    write_records(out / "us_code.jsonl", ({"id": s["id"], "text": s["text"]} for s in trained))
    labelled = ({"id": s["id"], "text": f"{asked(s)} {s['title']}\n"} for s in trained)
    write_records(out / "us_code_titles.jsonl", labelled)
    test = sections[:TEST_ROWS]
    rows = ({"id": s["id"], "prompt": asked(s), "label": s["title"]} for s in test)
    write_records(out / "us_code_test.jsonl", rows)


def section(row: Row) -> Row:
    """A section without the navigation under it; ``title`` is the number of its title."""
    text = row["text"].partition(_FOOTER)[0].strip()
    return {"id": row["id"], "text": text, "title": row["meta"]["title"].removeprefix("usc")}


def asked(section: Row) -> str:
    return f"{section['text'][:HEAD_CHARACTERS]}\nThis section is in title"


def read(path: Path) -> Iterator[Row]:
    with zstandard.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


if __name__ == "__main__":
    main()
