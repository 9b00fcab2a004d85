"""The sections of how sources share the training."""

from typing import Annotated, Literal

from pydantic import Field

from configs.section import Fraction, Section
from configs.units import Share

Weights = dict[str, Annotated[float, Field(gt=0)]]


class Mix(Section):
    """How the sources share the training."""

    unit: Literal["supervised_tokens", "tokens"] = "supervised_tokens"
    """What a share counts: targets of the loss, or all tokens of the rows."""
    general: Fraction = 0.25
    """Share of all general sources together; the domain gets the rest."""
    weights: Weights = {}
    """Relative weights inside a side; a side without any is weighted by its sources' sizes."""


class PhaseMix(Section):
    """A phase's own mix, where it differs from ``mix``, and the length of a phase that is named.

    warmup, stable and anneal are as long as the learning rate says. Any other name is a part of
    the stable stretch, in the order of the recipe; what is left of the stretch is ``stable``,
    where it is listed or else before the others.
    """

    token_fraction: Annotated[Share, Field(gt=0, le=1)] | None = None
    """Share of the run's tokens; only for a named part of the stable stretch, which needs it."""
    general: Fraction | None = None
    """Share of the general sources in this phase; left out: ``mix.general``."""
    weights: Weights = {}
    """Relative weights inside a side in this phase; a side without any keeps ``mix.weights``."""
