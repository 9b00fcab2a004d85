"""The shape of report.json, published as docs/report.schema.json.

    python -m alloy.reports.judging.schema > docs/report.schema.json

Shares and accuracies are 0 to 1, budgets of the exam in points (hundredths); intervals are
two-sided 95%, bounds one-sided 95%. A number that was not measured is null. A key may be added
under the same ``schema_version``; one that changes or goes raises it.
"""

import json
from typing import Any, Literal

from pydantic import Field

from alloy.reports.judging.schema_tasks import (
    Change,
    DomainTask,
    Gap,
    Interval,
    LmEvalTask,
    Number,
    Part,
    Published,
)

SCHEMA_VERSION = 2


class BpbChange(Part):
    """Arm minus base on the same documents; ``lower`` and ``upper`` are one-sided bounds.

    Of fewer than ten documents there is no interval, and no bound."""

    change: float
    interval: Interval
    lower: Number
    upper: Number
    documents: int
    unpaired: int
    detectable: Number = None
    """The change that a comparison of such documents detects with 80% power."""


class Changes(Part):
    exam: Change | None
    exam_replayed: Change | None
    exam_unreplayed: Change | None
    cloze: Change | None
    domain_f1: Change | None
    general_bpb: BpbChange | None
    retention_bpb: BpbChange | None
    domain_bpb: BpbChange | None


class Group(Part):
    """A subject or a category."""

    name: str
    n: int
    accuracy: Number
    change: Change | None = None


class SourceBpb(Part):
    name: str
    role: str
    split: str | None
    bpb: Number
    documents: int
    bytes: int


class Verdict(Part):
    """A budget on one arm; the drop and its bounds are in the budget's own unit."""

    budget: Literal["mmlu_points", "retention_bpb", "domain_f1", "tasks"]
    task: str | None
    """Which task a budget of ``tasks`` is of."""
    allowed: float
    verdict: Literal["kept", "broken", "inconclusive"]
    drop: Number
    lower_bound: Number
    upper_bound: Number
    detectable: Number
    underpowered: bool
    text: str


class Model(Part):
    """What the base and every arm have."""

    name: str
    kind: Literal["base", "arm", "control", "saturation", "confirm", "merge", "average"]
    general_share: Number
    tokens: int
    failed: str | None
    exam_accuracy: Number
    exam_accuracy_replayed: Number
    exam_accuracy_unreplayed: Number
    exam_n: int | None
    exam_n_replayed: int
    exam_n_unreplayed: int
    exam_interval: Interval
    exam_interval_replayed: Interval
    exam_interval_unreplayed: Interval
    exam_shots: int | None
    at_chance: bool | None
    chance_band: Interval
    exam_truncated_prompts: int | None
    exam_near_ties: int | None
    generative_accuracy: Number
    """Of answers that the model wrote itself; None where it was not asked to."""
    generative_invalid_rate: Number
    generative_gap: Gap | None
    format_collapse: bool | None
    cloze_accuracy: Number
    cloze_accuracy_norm: Number
    gold_bpb: Number
    by_category: list[Group]
    by_subject: list[Group]
    domain_task: str | None
    domain_n: int | None
    domain_f1: Number
    domain_interval: Interval
    domain_precision: Number
    domain_recall: Number
    domain_f1_macro: Number
    domain_tasks: list[DomainTask]
    lm_eval_tasks: list[LmEvalTask]
    decontaminated: dict[str, dict[str, Any] | None]
    """The record of each eval that was kept out of the training text; null: there is none."""
    general_bpb: Number
    general_bpb_interval: Interval
    retention_bpb: Number
    retention_bpb_interval: Interval
    domain_bpb: Number
    domain_bpb_interval: Interval
    bpb_by_source: list[SourceBpb]
    dtype: str | None
    model: str | None
    weights_hash: str | None
    task_hash: str | None
    lineage: dict[str, Any] | None


class BaseModelEntry(Model):
    annealed: bool | None
    published: list[Published]


class SourceLoss(Part):
    name: str
    loss: list[Number]


class Curve(Part):
    """Training, in few points: each the mean of its logged steps."""

    steps_logged: int
    steps_per_point: int
    non_finite: int
    tokens: list[int]
    lr: list[Number]
    loss: list[Number]
    loss_by_source: list[SourceLoss]


class SourceHeldout(Part):
    name: str
    bpb: list[Number]


class Heldout(Part):
    """Bits per byte of held-out text, measured during training."""

    tokens: list[int]
    sources: list[SourceHeldout]


