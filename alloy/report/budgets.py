"""Budgets to verdicts, and arms to a recommendation. Pure, on the report's own numbers."""

from collections.abc import Sequence
from typing import Any

from alloy.report.text import number
from evals import stats

Tree = dict[str, Any]

AT_CHANCE = "at chance: no claim"
NO_RETENTION = "replayed text only: no retention claim"
NO_RATIO = "no measured ratio keeps this budget"


def verdicts(base: Tree, change: Tree, budget: Tree) -> list[Tree]:
    """One verdict a budget that is set; drops and bounds are in the budget's own unit."""
    found = []
    if budget["mmlu_points"] is not None:
        found.append(exam_verdict(base, change["exam"], budget["mmlu_points"]))
    if budget["retention_bpb"] is not None:
        found.append(_retention_verdict(change["retention_bpb"], budget["retention_bpb"]))
    return found


def exam_verdict(base: Tree, change: Tree | None, allowed: float) -> Tree:
    """Whether the drop of exam accuracy, in points, stays within ``allowed`` points."""
    if base["at_chance"]:
        return _undecided("mmlu_points", allowed, AT_CHANCE)
    if change is None:
        return _undecided("mmlu_points", allowed, "not measured on both models")
    return _verdict(
        "mmlu_points",
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
    return _verdict(
        "retention_bpb",
        allowed,
        drop=change["change"],
        lower=change["lower"],
        upper=change["upper"],
        detectable=None,
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
        "allowed": allowed,
        "verdict": word,
        "drop": drop,
        "lower_bound": lower,
        "upper_bound": upper,
        "detectable": detectable,
        "text": _sentence(word, budget, allowed, drop, lower, upper, detectable),
    }


def _undecided(budget: str, allowed: float, reason: str) -> Tree:
    return {
        "budget": budget,
        "allowed": allowed,
        "verdict": "inconclusive",
        "drop": None,
        "lower_bound": None,
        "upper_bound": None,
        "detectable": None,
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
    kind, unit = ("signed_points", " points") if budget == "mmlu_points" else ("bpb_change", " bpb")
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
            f"{sentence}; underpowered: these questions detect {detectable:.1f}{unit}, not {limit}"
        )
    return sentence


def budget_name(budget: str) -> str:
    """How a budget is called in text."""
    return {"mmlu_points": "exam points", "retention_bpb": "retention bpb"}[budget]


def recommend(base: Tree, arms: Sequence[Tree], budget: Tree) -> Tree:
    """The smallest measured general share whose budgets are all kept.

    Nothing is interpolated and no law is fitted: it is the best of the measured arms. The control
    and the saturation run are no candidates. ``replayed_only`` judges the exam budget on replayed
    facts alone, where the exam tells them apart.
    """
    candidates = [(i, a) for i, a in enumerate(arms) if a["kind"] == "arm"]
    candidates.sort(key=lambda pair: (pair[1]["general_share"], pair[0]))
    if not any(value is not None for value in budget.values()):
        text = "No budget is set, so no ratio is recommended."
        return {**_nothing(text), "replayed_only": None}
    kept = [(i, a) for i, a in candidates if a["verdict"] == "kept"]
    replayed = [
        (i, a)
        for i, a in candidates
        if a["replayed_verdict"] is not None and a["replayed_verdict"]["verdict"] == "kept"
    ]
    chosen = _chosen(base, kept[0], candidates) if kept else _nothing(_no_ratio(candidates, budget))
    judged = any(arm["replayed_verdict"] is not None for _, arm in candidates)
    alone = _replayed_only(replayed, budget["mmlu_points"]) if judged else None
    return {**chosen, "replayed_only": alone}


def _chosen(base: Tree, best: tuple[int, Tree], candidates: Sequence[tuple[int, Tree]]) -> Tree:
    index, arm = best
    gain = _difference(arm["domain_f1"], base["domain_f1"])
    only = next((a for _, a in candidates if a["general_share"] == 0.0), None)
    full = _difference(only["domain_f1"], base["domain_f1"]) if only else None
    kept = gain / full if gain is not None and full is not None and full > 0 else None
    words = [
        f"{number(arm['general_share'], 'share')} general is the smallest measured share that "
        f"keeps every budget ({', '.join(budget_name(v['budget']) for v in arm['verdicts'])})"
    ]
    if arm["domain_f1"] is not None:
        words.append(f"its domain F1 is {number(arm['domain_f1'], 'f1')}")
    if kept is not None:
        words.append(f"it keeps {number(kept, 'percent')} of the F1 gain of the domain-only arm")
    return {
        "general_share": arm["general_share"],
        "arm": arm["name"],
        "arm_index": index,
        "domain_f1": arm["domain_f1"],
        "domain_f1_gain": gain,
        "domain_gain_kept": kept,
        "text": "; ".join(words) + ". It is the best of the measured arms: nothing between "
        "them is estimated and no law is fitted.",
    }


def _nothing(text: str) -> Tree:
    return {
        "general_share": None,
        "arm": None,
        "arm_index": None,
        "domain_f1": None,
        "domain_f1_gain": None,
        "domain_gain_kept": None,
        "text": text,
    }


def _no_ratio(candidates: Sequence[tuple[int, Tree]], budget: Tree) -> str:
    limits = [f"{v:g} {budget_name(k)}" for k, v in budget.items() if v is not None]
    words = [arm["verdict"] for _, arm in candidates]
    counted = f"{words.count('broken')} broken, {words.count('inconclusive')} inconclusive"
    unjudged = words.count(None)
    more = f", {unjudged} not evaluated" if unjudged else ""
    return (
        f"{NO_RATIO[0].upper()}{NO_RATIO[1:]} ({' and '.join(limits)}): of {len(words)} measured "
        f"arms, {counted}{more}. Only what was measured is judged; no law is fitted."
    )


def _replayed_only(kept: Sequence[tuple[int, Tree]], allowed: float) -> Tree:
    if not kept:
        text = f"On replayed facts alone, {NO_RATIO} of {allowed:g} exam points."
        return {"general_share": None, "arm": None, "arm_index": None, "text": text}
    index, arm = kept[0]
    text = (
        f"On replayed facts alone, {number(arm['general_share'], 'share')} general is the smallest "
        f"measured share that keeps the budget of {allowed:g} exam points."
    )
    return {
        "general_share": arm["general_share"],
        "arm": arm["name"],
        "arm_index": index,
        "text": text,
    }


def saturation(base: Tree, arms: Sequence[Tree]) -> Tree | None:
    """How much of the least-general arm's F1 gain the last part of its tokens added.

    None without a saturation run. ``gain_added`` is a share of the whole gain.
    """
    short = next((a for a in arms if a["kind"] == "saturation"), None)
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


def _difference(value: float | None, other: float | None) -> float | None:
    return value - other if value is not None and other is not None else None
