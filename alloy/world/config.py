"""WorldConfig -> the sizes of a tiny world; WorldFiles -> where its files lie."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """Seed and sizes of one world; the same config always writes the same bytes."""

    seed: int = 0
    """Any integer; it decides every word, fact, document and exam row."""
    exam_entities: int = 48
    """Entities per subject that the exam asks about; half of them are replayed."""
    format_entities: int = 12
    """Further entities per subject whose facts teach the multiple-choice format."""
    values_per_relation: int = 20
    """Distinct values a relation can take; under 16, too few option lists stay off the exam."""
    test_items: int = 86
    """Exam test rows per subject, a multiple of 2 (half replayed, half not)."""
    fact_zipf: float = 0.4
    """Exponent of the entity frequencies: entity of rank r is told 1 / r**fact_zipf times."""
    pretrain_documents: int = 60_000
    """Documents of the base's pre-training text."""
    replay_documents: int = 15_000
    """Documents of the general corpus the arms mix in."""
    retention_documents: int = 400
    """Documents of general text that no training corpus holds."""
    question_share: float = 0.72
    """Share of general documents that are multiple-choice questions, 0 to 1."""
    comments_train: int = 8_000
    """Labelled customer comments to train on."""
    comments_test: int = 640
    """Labelled customer comments to test on."""
    comment_zipf: float = 0.8
    """Exponent of the label frequencies: leaf of rank r is drawn 1 / r**comment_zipf times."""
    comment_noise: float = 0.15
    """Chance that the third cue word of a level is drawn from any branch of that level."""
    vocab_size: int = 3_000
    """Entries of the tokenizer at most, byte alphabet and end-of-text included."""


@dataclass(frozen=True, kw_only=True)
class WorldFiles:
    """Paths of a written world."""

    folder: Path
    """The folder that holds everything."""
    pretrain: Path
    """General text of the base, JSONL rows {id, text}."""
    replay: Path
    """General text about part of the facts, for the mix; JSONL rows {id, text}."""
    retention: Path
    """General text that is never trained on, JSONL rows {id, text}."""
    comments_train: Path
    """Domain text, JSONL rows {id, text}."""
    comments_test: Path
    """Domain test, JSONL rows {id, prompt, label}; the label continues the prompt."""
    exam: Path
    """Folder with dev/ and test/ CSVs in MMLU's layout."""
    exam_items: Path
    """JSONL rows {subject, index, replayed}: index is the row in test/<subject>_test.csv."""
    tokenizer: Path
    """Byte-level BPE tokenizer.json; id 0 is <|endoftext|>."""

    @classmethod
    def under(cls, folder: Path) -> "WorldFiles":
        """The layout of every world folder."""
        return cls(
            folder=folder,
            pretrain=folder / "pretrain.jsonl",
            replay=folder / "replay.jsonl",
            retention=folder / "retention.jsonl",
            comments_train=folder / "comments_train.jsonl",
            comments_test=folder / "comments_test.jsonl",
            exam=folder / "exam",
            exam_items=folder / "exam" / "items.jsonl",
            tokenizer=folder / "tokenizer.json",
        )
