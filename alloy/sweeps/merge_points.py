"""The second axis of a sweep: models made of one trained arm, each measured like an arm.

reference, export of the first arm, lambda ─▶ merged folder
last checkpoints of the first arm          ─▶ their mean
"""

import json
from pathlib import Path

from alloy.runs import RECORD, merge_between, open_part
from alloy.sweep_record import ArmEntry, AverageOf, MergeOf
from alloy.sweeps.arm import Arm
from checkpoints import write_json
from configs import Sweep, Train, UserError
from evals.records import weights_hash
from mixing.blend import Plan
from pretrain.training import steps_apart


def merge_entries(sweep: Sweep, arm: Arm, *, tokens: int, failed: str) -> list[ArmEntry]:
    """The lines of sweep.json of what is made of ``arm``, before it is: merges and averages.

    They have no general share: they are not trained, and no law is fitted to them.
    """
    entries = []
    for share in sorted(set(sweep.merge)):
        made = MergeOf.model_validate({"lambda": share, "of": arm.name})
        entries.append(_entry(arm, "merge", f"{share:g}", made, tokens, failed))
    for count in sorted(set(sweep.average)):
        made = AverageOf(checkpoints=count, of=arm.name)
        entries.append(_entry(arm, "average", str(count), made, tokens, failed))
    return entries


def _entry(
    arm: Arm, kind: str, tag: str, made: MergeOf | AverageOf, tokens: int, failed: str
) -> ArmEntry:
    name = f"{kind}_{tag}_of_{arm.name}"
    return ArmEntry.model_validate(
        {
            "name": name,
            "kind": kind,
            "general_share": None,
            "tokens": tokens,
            "seed": arm.seed,
            "settings": arm.settings,
            kind: made,
            "run": None,
            "eval": f"evals/{name}",
            "failed": failed,
        }
    )


def merged_model(base: Path, trained: Path, share: float, out: Path) -> Path:
    """The folder ``out`` with base + share x (trained - base), of two Hugging Face folders.

    What is there is kept where it was made of the same weights.
    """
    weights = {"base": weights_hash(base), "trained": weights_hash(trained), "lambda": share}
    path = out / RECORD
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")).get("weights") == weights:
        return out
    record = merge_between(open_part(str(base)), open_part(str(trained)), share, out)
    write_json(path, {**record, "weights": weights})
    return out


def averaged_steps(plan: Plan, train: Train, counts: tuple[int, ...]) -> dict[int, tuple[int, ...]]:
    """The steps whose checkpoints each average is of: the last one and those before it at the
    distance of ``train.checkpoint_tokens``. Raises UserError where there are not so many."""
    if not counts:
        return {}
    if train.checkpoint_tokens is None:
        raise UserError(
            "sweep.average needs checkpoints, and train.checkpoint_tokens is not set",
            "it says how many tokens lie between two of those that are averaged",
        )
    there = [*steps_apart(plan, train.checkpoint_tokens), plan.steps]
    if max(counts) > len(there):
        raise UserError(
            f"sweep.average {max(counts)}: a run of {plan.steps} steps has {len(there)} "
            f"checkpoints at train.checkpoint_tokens {train.checkpoint_tokens}",
            "average fewer, or set checkpoints closer together",
        )
    return {count: tuple(there[-count:]) for count in counts}
