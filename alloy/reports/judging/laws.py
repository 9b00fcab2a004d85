"""Laws fitted to the arms of a report, and what they said of the confirming runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from alloy.law import FEWEST_SHARES, Array, Law, Runs, fit_law
from alloy.reports.judging.budgets import budget_title
from alloy.reports.judging.scores import finite
from alloy.reports.paths import lookup
from alloy.reports.text import number
from alloy.sweep_record import UNFINISHED

Tree = dict[str, Any]
CURVE_POINTS = 61


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """What a law is fitted to: ``path`` below an arm, over the share of one ``side``."""

    name: str
    path: str
    side: Literal["general", "domain"]
    title: str
    kind: str
    """How ``text.number`` writes it."""


QUANTITIES = (
    Quantity(
        name="retention_bpb",
        path="change.retention_bpb.change",
        side="general",
        title="retention bits per byte",
        kind="bpb_change",
    ),
    Quantity(
        name="general_bpb",
        path="change.general_bpb.change",
        side="general",
        title="general bits per byte",
        kind="bpb_change",
    ),
    Quantity(
        name="domain_bpb",
        path="change.domain_bpb.change",
        side="domain",
        title="domain bits per byte",
        kind="bpb_change",
    ),
    Quantity(name="domain_f1", path="domain_f1", side="domain", title="domain F1", kind="f1"),
)


@dataclass(frozen=True, kw_only=True)
class FittedLaw:
    """A law over the general share, whichever side its own share is of."""

    quantity: Quantity
    law: Law

    def shares(self, general: Array) -> Array:
        """General shares as shares of the law's side."""
        return general if self.quantity.side == "general" else 1 - general

    @property
    def general_range(self) -> tuple[float, float]:
        ends = sorted(self.shares(np.array(self.law.share_range)))
        return float(ends[0]), float(ends[1])


def fit_laws(arms: Sequence[Tree]) -> dict[str, FittedLaw]:
    """A law for each quantity that enough shares were measured of, by name.

    Only arms and the control enter, with the settings of the first of them; an arm without domain
    text says nothing of the domain side.
    """
    entering = [arm for arm in arms if arm["kind"] in ("arm", "control")]
    entering = [arm for arm in entering if _settings(arm) == _settings(entering[0])]
    found = {}
    for quantity in QUANTITIES:
        rows = [
            (arm["general_share"], arm["tokens"], value)
            for arm in entering
            if (value := finite(lookup(arm, quantity.path))) is not None
            and (quantity.side == "general" or arm["general_share"] < 1)
        ]
        if len({share for share, _, _ in rows}) < FEWEST_SHARES:
            continue
        general, tokens, values = np.array(rows, dtype=float).T
        share = general if quantity.side == "general" else 1 - general
        law = fit_law(Runs(share=share, tokens=tokens, loss=values))
        found[quantity.name] = FittedLaw(quantity=quantity, law=law)
    return found


def _settings(arm: Tree) -> Tree:
    """What makes an arm another experiment: tokens are an axis of the law itself."""
    return {key: value for key, value in arm["settings"].items() if key != "schedule.tokens"}


def laws_tree(laws: dict[str, FittedLaw], arms: Sequence[Tree]) -> list[Tree]:
    """Every law as JSON: its form and rivals, noise, and the curve over the measured shares."""
    return [_law_tree(fitted, arms) for fitted in laws.values()]


