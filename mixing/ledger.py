"""What came in, what was stored, what was dropped and why: the counts must add up."""

import json
from dataclasses import dataclass, field


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used: its line in its file (from 1), the reason, and a glimpse."""

    line: int
    reason: str
    excerpt: str

    def as_json(self, source: str, file: str) -> str:
        row = {"source": source, "file": file, "line": self.line, "reason": self.reason}
        return json.dumps({**row, "excerpt": self.excerpt}, ensure_ascii=True) + "\n"


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
