"""Recommends a share from budgets and laws, or says what is missing to name one."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from alloy.law import FEWEST_SHARES, LEVELS, Recommendation, recommend
from alloy.reports.judging.budgets import NO_RATIO, budget_title, limits
from alloy.reports.judging.laws import FittedLaw
from alloy.reports.text import number, with_interval

Tree = dict[str, Any]


def recommended(base: Tree, arms: Sequence[Tree], budget: Tree, laws: dict[str, FittedLaw]) -> Tree:
    """The smallest general share that keeps the budget.

    Where retention text has a budget and a law, the law answers; its share is a prediction until a
    confirming run is judged on it. Otherwise the smallest measured arm whose budgets are all kept.
    ``replayed_only`` judges the exam budget on replayed facts alone, on measured arms.
    """
    candidates = [(i, a) for i, a in enumerate(arms) if _is_candidate(a, arms)]
    candidates.sort(key=lambda pair: (pair[1]["general_share"], pair[0]))
    law = laws.get("retention_bpb")
    if not any(value is not None for value in budget.values()):
        told = _answer("no_budget", None, "No budget is set, so no ratio is recommended.")
    elif budget["retention_bpb"] is not None and law is not None:
        told = _by_law(law, arms, budget, laws)
    else:
        told = _by_arms(base, candidates, budget)
    judged = any(arm["replayed_verdict"] is not None for _, arm in candidates)
    alone = _replayed_only(candidates, budget["mmlu_points"]) if judged else None
    return {**told, "replayed_only": alone}


def _is_candidate(arm: Tree, arms: Sequence[Tree]) -> bool:
    """Whether an arm may be recommended: one that is a shorter budget of another is not."""
    if arm["kind"] not in ("arm", "confirm"):
        return False
    alike = ("general_share", "settings", "seed")
    return not any(
        other["kind"] == arm["kind"]
        and other["tokens"] > arm["tokens"]
        and all(other[key] == arm[key] for key in alike)
        for other in arms
    )


def _answer(answer: str, basis: str | None, text: str, **fields: Any) -> Tree:
    empty = {
        "general_share": None,
        "arm": None,
        "arm_index": None,
        "upper_bound": None,
        "critical_share": None,
        "critical_interval": None,
        "add_shares": [],
        "domain_f1": None,
        "domain_f1_gain": None,
        "domain_gain_kept": None,
        "domain_costs": [],
    }
    return {"answer": answer, "basis": basis, **empty, **fields, "text": text}


# --- by law ----------------------------------------------------------------------------------


def _by_law(law: FittedLaw, arms: Sequence[Tree], budget: Tree, laws: dict[str, FittedLaw]) -> Tree:
    allowed = budget["retention_bpb"]
    told = recommend(law.law, allowed)
    critical = told.critical
    fields: Tree = {
        "general_share": told.share,
        "upper_bound": told.upper,
        "critical_share": critical.share,
        "critical_interval": [critical.low, critical.high],
        "add_shares": list(told.add_shares),
    }
    text = _law_answer(told, law, allowed)
    if told.share is not None:
        fields["domain_costs"] = costs = _costs(told.share, laws)
        text += " " + _cost_text(costs)
        at = next((i for i, a in enumerate(arms) if _is_at(a, told.share)), None)
        if at is not None:
            fields |= {"arm": arms[at]["name"], "arm_index": at}
            fields["domain_f1"] = arms[at]["domain_f1"]
        text += _exam_text(arms, told.share, budget)
    return _answer(told.answer, "law", text.strip(), **fields)


def _is_at(arm: Tree, share: float) -> bool:
    return arm["kind"] in ("arm", "confirm") and abs(arm["general_share"] - share) < 1e-9


def _law_answer(told: Recommendation, law: FittedLaw, allowed: float) -> str:
    limit = f"{number(allowed, 'bpb')} bits per byte of retention text"
    low, high = (number(share, "share") for share in law.general_range)
    add = ", ".join(number(share, "share") for share in told.add_shares)
    if told.answer == "no_ratio":
        return f"No ratio keeps this budget ({limit}): not even general text alone, by the law."
    if told.answer == "noisy":
        return (
            f"The law cannot tell which ratio keeps the budget of {limit}: its curve does, its 95% "
            f"upper bound nowhere. Add seeds, or shares such as {add}."
        )
    if told.share is None:
        return (
            f"The sweep does not bracket the answer for the budget of {limit}: no share from {low} "
            f"to {high} keeps it. Add these shares: {add}."
        )
    share = number(told.share, "share")
    if told.answer == "not_bracketed":
        return (
            f"The sweep does not bracket the answer for the budget of {limit}: {share} general, "
            f"its smallest share, keeps it. Add these shares: {add}."
        )
    return (
        f"{share} general is the smallest share whose predicted loss keeps the budget of {limit}: "
        f"its 95% upper bound is {number(told.upper, 'bpb_change')}."
    )


def _costs(share: float, laws: dict[str, FittedLaw]) -> list[Tree]:
    """What the domain loses at ``share`` against the least general share, with 95% intervals."""
    found = []
    for name in ("domain_f1", "domain_bpb"):
        if name not in laws:
            continue
        fitted = laws[name]
        least = fitted.general_range[0]
        shares = fitted.shares(np.array([share, least]))
        value = fitted.law.curve(shares)
        draws = fitted.law.curve_draws(shares)
        low, high = np.quantile(draws[:, 0] - draws[:, 1], LEVELS)
        found.append(
            {
                "quantity": name,
                "against_share": least,
                "change": float(value[0] - value[1]),
                "interval": [float(low), float(high)],
                "extrapolated": bool(fitted.law.predict(shares).extrapolated[0]),
            }
        )
    return found


def _cost_text(costs: Sequence[Tree]) -> str:
    words = []
    for cost in costs:
        kind = "f1_change" if cost["quantity"] == "domain_f1" else "bpb_change"
        name = "domain F1" if cost["quantity"] == "domain_f1" else "domain bits per byte"
        words.append(f"{name} {with_interval(cost['change'], cost['interval'], kind)}")
    if not words:
        return ""
    least = number(costs[0]["against_share"], "share")
    return f"Against {least} general it costs the domain: {', '.join(words)}."


def _exam_text(arms: Sequence[Tree], share: float, budget: Tree) -> str:
    """What is measured of the exam's budget around the share, which no law is fitted to."""
    if budget["mmlu_points"] is None:
        return ""
    if any(_is_at(arm, share) and arm["failed"] is None for arm in arms):
        return ""
    above = [
        (arm["general_share"], verdict["verdict"])
        for arm in arms
        if arm["kind"] in ("arm", "control") and arm["general_share"] >= share
        for verdict in arm["verdicts"]
        if verdict["budget"] == "mmlu_points"
    ]
    text = " The exam budget is judged on a confirming run (`alloy sweep RECIPE --confirm`)."
    if above:
        nearest, word = min(above)
        text += f" At the nearest measured share above, {number(nearest, 'share')}, it is {word}"
        least = min((share for share, verdict in above if verdict == "kept"), default=None)
        if word != "kept" and least is None:
            text += "; no measured share keeps it"
        elif word != "kept":
            text += f"; {number(least, 'share')} is the smallest measured share that keeps it"
        text += "."
    return text