class Cost(Part):
    train_seconds: float
    tokens_per_second: float
    ranks: int | None
    rank_hours: Number
    money: Number


class Merge(Part):
    """How far a merge lies between the base (0) and an arm (1)."""

    share: float = Field(alias="lambda")
    of: str


class Arm(Model):
    seed: int | None
    settings: dict[str, Any]
    """Recipe keys that the arm sets besides its share and seed."""
    change: Changes
    verdict: Literal["kept", "broken", "inconclusive"] | None
    verdicts: list[Verdict]
    replayed_verdict: Verdict | None
    curve: Curve | None
    heldout: Heldout | None
    cost: Cost | None
    receipt: dict[str, Any] | None


class MergedArm(Arm):
    """A model that was not trained: it has no general share, cost, receipt or lineage."""

    merge: Merge


class TaskBudget(Part):
    """Points that a task may lose against the base."""

    task: str
    points: float


class Average(Part):
    """The mean of so many last checkpoints of an arm."""

    checkpoints: int
    of: str


class AveragedArm(Arm):
    """As a merged one."""

    average: Average


class Budget(Part):
    mmlu_points: Number
    retention_bpb: Number
    domain_f1: Number
    """F1 that mixing may cost, against the least general arm."""
    tasks: list[TaskBudget] | None


class TotalCost(Part):
    arms: int
    rank_hours: Number
    price_per_rank_hour: Number
    money: Number


class FormError(Part):
    form: str
    error: Number


class LawCurve(Part):
    """A law over the general share. ``low`` and ``high`` are the interval of the curve."""

    quantity: str
    side: Literal["general", "domain"]
    form: str
    formula: str
    source: str
    leave_one_out: list[FormError]
    runs: int
    noise_sd: float
    noise_source: Literal["repeats", "residuals"]
    noise_degrees: int
    misfit_sd: float
    misfit_p: Number
    general_share_low: float
    general_share_high: float
    tokens: float
    general_share: list[float]
    value: list[Number]
    low: list[Number]
    high: list[Number]
    text: str


class DomainCost(Part):
    quantity: str
    against_share: float
    change: float
    interval: Interval
    extrapolated: bool


class ReplayedOnly(Part):
    general_share: Number
    arm: str | None
    arm_index: int | None
    text: str


class Recommendation(Part):
    answer: Literal["kept", "no_ratio", "not_bracketed", "noisy", "no_budget"]
    basis: Literal["law", "measured"] | None
    general_share: Number
    arm: str | None
    arm_index: int | None
    upper_bound: Number
    critical_share: Number
    critical_interval: Interval
    add_shares: list[float]
    domain_f1: Number
    domain_f1_gain: Number
    domain_gain_kept: Number
    domain_costs: list[DomainCost]
    replayed_only: ReplayedOnly | None
    text: str


class Prediction(Part):
    quantity: str
    measured: Number
    predicted: float
    interval: Interval
    inside: bool | None
    extrapolated: bool
    text: str


class Confirmation(Part):
    arm: str
    arm_index: int
    general_share: float
    inside: bool | None
    predictions: list[Prediction]
    text: str


class Saturation(Part):
    short_arm: str
    arm: str | None
    last_part: Number
    gain_added: Number
    text: str


class Caveat(Part):
    kind: str
    text: str


class Report(Part):
    """report.json of ``alloy report``: base and arms with their scores, changes and verdicts, the
    law and the share that it recommends, and the caveats that must be read first."""

    schema_version: Literal[2]
    name: str
    seconds: Number
    tokens_per_arm: int | None
    budget: Budget
    cost: TotalCost
    base: BaseModelEntry
    arms: list[Arm | MergedArm | AveragedArm]
    saturation: Saturation | None
    law: list[LawCurve]
    recommendation: Recommendation
    confirmations: list[Confirmation]
    caveats: list[Caveat]
    others: "list[Report]" = Field(default_factory=list)
    """Runs against another base or under another budget, each a report of its own."""

    def to_json(self) -> dict[str, Any]:
        """What report.json holds: the keys that were measured or are null, no defaults."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


def json_schema() -> str:
    """docs/report.schema.json."""
    schema = Report.model_json_schema()
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Alloy forgetting report, schema {SCHEMA_VERSION}",
    }
    return json.dumps({**head, **schema, **head}, indent=1) + "\n"


if __name__ == "__main__":
    print(json_schema(), end="")
