"""The peak learning rate that a recipe leaves open, with the reason; pure.

An un-annealed start goes on at the rate where it stands (OLMo-2 and OLMo-3 mid-training). An
annealed one is re-warmed to a tenth of its own peak: the middle of what continued pretraining
with a few billion tokens has used.
"""

from typing import Any

from alloy.models.catalog import OpenModel
from configs import UserError

ANNEALED_SHARE = 0.1
_CONTINUES = "continues at"
_UNANNEALED = "un-annealed start, "
_PILOTS = "try 0.03, 0.1 and 0.3 of its peak where it matters"


def continues(reason: str) -> bool:
    """Whether a rate with this reason goes on where the base stands."""
    return reason.removeprefix(_UNANNEALED).startswith(_CONTINUES)


def continued_rate(parent: dict[str, Any]) -> tuple[float, str]:
    """The rate at which a run's checkpoint stands; ``parent`` as in ``StartPoint``."""
    if parent["lr"] is None:
        raise UserError(
            f"schedule.peak_lr: the checkpoint of {_named(parent)} does not say its learning rate",
            "give schedule.peak_lr as a number",
        )
    phase = f"in its {parent['phase']} phase"
    return parent["lr"], f"{_CONTINUES} the rate of {_named(parent)}, {phase}"


def rate_after_run(parent: dict[str, Any]) -> tuple[float, str]:
    if parent["phase"] != "anneal":
        rate, reason = continued_rate(parent)
        return rate, f"{_UNANNEALED}{reason}"
    rate = ANNEALED_SHARE * parent["peak_lr"]
    return rate, f"annealed start, {ANNEALED_SHARE:g} of the peak of {_named(parent)}; {_PILOTS}"


def rate_after_open_model(
    name: str, revision: str | None, model: OpenModel | None
) -> tuple[float, str]:
    """The rate for a model of the catalog. Raises UserError where it cannot be known."""
    if model is None:
        raise UserError(
            f"schedule.peak_lr auto: {name} is not in the catalog, so its rates are not known",
            "give a number: a tenth of the peak that it was pre-trained with is usual",
        )
    rate = model.open_rate(revision)
    if rate is not None:
        return rate, f"{_UNANNEALED}{_CONTINUES} the stage-end rate of the catalog entry"
    if model.is_final(revision) and model.peak_lr is not None:
        recalled = " (not checked at the source)" if "peak_lr" in model.recalled else ""
        return ANNEALED_SHARE * model.peak_lr, (
            f"annealed start, {ANNEALED_SHARE:g} of the catalog's peak {model.peak_lr:g}"
            f"{recalled}; {_PILOTS}"
        )
    ends = ", ".join(model.stage_ends) or "none"
    raise UserError(
        f"schedule.peak_lr auto: the rate of {name} at {revision or 'main'} is not known",
        f"give a number, or start at a stage end whose rate is known: {ends}",
    )


def _named(parent: dict[str, Any]) -> str:
    return f"{parent['run']}, step {parent['step']}"
