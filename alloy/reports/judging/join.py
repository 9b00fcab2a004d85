"""Records in, report out: what report.json holds and every view is made from.

Everything on the page, in the Markdown and in the terminal's table is looked up here by its path;
the views compute nothing.
"""

from collections.abc import Sequence
from typing import Any

from alloy.reports.judging.budgets import WORDS, F1Cost, exam_verdict, overall, saturation, verdicts
from alloy.reports.judging.caveats import caveats
from alloy.reports.judging.compare import (
    change_against_base,
    f1_change,
    subject_changes,
    task_changes,
)
from alloy.reports.judging.cost import run_cost, total_cost
from alloy.reports.judging.grouping import group_records
from alloy.reports.judging.laws import confirmations, fit_laws, laws_tree
from alloy.reports.judging.recommendation import recommended
from alloy.reports.judging.schema import SCHEMA_VERSION, Report
from alloy.reports.judging.scores import curve, finite, heldout_curve, model_scores
from alloy.reports.records import Entry, PublishedRow, Receipt, Record, Records
from alloy.sweep_record import ArmEntry, BaseEntry
from evals import stats

Tree = dict[str, Any]
_TESTS_OVER_ARMS = ("exam", "exam_replayed", "exam_unreplayed", "cloze", "domain_f1")


def join_reports(found: Sequence[Records], price: float | None = None) -> Report:
    """One report of several folders: pooled where they share a base, beside each other where not.

    Each arm is compared with its own base only.
    """
    first, *others = [join_report(records, price) for records in group_records(found)]
    return first.model_copy(update={"others": others})


def join_report(records: Records, price: float | None = None) -> Report:
    """The report of one sweep; numbers that were not measured are None.

    ``price`` is of one rank for an hour, in whatever money.
    """
    sweep = records.sweep
    budget = sweep.budget.model_dump(include=set(WORDS))
    tasks = [{"task": task, "points": points} for task, points in budget["tasks"].items()]
    budget["tasks"] = tasks or None
    base, problems = _base_entry(records.base, records.resamples)
    arms = []
    for entry in records.arms:
        arm, more = _arm_entry(records, base, entry, budget, price)
        arms.append(arm)
        problems += more
    _adjust_over_arms(arms)
    laws = fit_laws(arms)
    report: Tree = {
        "schema_version": SCHEMA_VERSION,
        "name": sweep.name,
        "seconds": finite(sweep.seconds),
        "tokens_per_arm": sweep.tokens_per_arm,
        "budget": budget,
        "cost": total_cost(arms, price),
        "base": base,
        "arms": arms,
        "saturation": saturation(base, arms),
        "law": laws_tree(laws, arms),
        "recommendation": recommended(base, arms, budget, laws),
        "confirmations": confirmations(laws, arms),
    }
    told = caveats(report, sweep.note, problems, records.base.summary.caveats)
    return Report.model_validate(_json_values({**report, "caveats": told, "others": []}))


def _base_entry(entry: Entry, resamples: int) -> tuple[Tree, list[str]]:
    spec = entry.spec
    scores, contradictions = model_scores(entry, resamples)
    lineage_mark = entry.lineage.annealed if entry.lineage else None
    marked = spec.annealed if isinstance(spec, BaseEntry) else None
    fields = {
        "name": spec.name,
        "kind": "base",
        "general_share": None,
        "tokens": 0,
        "failed": None,
        "annealed": marked if marked is not None else lineage_mark,
        **scores,
        "published": [
            row.model_dump(include=set(PublishedRow.model_fields))
            for row in entry.summary.published
        ],
        "lineage": _dumped(entry.lineage),
    }
    return fields, _told(spec.name, entry, contradictions)


def _arm_entry(
    records: Records, base: Tree, entry: Entry, budget: Tree, price: float | None
) -> tuple[Tree, list[str]]:
    spec = _arm_spec(entry)
    scores, contradictions = model_scores(entry, records.resamples)
    change = change_against_base(records.base, entry, records.resamples)
    evaluated = bool(entry.exam or entry.domain or entry.bpb)
    tasks = task_changes(records.base, entry, records.resamples)
    cost = _f1_cost(records, entry) if evaluated else None
    judged = verdicts(base, change, budget, cost, tasks) if evaluated else []
    fields = {
        "name": spec.name,
        "kind": spec.kind,
        "general_share": spec.general_share,
        "tokens": spec.tokens,
        "seed": spec.seed,
        "settings": spec.settings,
        "failed": spec.failed,
        **({} if spec.merge is None else {"merge": spec.merge.model_dump(by_alias=True)}),
        **({} if spec.average is None else {"average": spec.average.model_dump()}),
        **scores,
        "change": change,
        "verdict": overall(judged),
        "verdicts": judged,
        "replayed_verdict": _replayed_verdict(base, change, budget),
        "curve": curve(entry),
        "heldout": heldout_curve(entry),
        "cost": run_cost(
            entry.metrics, spec.ranks, price, spec.shared.tokens if spec.shared else 0
        ),
        "receipt": _receipt(entry.receipt),
        "lineage": _dumped(entry.lineage),
    }
    for row in (*fields["domain_tasks"], *fields["lm_eval_tasks"]):
        row["change"] = tasks.get(row["name"])
    for by in ("category", "subject"):
        changes = subject_changes(records.base.exam, entry.exam, by)
        for row in fields[f"by_{by}"]:
            row["change"] = changes.get(row["name"])
    contradictions += _f1_contradiction(base, fields)
    return fields, _told(spec.name, entry, contradictions)


