"""What a reader must know before believing the table; each follows from the data."""

from collections.abc import Iterable, Sequence
from typing import Any

from alloy.reports.judging.budgets import AT_CHANCE, NO_RETENTION
from alloy.reports.text import number, visible
from alloy.sweep_record import UNFINISHED

Tree = dict[str, Any]


def caveats(
    report: Tree, note: str | None, problems: Sequence[str], of_evaluation: Sequence[str] = ()
) -> list[Tree]:
    """Every caveat as {"kind", "text"}, the gravest first. ``of_evaluation``: what the evaluation
    of the base itself says."""
    base, arms = report["base"], report["arms"]
    measured = [arm for arm in arms if arm["failed"] is None]
    found: list[tuple[str, str | None]] = [
        ("at_chance", _at_chance(base, measured)),
        ("retention", _retention(base)),
        *(("failed", text) for text in _failed(arms)),
        ("annealed", _annealed(base, measured)),
        *(("underpowered", text) for text in _underpowered(report["budget"], measured)),
        *(("format_collapse", text) for text in _collapsed(base, measured)),
        *(("published", text) for text in _unlike_published(base)),
        *(("evaluation", text) for text in _uneven_evaluation(base, measured)),
        *(("evaluation", f"{text}.") for text in of_evaluation),
        ("confounded", _confounded(report, measured)),
        ("control", _control(arms)),
        ("seeds", _seeds(measured)),
        ("selection", _selection(report["recommendation"], report["confirmations"])),
        *(("run", text) for text in _runs(measured)),
        ("world", note),
        *(("files", text) for text in problems),
    ]
    return [{"kind": kind, "text": visible(text)} for kind, text in found if text]


def _at_chance(base: Tree, arms: Sequence[Tree]) -> str | None:
    if base["at_chance"]:
        return (
            f"The base scores {_percent(base['exam_accuracy'])} on {base['exam_n']} exam questions,"
            f" which guessing reaches too (chance band {_band(base)}): {AT_CHANCE}. "
            "No change of exam accuracy below says anything about forgetting."
        )
    fallen = [_name(arm) for arm in arms if arm["at_chance"]]
    if not fallen:
        return None
    return (
        f"{_list(fallen)}: exam accuracy is within what guessing reaches ({AT_CHANCE} about how "
        "much is left). The fall may be lost knowledge or a lost answer format: see the cloze "
        "accuracy, which needs no format."
    )


def _retention(base: Tree) -> str | None:
    if base["retention_bpb"] is not None:
        return None
    return (
        f"There is no retention text: {NO_RETENTION}. Bits-per-byte on replayed sources can "
        "improve while what they do not cover decays."
    )


def _failed(arms: Sequence[Tree]) -> list[str]:
    return [
        f"{_name(arm)} has no scores: {arm['failed']}"
        if arm["failed"] in UNFINISHED
        else f"{_name(arm)} failed and has no scores: {arm['failed']}"
        for arm in arms
        if arm["failed"]
    ]


def _annealed(base: Tree, arms: Sequence[Tree]) -> str | None:
    marks = {_name(arm): _is_annealed(arm) for arm in arms}
    if len({mark for mark in marks.values() if mark is not None}) > 1:
        plain = [name for name, mark in marks.items() if mark is False]
        return (
            f"Annealed and un-annealed arms stand side by side (un-annealed: {_list(plain)}). "
            "An annealed model looks better on everything: do not compare them."
        )
    arm_mark = next((mark for mark in marks.values() if mark is not None), None)
    if arm_mark is None:
        return "The lineage does not say whether the arms end annealed." if arms else None
    if base["annealed"] is None:
        word = "annealed" if arm_mark else "un-annealed"
        return (
            f"The arms end {word}; whether the base is annealed is not recorded. "
            "If the two differ, part of every change is the anneal."
        )
    if base["annealed"] != arm_mark:
        return (
            f"The base is {'annealed' if base['annealed'] else 'un-annealed'} and the arms are "
            "not alike: part of every change against the base is the anneal, not the data."
        )
    return None


def _is_annealed(arm: Tree) -> bool | None:
    return (arm["lineage"] or {}).get("annealed")


def _underpowered(budget: Tree, arms: Sequence[Tree]) -> list[str]:
    allowed = budget["mmlu_points"]
    weak = [
        (arm, verdict["detectable"])
        for arm in arms
        for verdict in arm["verdicts"]
        if verdict["budget"] == "mmlu_points"
        and verdict["verdict"] == "inconclusive"
        and verdict["detectable"] is not None
        and verdict["detectable"] > allowed
    ]
    if not weak:
        return []
    most = max(detectable for _, detectable in weak)
    return [
        f"The exam is underpowered for a budget of {allowed:g} points: it detects drops of "
        f"{most:.1f} points ({_list([_name(arm) for arm, _ in weak])})."
    ]


