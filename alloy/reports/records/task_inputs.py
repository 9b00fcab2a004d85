"""What summary.json holds of single tasks, as far as the report reads it, and what all shapes of
files are made of."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Limits = tuple[float, float]


class Record(BaseModel):
    """Frozen; unknown keys are kept."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)


class Flagged(Record):
    """Flagging as yes or no, of verdicts."""

    precision: float | None = None
    recall: float | None = None
    f1: float | None = None


class Likelihood(Record):
    """The likeliest of all labels, where they were scored."""

    f1_weighted: float | None = None
    f1_macro: float | None = None
    accuracy: float | None = None


class RecallAt(Record):
    precision: float | None = None
    recall: float | None = None
    threshold: float | None = None


class Curve(Record):
    """``points`` are [threshold, precision, recall]."""

    positives: int | None = None
    points: tuple[tuple[float, float, float], ...] = ()


class Lengths(Record):
    """Distribution of the answers' lengths in tokens."""

    min: float | None = None
    p10: float | None = None
    p50: float | None = None
    p90: float | None = None
    max: float | None = None
    mean: float | None = None


class ReviewRow(Record):
    """A row that the model was little certain of."""

    id: int | str
    certainty: float
    gold: str
    prediction: str | None = None


class PublishedRow(Record):
    """The measured exam beside a published score; see ``evals.exam.published``."""

    model: str
    form: Literal["letter", "cloze"]
    shots: int
    harness: str
    source: str
    published: float
    measured: float
    interval: Limits
    comparable: bool
    reasons: tuple[str, ...] = ()
    difference: float | None = None
    agrees: bool | None = None
    text: str


class DomainSummary(Record):
    """A task of ``domain`` of summary.json."""

    metric: str | None = None
    n: int | None = None
    domain_f1: float | None = None
    """The task's headline: weighted F1, or the mean token F1 of extracted answers."""
    headline: str | None = None
    f1_weighted: float | None = None
    f1_macro: float | None = None
    f1_micro: float | None = None
    precision_weighted: float | None = None
    recall_weighted: float | None = None
    exact_match: float | None = None
    accuracy_format_free: float | None = None
    invalid_rate: float | None = None
    per_level_f1: tuple[float, ...] = ()
    interval: Limits | None = None
    quasi_exact_match: float | None = None
    token_f1: float | None = None
    rouge1: float | None = None
    rouge2: float | None = None
    rougeL: float | None = None
    flagged: Flagged | None = None
    likelihood: Likelihood | None = None
    recall_at_precision: RecallAt | None = None
    precision_recall: Curve | None = None
    answer_tokens: Lengths | None = None
    empty_answers: int | None = None
    unfinished_answers: int | None = None
    truncated_prompts: int | None = None
    confusion: tuple[tuple[str, str | None, int], ...] = ()
    review: tuple[ReviewRow, ...] = ()


class TaskSummary(Record):
    """A task of ``lm_eval`` of summary.json."""

    n: int | None = None
    headline: str | None = None
    score: float | None = None
    interval: Limits | None = None
    truncated_prompts: int | None = None
