"""Whether a recipe may go on in a run folder: as it is, or with a future that it did not have.

A run may be made longer, or its later phases changed, as long as everything that was trained
stays as it is: every row and every learning rate up to the newest checkpoint.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from alloy.planning import Planned
from checkpoints import Checkpoint, read_json, write_json
from configs import Base, Data, Mix, Schedule, Train, UserError
from mixing.blend import Plan
from pretrain.run_folder import RECIPE, differing_keys, never_trained
from pretrain.training import first_steps, lr_at

EXTENSIONS = "extensions.json"
_SECTIONS: dict[str, type[BaseModel]] = {
    "base": Base,
    "data": Data,
    "mix": Mix,
    "schedule": Schedule,
    "train": Train,
}


def require_same(run: Path, wanted: dict[str, Any]) -> None:
    """Before anything is built: what no run ever changes must be as it was. The schedule in
    ``wanted`` may be the recipe's own, with a peak rate that is to be found yet."""
    changed = [key for key in _changed(run, wanted) if key != "schedule.peak_lr"]
    if not all(map(_of_the_future, changed)):
        raise _other_settings(run, changed)


def permitted(
    run: Path, wanted: dict[str, Any], planned: Planned, reached: Checkpoint | None
) -> list[dict[str, Any]]:
    """The changes of its future that the run has with these settings, oldest first; writes nothing.

    ``reached`` is its newest good checkpoint. Raises UserError where another run was trained
    there, listing the keys that differ, and where a change of schedule or mix would change what
    was trained already.
    """
    if not _was_trained(run):
        return []
    changed = _changed(run, wanted)
    if not changed:
        return extensions(run)
    if reached is None or not all(map(_of_the_future, changed)):
        raise _other_settings(run, changed)
    old = _with_defaults(read_json(run / RECIPE), wanted)
    _refuse_other_past(run, Schedule.model_validate(old["schedule"]), planned, reached, changed)
    added = {
        "at_step": reached.step,
        "from_plan": reached.state["plan_hash"],
        "to_plan": planned.plan.hash,
        "changed": {key: [_at(old, key), _at(wanted, key)] for key in changed},
    }
    known = extensions(run)
    return known if added in known else [*known, added]


def _was_trained(run: Path) -> bool:
    return (run / RECIPE).is_file() and not never_trained(run)


def _changed(run: Path, wanted: dict[str, Any]) -> list[str]:
    if not _was_trained(run):
        return []
    old = _with_defaults(read_json(run / RECIPE), wanted)
    return differing_keys(old, json.loads(json.dumps(wanted)))


def _of_the_future(key: str) -> bool:
    """Whether a run that was trained may go on with another value."""
    return key.startswith(("schedule.", "mix."))


def _other_settings(run: Path, changed: list[str]) -> UserError:
    return UserError(
        f"{run} holds a run with other settings: {', '.join(changed)}",
        "give the run another name, or set these back",
    )


def take(run: Path, wanted: dict[str, Any], changes: list[dict[str, Any]]) -> None:
    """Take the run folder for these settings, with its ``permitted`` changes."""
    if changes:  # before the settings: a kill between the two must not lose what was changed
        write_json(run / EXTENSIONS, changes)
    else:
        (run / EXTENSIONS).unlink(missing_ok=True)
    write_json(run / RECIPE, wanted)


def extensions(run: Path) -> list[dict[str, Any]]:
    """The changes of its future that a run went through, oldest first."""
    path = run / EXTENSIONS
    return read_json(path) if path.is_file() else []


def _refuse_other_past(
    run: Path, old: Schedule, planned: Planned, reached: Checkpoint, changed: list[str]
) -> None:
    plan, state = planned.plan, reached.state
    keys = ", ".join(changed)
    if reached.step * plan.batch_rows != state["position"]:
        raise UserError(
            f"{run} was trained with {state['position'] // reached.step} rows a step, the recipe "
            f"now gives {plan.batch_rows} ({keys}): that is a new lineage",
            f"give the run another name and base: {{model: {run}, step: {reached.step}, "
            "start: weights+moments, data: continued}",
        )
    if plan.steps < reached.step:
        raise UserError(
            f"{run} has trained {reached.step} steps, the recipe now has {plan.steps} ({keys})",
            f"set schedule.tokens to {reached.step * plan.batch_rows * plan.seq_len} or more",
        )
    before = Plan.from_json(read_json(run / "plan.json"))
    _refuse_other_rates(run, (before, old), (plan, planned.start.schedule), reached.step, keys)
    if state.get("past_hash") != plan.past_hash(state["position"]):
        same = min(plan.common_rows(before), state["position"])
        raise UserError(
            f"{run} has trained {state['position']:,} rows, from row {same:,} on the recipe now "
            f"gives others ({keys})",
            "give the run another name, or set these back",
        )


def _refuse_other_rates(
    run: Path,
    before: tuple[Plan, Schedule],
    now: tuple[Plan, Schedule],
    steps: int,
    keys: str,
) -> None:
    stable, annealing = first_steps(before[0])
    plan, schedule = now
    _, anneal = first_steps(plan)
    trained = [
        lr_at(step, before[0].steps, first_steps(before[0]), before[1]) for step in range(steps)
    ]
    given = [lr_at(step, plan.steps, first_steps(plan), schedule) for step in range(steps)]
    if given == trained:
        return
    step = next(step for step in range(steps) if given[step] != trained[step])
    warmed = [lr_at(step, plan.steps, (stable, anneal), schedule) for step in range(steps)]
    hint = "give the run another name, or set these back"
    if warmed == trained:
        keeps = warmup_hint(stable, plan.steps)
        hint = f"schedule.warmup {keeps} keeps the warm-up of {stable} steps"
    elif 0 < annealing < steps and warmed[:annealing] == trained[:annealing]:
        hint = (
            f"it began to anneal after step {annealing}: give another name and base: {{model: "
            f"{run}, step: {annealing}, start: weights+moments, data: continued}}"
        )
    raise UserError(
        f"{run}: step {step + 1} was trained with a learning rate of {trained[step]:.6g}, the "
        f"recipe now gives {given[step]:.6g} ({keys})",
        hint,
    )


def warmup_hint(stable: int, steps: int) -> str:
    """``schedule.warmup`` that gives ``stable`` of ``steps`` steps."""
    return f"{stable / steps:.8g}"


def _with_defaults(old: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """The stored settings with today's defaults for keys that did not exist yet."""
    filled = dict(old)
    for name, section in _SECTIONS.items():
        if isinstance(old.get(name), dict) and isinstance(wanted.get(name), dict):
            try:
                whole = section.model_validate(old[name]).model_dump(mode="json")
            except ValidationError:  # a key that no longer exists: it is listed as differing
                continue
            filled[name] = {key: whole[key] for key in whole if key in wanted[name]}
    return filled


def _at(tree: dict[str, Any], dotted: str) -> Any:
    value: Any = tree
    for key in dotted.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value