def _f1_cost(records: Records, entry: Entry) -> F1Cost | None:
    """F1 against the arm with the least general text, which is told by the sweep, whether it has
    records or not; None for that arm, for the control, and for shortened runs of the first arm."""
    own = _arm_spec(entry)
    arms = [arm for arm in records.arms if _arm_spec(arm).kind == "arm"]
    if own.kind in ("control", "saturation") or not arms:
        return None
    least = min(arms, key=lambda arm: _arm_spec(arm).general_share or 0.0)
    share = _arm_spec(least).general_share or 0.0
    if own.general_share is not None and own.general_share <= share:
        return None
    task = next(iter(records.base.domain), None)
    if task is None:
        return F1Cost(change=None, missing="the base was measured on no domain task")
    for name, rows in ((_arm_spec(least).name, least.domain), (own.name, entry.domain)):
        if not rows.get(task):
            return F1Cost(change=None, missing=f"{name} has no records of {task}")
    change = f1_change(least.domain[task], entry.domain[task], records.resamples)
    missing = f"{_arm_spec(least).name} and {own.name} answered no row of {task} both"
    return F1Cost(change=change, missing=missing)


def _arm_spec(entry: Entry) -> ArmEntry:
    assert isinstance(entry.spec, ArmEntry)
    return entry.spec


def _f1_contradiction(base: Tree, arm: Tree) -> list[str]:
    """The paired records and the two summaries must tell the same change of F1."""
    paired = arm["change"]["domain_f1"]
    if paired is None or paired["unpaired"] or base["domain_f1"] is None:
        return []
    told = arm["domain_f1"] - base["domain_f1"] if arm["domain_f1"] is not None else None
    if told is None or abs(told - paired["change"]) < 1e-9:
        return []
    return [
        f"the summaries tell an F1 change of {told:.6f}, the item records {paired['change']:.6f}"
    ]


def _replayed_verdict(base: Tree, change: Tree, budget: Tree) -> Tree | None:
    """The exam budget on replayed facts alone; None where the exam does not tell them apart."""
    if budget["mmlu_points"] is None or change["exam_replayed"] is None:
        return None
    return exam_verdict(base, change["exam_replayed"], budget["mmlu_points"])


def _receipt(receipt: Receipt | None) -> Tree | None:
    """The receipt, with each phase's sources under the role that the receipt's totals give them."""
    if receipt is None:
        return None
    roles = {source.name: source.role for source in receipt.sources}
    tree = receipt.model_dump()
    for phase in tree["phases"]:
        for source in phase["sources"]:
            source["role"] = source["role"] or roles.get(source["name"])
    return tree


def _dumped(record: Record | None) -> Tree | None:
    return record.model_dump() if record is not None else None


def _told(name: str, entry: Entry, contradictions: Sequence[str]) -> list[str]:
    return [f"{name}: {problem}" for problem in (*entry.problems, *contradictions)]


def _adjust_over_arms(arms: Sequence[Tree]) -> None:
    """Add Holm's adjusted p: over arms for each score, over subjects and arms for the subjects."""
    for key in _TESTS_OVER_ARMS:
        _adjust([arm["change"][key] for arm in arms])
    for kind in ("domain_tasks", "lm_eval_tasks"):
        for task in {row["name"] for arm in arms for row in arm[kind]}:
            rows = [row for arm in arms for row in arm[kind] if row["name"] == task]
            _adjust([row["change"] for row in rows])
    for key in ("by_category", "by_subject"):
        _adjust([row["change"] for arm in arms for row in arm[key]])


def _adjust(changes: Sequence[Tree | None]) -> None:
    tested = [change for change in changes if change is not None]
    if tested:
        for change, p in zip(tested, stats.holm([c["p"] for c in tested]), strict=True):
            change["p_holm"] = p


def _json_values(value: Any) -> Any:
    """Plain JSON values; NaN and infinity, which a receipt or lineage may hold, become None."""
    if isinstance(value, dict):
        return {str(key): _json_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_values(item) for item in value]
    if isinstance(value, float):
        return finite(value)
    return value
