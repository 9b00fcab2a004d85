"""One arm of a report as a yes or a no, for a script: yes only where every budget is kept."""

from dataclasses import dataclass
from typing import Any, Literal

from configs import UserError

Tree = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class GateVerdict:
    """``underpowered`` is the inconclusive verdict that no such number of questions could avoid."""

    word: Literal["kept", "broken", "inconclusive", "underpowered", "unjudged"]
    arm: str | None
    text: str


def judged_arm(report: Tree, name: str | None) -> Tree | None:
    """The arm that is called ``name``; without a name the last confirming run, else the one that
    the recommendation names; None where there is none.

    Raises UserError where no arm, or more than one, has the name.
    """
    if name is not None:
        found = [arm for arm in report["arms"] if arm["name"] == name]
        if len(found) != 1:
            names = ", ".join(arm["name"] for arm in report["arms"])
            what = "no arm is" if not found else f"{len(found)} arms are"
            raise UserError(f"{what} called '{name}'", f"there are: {names}")
        return found[0]
    if report["confirmations"]:
        return report["arms"][report["confirmations"][-1]["arm_index"]]
    index = report["recommendation"]["arm_index"]
    return None if index is None else report["arms"][index]


def gate(report: Tree, name: str | None = None) -> GateVerdict:
    """The verdict on one arm (``judged_arm``) over all budgets."""
    arm = judged_arm(report, name)
    if arm is None:
        text = f"no arm to judge: {report['recommendation']['text']}"
        return GateVerdict(word="unjudged", arm=None, text=text)
    if not arm["verdicts"]:
        reason = arm["failed"] or "it has no scores, or no budget is set"
        text = f"{arm['name']} is not judged: {reason}"
        return GateVerdict(word="unjudged", arm=arm["name"], text=text)
    word = arm["verdict"]
    if word == "inconclusive" and any(v["underpowered"] for v in arm["verdicts"]):
        word = "underpowered"
    told = "; ".join(f"{v['task'] or v['budget']} {v['text']}" for v in arm["verdicts"])
    return GateVerdict(word=word, arm=arm["name"], text=f"{arm['name']} is {word}: {told}")
