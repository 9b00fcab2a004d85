"""The section of a ratio sweep."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from configs.section import Fraction, PositiveCount, Section


def _as_axes(value: Any) -> Any:
    return (value,) if isinstance(value, dict) else value


class Sweep(Section):
    """The arms of a ratio sweep."""

    general: Annotated[tuple[Fraction, ...], Field(min_length=1)]
    """General shares, an arm each. 1.0 is the control: the same tokens without the domain."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Repeat every arm with each of these as train.seed and data.seed: the spread between them is
    the noise that the law's intervals rest on. Left out: once, with the recipe's own seeds."""
    over: Annotated[tuple[dict[str, tuple[Any, ...]], ...], BeforeValidator(_as_axes)] = ()
    """Further axes: recipe keys as ``--set`` takes them, each with its values. Axes multiply, the
    keys of one axis go together: [{schedule.peak_lr: [1e-5, 3e-5]}, {schedule.tokens: [1B, 2B],
    schedule.anneal: [20%, 10%]}] is four arms for each share."""
    full_tokens: PositiveCount | None = None
    """Tokens of the run that the sweep stands for, counted as ``schedule.tokens``. Each arm then
    reads a part of every source, so that it repeats it as often as that run would at the same
    share: a small sweep that repeats less finds another ratio. Left out: arms read all of it."""
    budgets: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()
    """Also train every arm at these fractions of its tokens, with its warm-up. What two arms have
    in common is trained once: a shorter arm is an anneal branch of the longer one's stable
    stretch, and so are arms that differ in ``schedule.phases.anneal`` alone."""
    merge: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()
    """Also measure models between the one that arms are compared with (0) and the arm with the
    smallest share (1), at these parts of the way: what merging keeps without another training."""
    average: tuple[Annotated[int, Field(ge=2)], ...] = ()
    """Also measure the mean of so many last checkpoints of the arm with the smallest share, which
    ``train.checkpoint_tokens`` and ``train.keep_last`` must keep; each number is a point."""
    saturation: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Also train the arm with the smallest share at this fraction of the tokens, and report how
    much of its gain the last part added: whether mixing costs more than exposures."""