def _collapsed(base: Tree, arms: Sequence[Tree]) -> list[str]:
    """Models that know more than they say in the form that is asked."""
    return [
        f"{_name(entry)}: asked to write the letter it is right in "
        f"{_percent(entry['generative_accuracy'])}, its likeliest letter in "
        f"{_percent(entry['exam_accuracy'])} (the gap is at least "
        f"{_percent(entry['generative_gap']['lower'])}): a lost format, not lost knowledge."
        for entry in (base, *arms)
        if entry["format_collapse"] and entry["generative_gap"]
    ]


def _unlike_published(base: Tree) -> list[str]:
    return [
        f"The base does not reproduce its published score: {row['text']}. Look at its tokenizer, "
        "its first token and its number format before believing any change."
        for row in base["published"]
        if row["agrees"] is False
    ]


def _uneven_evaluation(base: Tree, arms: Sequence[Tree]) -> list[str]:
    found = []
    for key, what in (
        ("dtype", "number formats"),
        ("exam_shots", "numbers of examples (shots)"),
        ("task_hash", "items or settings (task hash)"),
    ):
        values = {str(e[key]) for e in (base, *arms) if e[key] is not None}
        if len(values) > 1:
            found.append(f"Models were evaluated with different {what}: {_list(sorted(values))}.")
    for arm in arms:
        change = arm["change"] or {}
        loose = {k: c["unpaired"] for k, c in change.items() if c and c["unpaired"]}
        if loose:
            counts = ", ".join(f"{key} {count}" for key, count in loose.items())
            found.append(f"{_name(arm)}: items without the same item of the base: {counts}.")
    cut = [e for e in (base, *arms) if e["exam_truncated_prompts"]]
    if cut:
        most = max(entry["exam_truncated_prompts"] for entry in cut)
        found.append(f"Up to {most} exam prompts lost their start: longer than the context.")
    return found


def _confounded(report: Tree, arms: Sequence[Tree]) -> str | None:
    shares = {arm["general_share"] for arm in arms if arm["kind"] == "arm"}
    if len(shares) < 2:
        return None
    totals = {s: {a["tokens"] for a in arms if _is_arm_at(a, s)} for s in shares}
    longest = max(totals.values(), key=max)
    if any(tokens != longest for tokens in totals.values()):
        return "The arms were trained on different numbers of tokens; they are not a pure ratio."
    told = report["saturation"]
    more = f" {told['text']}" if told else " No saturation run says how much of that matters."
    return (
        f"Exposure is confounded with the ratio: at {number(max(longest), 'tokens')} tokens in "
        f"every arm, more general text means fewer domain tokens, so an F1 cost of mixing "
        f"includes the cost of seeing the domain less.{more}"
    )


def _is_arm_at(arm: Tree, share: float) -> bool:
    return arm["kind"] == "arm" and arm["general_share"] == share


def _control(arms: Sequence[Tree]) -> str | None:
    if any(arm["kind"] == "control" and arm["failed"] is None for arm in arms):
        return None
    return (
        "There is no control arm of 100% general text: what training longer does by itself "
        "cannot be told from what the domain does."
    )


def _seeds(arms: Sequence[Tree]) -> str | None:
    ratios = [(arm["general_share"], arm["tokens"]) for arm in arms if arm["kind"] == "arm"]
    if len(ratios) != len(set(ratios)):
        return None
    return (
        "One seed an arm: the intervals cover the choice of test items, not the noise between "
        "two trainings, which can be a point or two of accuracy."
    )


def _selection(recommendation: Tree, confirmations: Sequence[Tree]) -> str | None:
    if recommendation["general_share"] is None:
        return None
    if recommendation["basis"] == "measured":
        return (
            "The recommended share was chosen on the same items that it is reported on; only a "
            "further run, or other items, can confirm it."
        )
    if any(row["general_share"] == recommendation["general_share"] for row in confirmations):
        return None
    return (
        "The recommended share is a prediction from losses, which do not promise exam accuracy: "
        "`alloy sweep RECIPE --confirm` trains it and judges every budget on it."
    )


def _runs(arms: Sequence[Tree]) -> list[str]:
    found = []
    for arm in arms:
        lineage, receipt, curve = arm["lineage"] or {}, arm["receipt"] or {}, arm["curve"] or {}
        skipped = lineage.get("skipped_steps")
        count = len(skipped) if isinstance(skipped, list | tuple) else skipped
        if count:
            found.append(f"{_name(arm)}: {count} steps were skipped for non-finite gradients.")
        if receipt.get("ok") is False:
            problems = receipt["problems"]
            first = f": {problems[0]} ({len(problems)} in all)" if problems else ""
            found.append(f"{_name(arm)}: its receipt does not match what was asked{first}.")
        if curve.get("non_finite"):
            found.append(f"{_name(arm)}: {curve['non_finite']} logged steps have no finite loss.")
    return found


def _name(arm: Tree) -> str:
    return visible(arm["name"], 40)


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)


def _percent(value: float) -> str:
    return number(value, "percent")


def _band(entry: Tree) -> str:
    low, high = entry["chance_band"]
    return f"{_percent(low)} to {_percent(high)}"