def _law_tree(fitted: FittedLaw, arms: Sequence[Tree]) -> Tree:
    law, (low, high) = fitted.law, fitted.general_range
    # As the charts' square-root axis has it, so that small shares get points of their own.
    general = np.linspace(np.sqrt(low), np.sqrt(high), CURVE_POINTS) ** 2
    told = law.predict(fitted.shares(general))
    errors = sorted(law.errors.items(), key=lambda pair: pair[1])
    return {
        "quantity": fitted.quantity.name,
        "side": fitted.quantity.side,
        "form": law.form.name,
        "formula": law.form.form.formula,
        "source": law.form.form.source,
        "leave_one_out": [{"form": name, "error": finite(error)} for name, error in errors],
        "runs": len(law.runs.loss),
        "noise_sd": law.noise.sd,
        "noise_source": law.noise.source,
        "noise_degrees": law.noise.degrees,
        "misfit_sd": law.noise.misfit_sd,
        "misfit_p": law.noise.misfit_p,
        "general_share_low": low,
        "general_share_high": high,
        "tokens": float(law.runs.tokens.max()),
        "general_share": general.tolist(),
        "value": told.value.tolist(),
        "low": told.low.tolist(),
        "high": told.high.tolist(),
        "text": _law_text(fitted, arms),
    }


def _law_text(fitted: FittedLaw, arms: Sequence[Tree]) -> str:
    law, noise = fitted.law, fitted.law.noise
    counted = f"{len(law.runs.loss)} runs at {len(np.unique(law.runs.share))} shares"
    source = "repeated seeds" if noise.source == "repeats" else "what the curve leaves over"
    name = fitted.quantity.title
    text = (
        f"{name[0].upper()}{name[1:]} over the {fitted.quantity.side} share: {law.form.name} "
        f"({law.form.form.formula}) fits {counted} best, by leave-one-out error; noise from "
        f"{source}, {noise.degrees} degree{'' if noise.degrees == 1 else 's'} of freedom"
    )
    if noise.misfit_p is not None and noise.misfit_p < 0.05:
        text += "; the curve misses the means by more than noise, which widens its interval"
    others = sum(a["kind"] == "arm" and _settings(a) != _settings(arms[0]) for a in arms)
    return text + (f"; {others} arms with other settings are left out." if others else ".")


def confirmations(laws: dict[str, FittedLaw], arms: Sequence[Tree]) -> list[Tree]:
    """Each confirming run against the intervals for one further run, and its budgets."""
    return [_confirmation(laws, i, arm) for i, arm in enumerate(arms) if arm["kind"] == "confirm"]


def _confirmation(laws: dict[str, FittedLaw], index: int, arm: Tree) -> Tree:
    told = [_predicted(fitted, arm) for fitted in laws.values()]
    share = number(arm["general_share"], "share")
    judged = [row for row in told if row["inside"] is not None]
    if arm["failed"] in UNFINISHED:
        text = f"The confirming run at {share} general is {arm['failed']}."
    elif arm["failed"] is not None:
        text = f"The confirming run at {share} general failed."
    elif not judged:
        text = f"The confirming run at {share} general has no law to be judged by."
    else:
        words = [row["text"] for row in judged]
        text = f"The confirming run at {share} general, which no law was fitted to: "
        text += "; ".join(words) + "."
    budgets = [f"{budget_title(v)} budget {v['text']}" for v in arm["verdicts"]]
    return {
        "arm": arm["name"],
        "arm_index": index,
        "general_share": arm["general_share"],
        "inside": all(row["inside"] for row in judged) if judged else None,
        "predictions": told,
        "text": " ".join([text, *(f"{b[0].upper()}{b[1:]}." for b in budgets)]),
    }


def _predicted(fitted: FittedLaw, arm: Tree) -> Tree:
    quantity = fitted.quantity
    measured = finite(lookup(arm, quantity.path))
    told = fitted.law.predict(fitted.shares(np.array([arm["general_share"]])), arm["tokens"])
    value, low, high = float(told.value[0]), float(told.run_low[0]), float(told.run_high[0])
    inside = None if measured is None else low <= measured <= high
    shown = [number(v, quantity.kind) for v in (measured, low, high)]
    word = "inside" if inside else "outside"
    return {
        "quantity": quantity.name,
        "measured": measured,
        "predicted": value,
        "interval": [low, high],
        "inside": inside,
        "extrapolated": bool(told.extrapolated[0]),
        "text": f"{quantity.title} {shown[0]}, {word} the predicted {shown[1]} to {shown[2]}",
    }
