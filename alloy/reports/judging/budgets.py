"""Judges budgets, and checks saturation. Pure, on the report's own numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alloy.reports.text import number
from evals import stats

Tree = dict[str, Any]

AT_CHANCE = "at chance: no claim"
NO_RETENTION = "replayed text only: no retention claim"
NO_RATIO = "no measured ratio keeps this budget"


@dataclass(frozen=True, kw_only=True)
class BudgetWords:
    """How a budget and its numbers are written."""

    title: str
    unit: str
    change_kind: str
    plain_kind: str


WORDS = {
    "mmlu_points": BudgetWords(
        title="exam points", unit=" points", change_kind="signed_points", plain_kind="plain_points"
    ),
    "retention_bpb": BudgetWords(
        title="retention bpb", unit=" bpb", change_kind="bpb_change", plain_kind="bpb"
    ),
    "domain_f1": BudgetWords(
        title="domain F1", unit=" F1", change_kind="f1_change", plain_kind="f1"
    ),
    "tasks": BudgetWords(
        title="points", unit=" points", change_kind="signed_points", plain_kind="plain_points"
    ),
}


@dataclass(frozen=True, kw_only=True)
class F1Cost:
    """F1 of an arm against the arm with the least general text."""

    change: Tree | None
    """None where one of the two has no records."""
    missing: str = ""
    """Then which."""


def budget_title(judged: Tree) -> str:
    """What a verdict is on, in words."""
    title = WORDS[judged["budget"]].title
    return title if judged["task"] is None else f"{judged['task']}, {title}"


def limits(budget: Tree) -> list[str]:
    """Every budget that is set, with its size."""
    found = [f"{v:g} {WORDS[k].title}" for k, v in budget.items() if v and k != "tasks"]
    return found + [f"{b['points']:g} points of {b['task']}" for b in budget["tasks"] or ()]


def verdicts(
    base: Tree,
    change: Tree,
    budget: Tree,
    f1_cost: F1Cost | None = None,
    tasks: Mapping[str, Tree | None] | None = None,
) -> list[Tree]:
    """One verdict a budget that is set; drops and bounds are in the budget's own unit.

    ``f1_cost`` is the change of F1 against the least general arm, None for models of which mixing
    cannot cost F1: that arm itself and the control. ``tasks`` are the changes of single tasks
    against the base. A budget that cannot be judged is inconclusive, with the reason.
    """
    found = []
    if budget["mmlu_points"] is not None:
        found.append(exam_verdict(base, change["exam"], budget["mmlu_points"]))
    if budget["retention_bpb"] is not None:
        found.append(_retention_verdict(change["retention_bpb"], budget["retention_bpb"]))
    if budget["domain_f1"] is not None and f1_cost is not None:
        found.append(_f1_verdict(f1_cost, budget["domain_f1"]))
    for allowed in budget["tasks"] or ():
        judged = _points_verdict("tasks", (tasks or {}).get(allowed["task"]), allowed["points"])
        found.append({**judged, "task": allowed["task"]})
    return found


def _f1_verdict(cost: F1Cost, allowed: float) -> Tree:
    """Whether mixing costs at most ``allowed`` of F1."""
    if cost.change is None:
        return _undecided("domain_f1", allowed, cost.missing)
    return _verdict(
        "domain_f1",
        allowed,
        drop=0.0 - cost.change["change"],
        lower=cost.change["drop_lower"],
        upper=cost.change["drop_upper"],
        detectable=cost.change["detectable"],
    )


def exam_verdict(base: Tree, change: Tree | None, allowed: float) -> Tree:
    """Whether the drop of exam accuracy, in points, stays within ``allowed`` points."""
    if base["at_chance"]:
        return _undecided("mmlu_points", allowed, AT_CHANCE)
    return _points_verdict("mmlu_points", change, allowed)


def _points_verdict(budget: str, change: Tree | None, allowed: float) -> Tree:
    """Of a change that is a share, under a budget in points."""
    if change is None:
        return _undecided(budget, allowed, "not measured on both models")
    return _verdict(
        budget,
        allowed,
        drop=-100 * change["change"],
        lower=100 * change["drop_lower"],
        upper=100 * change["drop_upper"],
        detectable=100 * change["detectable"],
    )


def _retention_verdict(change: Tree | None, allowed: float) -> Tree:
    """Whether bits per byte of retention text rise by at most ``allowed``."""
    if change is None:
        return _undecided("retention_bpb", allowed, NO_RETENTION)
    if change["interval"] is None:
        reason = (
            f"inconclusive: a change of {number(change['change'], 'bpb_change')} bpb was measured "
            f"on {change['documents']} documents, too few for an interval"
        )
        return _undecided("retention_bpb", allowed, reason)
    return _verdict(
        "retention_bpb",
        allowed,
        drop=change["change"],
        lower=change["lower"],
        upper=change["upper"],
        detectable=change["detectable"],
    )


def overall(found: Sequence[Tree]) -> str | None:
    """broken if any budget is, kept if all are; None without budgets."""
    words = {verdict["verdict"] for verdict in found}
    if not words:
        return None
    if "broken" in words:
        return "broken"
    return "kept" if words == {"kept"} else "inconclusive"


def _verdict(
    budget: str,
    allowed: float,
    *,
    drop: float,
    lower: float,
    upper: float,
    detectable: float | None,
) -> Tree:
    word = stats.verdict(lower, upper, allowed)
    return {
        "budget": budget,
        "task": None,
        "allowed": allowed,
        "verdict": word,
        "drop": drop,
        "lower_bound": lower,
        "upper_bound": upper,
        "detectable": detectable,
        "underpowered": word == "inconclusive" and detectable is not None and detectable > allowed,
        "text": _sentence(word, budget, allowed, drop, lower, upper, detectable),
    }


def _undecided(budget: str, allowed: float, reason: str) -> Tree:
    return {
        "budget": budget,
        "task": None,
        "allowed": allowed,
        "verdict": "inconclusive",
        "drop": None,
        "lower_bound": None,
        "upper_bound": None,
        "detectable": None,
        "underpowered": False,
        "text": reason,
    }


def _sentence(
    word: str,
    budget: str,
    allowed: float,
    drop: float,
    lower: float,
    upper: float,
    detectable: float | None,
) -> str:
    kind, unit = WORDS[budget].change_kind, WORDS[budget].unit
    limit = f"{allowed:g}{unit}"
    if word == "kept":
        return f"kept: the loss is at most {number(upper, kind)}{unit}, within {limit}"
    if word == "broken":
        return f"broken: the loss is at least {number(lower, kind)}{unit}, over {limit}"
    sentence = (
        f"inconclusive: a loss of {number(drop, kind)}{unit} was measured, between "
        f"{number(lower, kind)} and {number(upper, kind)} with 95% confidence on each side"
    )
    if detectable is not None and detectable > allowed:
        return (
            f"{sentence}; underpowered: these items detect "
            f"{number(detectable, WORDS[budget].plain_kind)}{unit}, not {limit}"
        )
    return sentence


def saturation(base: Tree, arms: Sequence[Tree]) -> Tree | None:
    """How much of the least-general arm's F1 gain the last part of its tokens added.

    None without a saturation run. ``gain_added`` is a share of the whole gain.
    """
    short = _short_arm(arms)
    if short is None:
        return None
    whole = next(
        (a for a in arms if a["kind"] == "arm" and a["general_share"] == short["general_share"]),
        None,
    )
    result: Tree = {"short_arm": short["name"], "arm": whole["name"] if whole else None}
    gain = _difference(whole["domain_f1"], base["domain_f1"]) if whole else None
    late = _difference(whole["domain_f1"], short["domain_f1"]) if whole else None
    if whole is None or gain is None or late is None or gain <= 0:
        reason = "The saturation run has no arm with a domain F1 gain to be compared with."
        return {**result, "last_part": None, "gain_added": None, "text": reason}
    part = 1 - short["tokens"] / whole["tokens"]
    share = number(whole["general_share"], "share")
    return {
        **result,
        "last_part": part,
        "gain_added": late / gain,
        "text": f"The last {number(part, 'share')} of the tokens added "
        f"{number(late / gain, 'percent')} of the F1 gain of the arm with {share} general "
        f"(F1 {number(short['domain_f1'], 'f1')} to {number(whole['domain_f1'], 'f1')}).",
    }


def _short_arm(arms: Sequence[Tree]) -> Tree | None:
    """The saturation run, or the next shorter one of the first arm, where budgets gave it one."""
    short = next((a for a in arms if a["kind"] == "saturation"), None)
    first = next((a for a in arms if a["kind"] == "arm"), None)
    if short is not None or first is None:
        return short
    alike = ("kind", "general_share", "settings", "seed")
    shorter = [
        a for a in arms if all(a[k] == first[k] for k in alike) and a["tokens"] < first["tokens"]
    ]
    return max(shorter, key=lambda a: a["tokens"], default=None)


def _difference(value: float | None, other: float | None) -> float | None:
    return value - other if value is not None and other is not None else None
