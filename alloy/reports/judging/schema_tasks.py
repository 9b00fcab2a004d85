"""The shapes of single tasks in report.json, and what all its shapes are made of."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Number = float | None
Interval = tuple[Number, Number] | None


class Part(BaseModel):
    """No key but those that are published."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, populate_by_name=True
    )


class Change(Part):
    """Arm minus base over items that both answered. ``lost``: right before, wrong now."""

    change: float
    interval: Interval
    n: int
    unpaired: int
    lost: int
    gained: int
    p: float
    """Exact McNemar test, two-sided."""
    p_holm: Number = None
    """Holm-adjusted over the arms, or over every row and arm of a breakdown."""
    drop_lower: Number = None
    drop_upper: Number = None
    detectable: Number = None
    """The drop that a paired test of so many items detects with 80% power."""


class DomainTask(Part):
    name: str
    metric: str | None
    n: int | None
    domain_f1: Number
    """The task's headline: weighted F1, or the mean token F1 of extracted answers."""
    f1_weighted: Number
    f1_macro: Number
    f1_micro: Number
    precision_weighted: Number
    recall_weighted: Number
    exact_match: Number
    accuracy_format_free: Number
    invalid_rate: Number
    per_level_f1: list[Number]
    interval: Interval
    records: int
    headline: str
    """Which of the measures ``domain_f1`` and ``score`` are."""
    score: Number
    quasi_exact_match: Number
    token_f1: Number
    rouge1: Number
    rouge2: Number
    rougeL: Number
    flagged: dict[str, Number] | None
    likelihood: dict[str, Any] | None
    recall_at_precision: dict[str, Number] | None
    precision_recall: dict[str, Any] | None
    """``points`` are [threshold, precision, recall]."""
    answer_tokens: dict[str, Number] | None
    empty_answers: int | None
    unfinished_answers: int | None
    truncated_prompts: int | None
    confusion: list[tuple[str, str | None, int]]
    """[right, given, rows] of the commonest mistakes; null: no known label."""
    review: list[dict[str, Any]]
    """The rows that the model was least certain of."""
    change: Change | None = None
    """Of the headline, against the base."""


class LmEvalTask(Part):
    """A task of lm-eval: ``score`` is the mean of its ``headline`` ("metric,filter")."""

    name: str
    n: int | None
    headline: str | None
    score: Number
    interval: Interval
    truncated_prompts: int | None
    change: Change | None = None


class Gap(Part):
    """Letter accuracy minus that of written answers, with one-sided 95% bounds."""

    gap: float
    lower: float
    upper: float


class Published(Part):
    """A published score of the base beside the measured one; ``difference`` and ``agrees`` are
    null where the two are not comparable, for ``reasons``."""

    model: str
    form: Literal["letter", "cloze"]
    shots: int
    harness: str
    source: str
    published: float
    measured: float
    interval: Interval
    comparable: bool
    reasons: list[str]
    difference: Number
    agrees: bool | None
    text: str