# --- by measured arms ------------------------------------------------------------------------


def _by_arms(base: Tree, candidates: Sequence[tuple[int, Tree]], budget: Tree) -> Tree:
    kept = [(i, a) for i, a in candidates if a["verdict"] == "kept"]
    if not kept:
        return _answer("no_ratio", "measured", _no_ratio(candidates, budget))
    index, arm = kept[0]
    gain = _difference(arm["domain_f1"], base["domain_f1"])
    only = next((a for _, a in candidates if a["general_share"] == 0.0), None)
    full = _difference(only["domain_f1"], base["domain_f1"]) if only else None
    part = gain / full if gain is not None and full is not None and full > 0 else None
    words = [
        f"{number(arm['general_share'], 'share')} general is the smallest measured share that "
        f"keeps every budget ({', '.join(map(budget_title, arm['verdicts']))})"
    ]
    if arm["domain_f1"] is not None:
        words.append(f"its domain F1 is {number(arm['domain_f1'], 'f1')}")
    if part is not None:
        words.append(f"it keeps {number(part, 'percent')} of the F1 gain of the domain-only arm")
    return _answer(
        "kept",
        "measured",
        "; ".join(words) + f". Nothing between the measured arms is estimated: {_why(budget)}.",
        general_share=arm["general_share"],
        arm=arm["name"],
        arm_index=index,
        domain_f1=arm["domain_f1"],
        domain_f1_gain=gain,
        domain_gain_kept=part,
    )


def _why(budget: Tree) -> str:
    if budget["retention_bpb"] is None:
        return "the law is of losses, and no loss has a budget (budget.retention_bpb)"
    return f"a law needs {FEWEST_SHARES} shares with retention text measured"


def _no_ratio(candidates: Sequence[tuple[int, Tree]], budget: Tree) -> str:
    words = [arm["verdict"] for _, arm in candidates]
    counted = f"{words.count('broken')} broken, {words.count('inconclusive')} inconclusive"
    unjudged = words.count(None)
    more = f", {unjudged} not evaluated" if unjudged else ""
    return (
        f"{NO_RATIO[0].upper()}{NO_RATIO[1:]} ({' and '.join(limits(budget))}): of {len(words)} "
        f"measured arms, {counted}{more}. Only what was measured is judged: {_why(budget)}."
    )


def _replayed_only(candidates: Sequence[tuple[int, Tree]], allowed: float) -> Tree:
    kept = [
        (i, a)
        for i, a in candidates
        if a["replayed_verdict"] is not None and a["replayed_verdict"]["verdict"] == "kept"
    ]
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


def _difference(value: float | None, other: float | None) -> float | None:
    return value - other if value is not None and other is not None else None
