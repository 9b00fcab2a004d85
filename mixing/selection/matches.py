"""Where eval items were found in a built source, kept beside it in the store.

    Contamination ─▶ <store>/.decontaminated/<source key>-<hash of the eval set>-r<rule>.jsonl

The name holds all that decides the content, so matching runs once for each source and eval set,
whatever recipes share the store. The first line is a header, every other one a match for review.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from configs import UserError
from mixing.publish import replace_file
from mixing.selection.decontaminate import EvalSet, ItemIndex, Match, contamination, merged_spans
from mixing.selection.exclude import Spans
from mixing.store import SourceReader
from mixing.tokens import Decoder

FOLDER = ".decontaminated"
RULE_VERSION = 1
"""Counts the changes of ``mixing.selection.decontaminate`` that may change a match."""


@dataclass(frozen=True)
class FoundItems:
    """What is stored of one eval set in one source. ``unjudged``: items with too few words or
    none but common n-grams."""

    path: Path
    spans: Spans
    items: int
    unjudged: int


def matches_path(store: Path, source_key: str, eval_hash: str) -> Path:
    return store / FOLDER / f"{source_key}-{eval_hash}-r{RULE_VERSION}.jsonl"


def find_items(
    reader: SourceReader,
    documents: np.ndarray,
    decoder: Decoder,
    evals: Sequence[EvalSet],
    store: Path,
) -> None:
    """Look for all eval sets in these documents of a source, and store a file for each."""
    found = contamination(reader, documents, decoder, ItemIndex(evals))
    for wanted in evals:
        matches = [m for m in found.matches if m.eval_name == wanted.name]
        header = {
            "source_key": reader.key,
            "eval_name": wanted.name,
            "eval_hash": wanted.content_hash,
            "rule": RULE_VERSION,
            "items": len(wanted.items),
            "unjudged": found.unjudged[wanted.name],
        }
        lines = [m.as_json(reader, decoder) for m in matches]
        write_matches(matches_path(store, reader.key, wanted.content_hash), header, lines)


def write_matches(path: Path, header: dict[str, Any], lines: Sequence[str]) -> None:
    """Replace the file in one step; the header gets the count and hash of the lines."""
    body = "".join(lines).encode()
    whole = {**header, "matches": len(lines), "xxh3_128": xxhash.xxh3_128_hexdigest(body)}
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps(whole).encode() + b"\n" + body)


def read_matches(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """``(header, matches)``. Raises UserError for a file that is not as it was written."""
    first, _, body = path.read_bytes().partition(b"\n")
    try:
        header = json.loads(first)
    except ValueError:
        header = None
    if not isinstance(header, dict) or header.get("xxh3_128") != xxhash.xxh3_128_hexdigest(body):
        raise UserError(f"{path}: its content is not what was written", "remove it and build again")
    return header, [json.loads(line) for line in body.splitlines()]


def stored_items(store: Path, source_key: str, eval_hash: str) -> FoundItems | None:
    """What was found, or None where nobody has looked yet."""
    path = matches_path(store, source_key, eval_hash)
    if not path.is_file():
        return None
    header, rows = read_matches(path)
    fields = ("eval_name", "item", "document", "start", "length", "found", "of")
    spans = merged_spans([Match(**{name: row[name] for name in fields}) for row in rows])
    return FoundItems(path, spans, header["items"], header["unjudged"])


def union(parts: Sequence[Spans]) -> Spans:
    """Spans of all parts, in order of document and start, overlapping ones joined."""
    matches = [
        Match("", 0, document, start, length, 0, 0)
        for part in parts
        for document, start, length in zip(
            part.document.tolist(), part.start.tolist(), part.length.tolist(), strict=True
        )
    ]
    return merged_spans(matches)
