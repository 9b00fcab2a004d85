"""Arms that repeat each source as often as the run that the sweep stands for.

    arm's recipe, sweep.full_tokens ─▶ epochs of the full run ─▶ data.subset of the arm

Texts that a long run reads four times are read once or less by a short one, and a law fitted to
the short one holds for fresh text: over the repetition of the full run it is off (arXiv 2606.07597
found a proxy's mix off by 0.75 in share where repetition was not matched, by 0.05 where it was).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from alloy.planning import plan_recipe
from alloy.sweep_record import ArmRepetition, RepeatedSource
from alloy.sweeps.arm import Arm, arm_recipe
from configs import Recipe, UserError, with_values
from mixing.blend import Plan

MOST_ROUNDS = 8
_ANNEAL_MIX = "schedule.phases.anneal"


@dataclass(frozen=True)
class Repetition:
    """How often an arm's sources would be read in the full run."""

    full_tokens: int
    """Of the full run of this arm: an arm with half of its tokens stands for half of that."""
    subset: float
    """Share of every source that the arm reads."""
    full_epochs: Mapping[str, float]
    """Passes over each source in the full run."""

    def beside(self, plan: Plan) -> ArmRepetition:
        """Beside the epochs of the arm, whose plan is given."""
        sources = tuple(
            RepeatedSource(name=name, epochs=epochs, full_epochs=self.full_epochs[name])
            for name, epochs in plan.epochs.items()
        )
        return ArmRepetition(full_tokens=self.full_tokens, subset=self.subset, sources=sources)


def repeated_recipes(
    recipe: Recipe, wanted: Sequence[Arm]
) -> list[tuple[Recipe, Repetition | None]]:
    """The recipe of each arm and, with ``sweep.full_tokens``, how its repetition was matched.

    Arms with the same share, seed and data read the same part, so that those with first steps in
    common still have them: shorter budgets, and arms that differ in the mix of their anneal.
    Raises UserError where a full run cannot be planned or is no longer than its arm.
    """
    if recipe.sweep is None or recipe.sweep.full_tokens is None:
        return [(arm_recipe(recipe, arm), None) for arm in wanted]
    solved: dict[str, dict[str, Any]] = {}
    found = []
    for arm in wanted:
        group = _group(arm)
        if group not in solved:
            solved[group] = _matching_values(arm_recipe(recipe, _whole(recipe, arm)), recipe)
        own = arm_recipe(recipe, arm)
        full_tokens = round(arm.part * recipe.sweep.full_tokens)
        epochs = _full_plan(own, full_tokens).epochs
        matched = with_values(own, solved[group], origin=f"arm {arm.name}")
        found.append((matched, Repetition(full_tokens, matched.data.subset, epochs)))
    return found


def _group(arm: Arm) -> str:
    """Equal for arms that may have first steps in common."""
    settings = {k: v for k, v in arm.settings.items() if not k.startswith(_ANNEAL_MIX)}
    return repr((arm.general_share, arm.seed, sorted(settings.items())))


def _whole(recipe: Recipe, arm: Arm) -> Arm:
    """The arm with all of the tokens that the recipe gives it."""
    tokens = with_values(recipe, arm.settings, origin=f"arm {arm.name}").schedule.tokens
    return replace(arm, tokens=tokens, part=1.0)


def _matching_values(own: Recipe, recipe: Recipe) -> dict[str, Any]:
    """What the recipe of an arm sets so that its epochs are those of the full run."""
    assert recipe.sweep is not None
    assert recipe.sweep.full_tokens is not None
    full = _full_plan(own, recipe.sweep.full_tokens)
    rows = plan_recipe(own).plan.rows
    if full.rows <= rows:
        raise UserError(
            f"sweep.full_tokens {recipe.sweep.full_tokens}: the run that the sweep stands for is "
            f"no longer than its arm of {rows * full.seq_len} tokens",
            "give the tokens of the full run, or leave sweep.full_tokens out",
        )
    share = own.data.subset * rows / full.rows
    values = {f"data.sources.{s.name}.max_epochs": 2 * s.max_epochs + 1 for s in full.sources}
    # The epochs follow from the part's units up to how densely its rows are packed, which
    # shifts all sources alike: one factor mends it.
    values["data.subset"] = share
    plan = _plan_with(own, values)
    for _ in range(MOST_ROUNDS):
        asked = sum(full.epochs[source.name] * source.rows for source in plan.sources)
        if abs(plan.rows - asked) < 0.5:
            break
        share = min(share * plan.rows / asked, own.data.subset)
        values["data.subset"] = share
        plan = _plan_with(own, values)
    # The full run was held to the caps; rounding may take each phase of an arm a row over them.
    for source in plan.sources:
        cap = next(s.max_epochs for s in full.sources if s.name == source.name)
        over = (len(plan.phases) + 1) / source.rows
        values[f"data.sources.{source.name}.max_epochs"] = round(cap + over, 6)
    return values


def _plan_with(own: Recipe, values: dict[str, Any]) -> Plan:
    return plan_recipe(with_values(own, values, origin=own.name)).plan


def _full_plan(own: Recipe, full_tokens: int) -> Plan:
    """The plan of an arm's recipe at the length of the full run."""
    try:
        return _plan_with(own, {"schedule.tokens": full_tokens})
    except UserError as error:
        raise UserError(f"sweep.full_tokens {full_tokens}: {error.message}", error.hint) from None


def repetition_line(arms: Sequence[ArmRepetition]) -> str:
    """What the repetition of all arms comes to, in one sentence."""
    shares = [arm.subset for arm in arms]
    worst = max(
        (source for arm in arms for source in arm.sources),
        key=lambda source: abs(source.epochs - source.full_epochs),
    )
    full = max(arm.full_tokens for arm in arms)
    return (
        f"repetition: arms read {min(shares):.4%} to {max(shares):.4%} of every source, so that "
        f"they repeat it as the run of {full:,} tokens that they stand for; furthest off is "
        f"{worst.name}, {worst.epochs:.3f} epochs for {worst.full_epochs:.3f}"
    )
