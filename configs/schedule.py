"""The section of a run's length and learning rate."""

import math
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from configs.mix import PhaseMix
from configs.section import Fraction, PositiveCount, Section

LR_PHASES = ("warmup", "stable", "anneal")
"""The phases of the learning rate, each of which may carry a mix under its name."""
RATE_WORDS = ("auto", "continued")
"""What ``schedule.peak_lr`` can be besides a number."""


def _rate(value: float | str) -> float | str:
    if value in RATE_WORDS:
        return value
    try:
        rate = float(value)  # YAML reads 1e-4, without a point, as a string
    except ValueError:
        rate = math.nan
    if not 0 < rate < 1:
        raise ValueError(f"a learning rate is between 0 and 1, or {' or '.join(RATE_WORDS)}")
    return rate


class Schedule(Section):
    """Length of the run and its learning rate, both by position in tokens."""

    tokens: PositiveCount
    """How long to train, rounded down to whole steps; ``tokens_of`` says what is counted."""
    tokens_of: Literal["run", "domain"] = "run"
    """run: positions of the whole run (rows x seq_len). domain: what the domain sources give, in
    ``mix.unit``, repeats counted; the general share comes on top, and the run's length follows."""
    batch_tokens: PositiveCount = 1_000_000
    """Positions in one optimizer step, rounded down to whole rows."""
    peak_lr: Annotated[float | str, AfterValidator(_rate)]
    """Learning rate of the stable phase. continued: the rate at which the base, an Alloy run,
    stands at its checkpoint. auto: that rate for an un-annealed run or catalog model, and a
    tenth of the base's own peak for an annealed one; `alloy plan` says which and why."""
    warmup: Fraction = 0.01
    """Share of the tokens with a rising learning rate."""
    anneal: Fraction = 0.2
    """Share of the tokens, at the end, with a falling learning rate; warmup + stable + anneal
    make up the whole."""
    anneal_shape: Literal["linear", "1-sqrt", "cosine", "exponential"] = "linear"
    """linear and 1-sqrt (Haegele et al. 2024) reach final_lr_ratio x peak at the end."""
    final_lr_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Learning rate at the end of the anneal, as a share of the peak."""
    phases: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")], PhaseMix] = {}
    """Mixes of single phases: warmup, stable, anneal, and named parts of the stable stretch."""

    @property
    def peak(self) -> float:
        """``peak_lr`` of a schedule whose start is known, so that it is a number."""
        assert isinstance(self.peak_lr, float)
        return self.peak_lr

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.warmup + self.anneal > 1 + 1e-12:
            raise ValueError(
                f"schedule.warmup {self.warmup:.0%} + schedule.anneal {self.anneal:.0%} "
                f"is {self.warmup + self.anneal:.0%}, over 100%"
            )
        if self.anneal_shape == "exponential" and self.final_lr_ratio == 0:
            raise ValueError("an exponential anneal needs schedule.final_lr_ratio over 0")
        return self

    @model_validator(mode="after")
    def _named_phases_fit(self) -> Self:
        for name, phase in self.phases.items():
            if name in LR_PHASES and phase.token_fraction is not None:
                raise ValueError(
                    f"schedule.phases.{name} takes no token_fraction: schedule.warmup and "
                    "schedule.anneal say how long it is"
                )
            if name not in LR_PHASES and phase.token_fraction is None:
                raise ValueError(
                    f"schedule.phases.{name} needs a token_fraction: it is a part of the stable "
                    "stretch (only warmup, stable and anneal have a length already)"
                )
        named, stretch = self.named_fraction, 1 - self.warmup - self.anneal
        if named > stretch + 1e-9:
            raise ValueError(
                f"the named phases take {named:.4%} of the tokens, and "
                f"{max(0.0, stretch):.4%} are left between warmup and anneal"
            )
        return self

    @property
    def named_fraction(self) -> float:
        """Share of the tokens that the named parts of the stable stretch take."""
        return math.fsum(p.token_fraction or 0.0 for p in self.phases.values())
