"""What came in, what was stored, what was dropped and why: the counts must add up."""

import json
from dataclasses import dataclass, field

EXCERPT_CHARACTERS = 200


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used: its line in its file (from 1), the reason, and a glimpse; or
    ``rows`` consecutive ones that only stand and fall together."""

    line: int
    reason: str
    excerpt: str
    rows: int = 1
    rest_of_file: bool = False
    """Nothing behind it can be read either, and nobody knows how many rows that would be: they
    count as one, and the file as cut."""
    id: str | None = None
    """The row's own id, where it shows; by it the row can be erased."""

    def as_json(self, source: str, file: str) -> str:
        row = {"source": source, "file": file, "line": self.line, "reason": self.reason}
        many = {"rows": self.rows} if self.rows != 1 else {}
        own = {} if self.id is None else {"id": self.id}
        return json.dumps({**row, **many, **own, "excerpt": self.excerpt}, ensure_ascii=True) + "\n"


def excerpt(data: bytes) -> str:
    """The beginning of some bytes as printable text; bytes that are not UTF-8 as \\xNN."""
    return data[: 4 * EXCERPT_CHARACTERS].decode("utf-8", "backslashreplace")[:EXCERPT_CHARACTERS]


@dataclass(frozen=True)
class Ledger:
    """Documents of one source. ``documents_in`` is counted by the reader of the files,
    ``documents_written`` by the writer of the shards, ``dropped`` by the quarantine, so that
    ``balanced`` compares three counts that know nothing of each other.
    """

    documents_in: int
    documents_written: int
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def dropped_rows(self) -> int:
        return sum(self.dropped.values())

    @property
    def balanced(self) -> bool:
        return self.documents_in == self.documents_written + self.dropped_rows

    @property
    def bad_share(self) -> float:
        return self.dropped_rows / self.documents_in if self.documents_in else 0.0

    def reasons(self) -> str:
        """``bad_json 2, empty_text 1``, most frequent first."""
        ranked = sorted(self.dropped.items(), key=lambda item: (-item[1], item[0]))
        return ", ".join(f"{reason} {count}" for reason, count in ranked)
