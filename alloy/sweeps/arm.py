"""Which runs a sweep is made of, and the recipe of each. Pure: nothing is read or started."""

import hashlib
import itertools
import json
import re
from dataclasses import dataclass, replace
from typing import Any, Literal

from configs import Recipe, UserError, with_values
from mixing.blend import bounds_of_steps, rows_per_step, steps_in_tokens

LONGEST_TAG = 40
_OWN_AXES = {
    "mix.general": "sweep.general",
    "train.seed": "sweep.seeds",
    "data.seed": "sweep.seeds",
}
# What all arms must share to be measured alike, and what is no part of a run.
_FIXED = (
    "name",
    "run_dir",
    "note",
    "evals",
    "budget",
    "sweep",
    "base.compare_with",
    "base.compare_with_revision",
    "data.tokenizer",
    "data.seq_len",
    "data.store",
    "data.append_eos",
)


@dataclass(frozen=True)
class Arm:
    """One run of a sweep."""

    name: str
    kind: Literal["arm", "control", "saturation", "confirm"]
    general_share: float
    tokens: int
    """Of the run or of the domain, as ``schedule.tokens``."""
    part: float
    """Of the tokens that the recipe gives it: 1 or one of ``sweep.budgets``."""
    seed: int | None
    """None: the recipe's own seeds."""
    settings: dict[str, Any]
    """What ``sweep.over`` sets in this arm, by recipe key."""


def arms(recipe: Recipe) -> list[Arm]:
    """Shares x settings x seeds x budgets, by ascending share and descending budget, then the
    saturation check of the first."""
    if recipe.sweep is None:
        raise UserError("the recipe has no sweep", "add sweep: {general: [0, 0.05, 0.25]}")
    shares = sorted(set(recipe.sweep.general))
    seeds = list(dict.fromkeys(recipe.sweep.seeds)) or [None]
    budgets = sorted({1.0, *recipe.sweep.budgets}, reverse=True)
    _refuse_saturation_twice(recipe)
    grid = itertools.product(shares, budgets, combinations(recipe), seeds)
    found = [_arm(recipe, share, settings, seed, part) for share, part, settings, seed in grid]
    if recipe.sweep.saturation is not None:
        found.append(_saturation(found[0], recipe.sweep.saturation))
    twice = sorted({a.name for a in found if [b.name for b in found].count(a.name) > 1})
    if twice:
        raise UserError(
            f"sweep: two arms are called '{twice[0]}'",
            "give shares that differ within six digits",
        )
    return found


def combinations(recipe: Recipe) -> list[dict[str, Any]]:
    """Every combination of ``sweep.over``: keys of one axis go together, axes multiply."""
    assert recipe.sweep is not None
    axes = []
    for axis in recipe.sweep.over:
        for key in axis:
            _refuse_fixed(key)
        lengths = {len(values) for values in axis.values()}
        if len(lengths) != 1:
            counts = ", ".join(f"{key} {len(values)}" for key, values in axis.items())
            raise UserError(
                f"sweep.over: the keys of one axis go together and need equal counts ({counts})",
                "give each as many values, or make them axes of their own",
            )
        axes.append(
            [dict(zip(axis, values, strict=True)) for values in zip(*axis.values(), strict=True)]
        )
    keys = [key for axis in recipe.sweep.over for key in axis]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise UserError(f"sweep.over: '{twice[0]}' is in two axes", "name it once")
    return [{k: v for part in parts for k, v in part.items()} for parts in itertools.product(*axes)]


def confirming(recipe: Recipe, share: float) -> Arm:
    """A further run at ``share``, with the settings that the law was fitted under."""
    first = arms(recipe)[0]
    arm = _arm(recipe, share, first.settings, None)
    return replace(arm, name=f"confirm_{share:g}", kind="confirm")


def arm_recipe(recipe: Recipe, arm: Arm) -> Recipe:
    """The recipe of one arm: its share, tokens, seed and settings, and a run folder of its own.

    An arm with a part of the tokens has the whole one's warm-up, so that both begin alike.
    Raises UserError where a setting is no key of a recipe or not a valid value.
    """
    values: dict[str, Any] = {**arm.settings, "mix.general": arm.general_share}
    values |= {"schedule.tokens": arm.tokens, "sweep": None}
    values["name"] = f"{recipe.name}/arms/{arm.name}"
    if arm.seed is not None:
        values |= {"train.seed": arm.seed, "data.seed": arm.seed}
    if arm.part != 1:
        whole = with_values(recipe, arm.settings, origin=f"arm {arm.name}")
        values["schedule.warmup"] = _warmup_of_part(whole, arm)
    return with_values(recipe, values, origin=f"arm {arm.name}")


def _arm(
    recipe: Recipe, share: float, settings: dict[str, Any], seed: int | None, part: float = 1.0
) -> Arm:
    name = f"general_{share:g}"
    name += "".join(f"_{_tag(key, value)}" for key, value in settings.items())
    name += "" if seed is None else f"_seed_{seed}"
    # As the recipe reads it: 2M is a count.
    tokens = with_values(recipe, settings, origin=f"arm {name}").schedule.tokens
    whole = Arm(name, "control" if share == 1 else "arm", share, tokens, 1.0, seed, settings)
    return whole if part == 1 else _shortened(whole, part)


def _shortened(whole: Arm, part: float) -> Arm:
    name = f"{whole.name}_at_{part:g}_tokens"
    return replace(whole, name=name, tokens=round(part * whole.tokens), part=part)


def _saturation(whole: Arm, part: float) -> Arm:
    return replace(_shortened(whole, part), kind="saturation")


def _warmup_of_part(whole: Recipe, arm: Arm) -> float:
    """The warm-up of ``whole`` as a share of the arm's tokens: of its steps where they are known,
    so that rounding does not make it another number of steps."""
    schedule = whole.schedule
    if schedule.tokens_of == "domain":
        return schedule.warmup / arm.part
    batch_rows = rows_per_step(schedule, whole.data.seq_len)
    shorter = schedule.model_copy(update={"tokens": arm.tokens})
    of_whole, of_part = (
        steps_in_tokens(s, batch_rows, whole.data.seq_len) for s in (schedule, shorter)
    )
    bounds = {name: steps for name, _, steps in bounds_of_steps(schedule, of_whole)}
    return bounds.get("warmup", 0) / max(1, of_part)


def _refuse_saturation_twice(recipe: Recipe) -> None:
    """The saturation check is one of the budgets, or an arm beside them, never the same arm."""
    assert recipe.sweep is not None
    if recipe.sweep.saturation in recipe.sweep.budgets:
        raise UserError(
            f"sweep.saturation {recipe.sweep.saturation:g} is one of sweep.budgets",
            "take saturation out: the report reads it off the arm with that budget",
        )


def _tag(key: str, value: Any) -> str:
    """A setting as a part of a folder's name; long values by their beginning and a hash."""
    text = value if isinstance(value, str) else json.dumps(value)
    tag = re.sub(r"[^A-Za-z0-9.-]+", "-", f"{key.rpartition('.')[2]}-{text}").strip("-")
    if len(tag) <= LONGEST_TAG:
        return tag
    return f"{tag[: LONGEST_TAG - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _refuse_fixed(key: str) -> None:
    if key in _OWN_AXES:
        raise UserError(f"sweep.over: '{key}' has an axis of its own", f"use {_OWN_AXES[key]}")
    if any(key == fixed or key.startswith(f"{fixed}.") for fixed in _FIXED):
        raise UserError(
            f"sweep.over: '{key}' must be the same in all arms, or they cannot be compared",
            "run another recipe for it, and join both: alloy report RUN RUN",
        )
