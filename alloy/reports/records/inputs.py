"""What a sweep's JSON files hold, as far as the report reads it.

Keys beyond these are kept. Numbers must be finite, except the loss and learning rate of a logged
step: a run that diverged is something to report.
"""

from typing import Any

from pydantic import ConfigDict

from alloy.reports.records.task_inputs import (
    DomainSummary,
    Limits,
    PublishedRow,
    Record,
    TaskSummary,
)
from evals.stats import Labels


class Gap(Record):
    """How far written answers fall behind the likeliest letter, with one-sided 95% bounds."""

    gap: float
    lower: float
    upper: float


class ExamSummary(Record):
    """``exam`` of summary.json."""

    accuracy: float | None = None
    accuracy_replayed: float | None = None
    accuracy_unreplayed: float | None = None
    cloze_accuracy: float | None = None
    cloze_accuracy_norm: float | None = None
    gold_bpb: float | None = None
    shots: int | None = None
    at_chance: bool | None = None
    chance_band: Limits | None = None
    truncated_prompts: int | None = None
    near_ties: int | None = None
    generative_accuracy: float | None = None
    generative_invalid_rate: float | None = None
    generative_gap: Gap | None = None
    format_collapse: bool | None = None


class BpbSummary(Record):
    """A source of ``bpb`` of summary.json."""

    split: str | None = None


class EvalSettings(Record):
    """``settings`` of summary.json."""

    bootstrap: int | None = None


class Summary(Record):
    """summary.json of an evaluation."""

    model: str | None = None
    weights_hash: str | None = None
    task_hash: str | None = None
    dtype: str | None = None
    settings: EvalSettings = EvalSettings()
    exam: ExamSummary | None = None
    domain: dict[str, DomainSummary] = {}
    lm_eval: dict[str, TaskSummary] = {}
    decontaminated: dict[str, dict[str, Any] | None] = {}
    published: tuple[PublishedRow, ...] = ()
    caveats: tuple[str, ...] = ()
    files: dict[str, str] = {}
    """sha256 of each record file, as the evaluation wrote it."""
    bpb: dict[str, BpbSummary] = {}


class SourceReceipt(Record):
    """What one source gave to a phase."""

    name: str
    role: str | None = None
    asked_share: float | None = None
    realised_share: float | None = None
    rows: float | None = None
    tokens: float | None = None
    supervised_tokens: float | None = None
    epochs: float | None = None
    max_prefix_deviation_rows: float | None = None


class PhaseReceipt(Record):
    """A phase; its windows, which may be thousands, stay in the run's folder."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    name: str
    rows: float | None = None
    sources: tuple[SourceReceipt, ...] = ()


class RemovedItems(Record):
    """What an eval set took from a source."""

    source: str
    eval: str
    items: int
    documents_removed: int
    passages_removed: int
    tokens_removed: int


class Receipt(Record):
    """receipt.json of a run: asked against realised. ``sources`` are totals over its phases."""

    decontaminated: tuple[RemovedItems, ...] = ()

    ok: bool | None = None
    problems: tuple[str, ...] = ()
    sources: tuple[SourceReceipt, ...] = ()
    phases: tuple[PhaseReceipt, ...] = ()


class Lineage(Record):
    """lineage.json of a run; ``skipped_steps`` is a count or the steps themselves."""

    annealed: bool | None = None
    decontaminated: dict[str, Any] | None = None
    """By task, what was kept out; None of a task that was not looked for."""
    skipped_steps: int | tuple[int, ...] = ()


class ExamRow(Record):
    subject: str
    index: int | str
    correct: bool
    replayed: bool | None = None
    category: str | None = None
    cloze_correct: bool | None = None


class DomainRow(Record):
    """``label`` is the prediction as it was scored; None where it is no known label. Tasks of
    sets have ``gold_labels`` and ``labels``, extracted answers ``token_f1``."""

    id: int | str
    gold: str
    prediction: str | None
    correct: bool
    valid: bool | None = None
    label: str | None = None
    gold_labels: tuple[str, ...] | None = None
    labels: tuple[str, ...] | None = None
    token_f1: float | None = None

    def scored_gold(self) -> Labels:
        """What is right: a label, or the set of them."""
        return self.gold if self.labels is None else self.gold_labels or ()

    def scored_label(self) -> Labels:
        """What F1 counts; an invalid prediction is one wrong label, as evals has it."""
        if self.labels is not None:
            return self.labels
        if self.correct:
            return self.gold
        if "label" in self.model_fields_set or self.valid is False:
            return self.label or ""
        return self.prediction or ""


class TaskRow(Record):
    """A row of a task of lm-eval, or (last) its ``results``."""

    task: str | None = None
    id: int | str | None = None
    filter: str | None = None
    metrics: dict[str, Any] = {}
    results: dict[str, dict[str, float]] | None = None


class BpbRow(Record):
    source: str
    role: str
    id: int | str
    bits: float
    bytes: int


class MetricsRow(Record):
    """A logged step; a loss that is NaN or infinite is kept as such."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=True)

    step: int
    tokens: int
    loss: float | None = None
    lr: float | None = None
    loss_by_source: dict[str, float | None] = {}
    tokens_per_second: float | None = None


class HeldoutSource(Record):
    bpb: float


class HeldoutRow(Record):
    """A measurement of the live model during training."""

    step: int
    tokens: int
    sources: dict[str, HeldoutSource] = {}
