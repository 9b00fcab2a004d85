"""When a run saves and measures, and what a checkpoint says besides its tensors; pure."""

from typing import Any

from checkpoints import Checkpoint
from mixing.blend import Order, Plan, cursors_at
from pretrain.job import Job
from pretrain.training.loop import Progress
from pretrain.training.schedule import first_steps, lr_at, stage_ends, steps_apart


def pinned(job: Job, plan: Plan) -> frozenset[int]:
    """Step counts whose checkpoints are never removed: ends of stages, and where others branch."""
    return frozenset({*stage_ends(plan), *job.keep_steps})


def saved_at(job: Job, plan: Plan) -> frozenset[int]:
    """Step counts at which a checkpoint is due."""
    apart = steps_apart(plan, job.train.checkpoint_tokens)
    return frozenset({plan.steps, *pinned(job, plan), *apart})


def measured_at(job: Job, plan: Plan) -> frozenset[int]:
    """Step counts at which the live model is measured."""
    if job.train.eval_tokens is None:
        return frozenset()
    return frozenset({0, *steps_apart(plan, job.train.eval_tokens), plan.steps})


def progress_of(resumed: Checkpoint | None, plan: Plan) -> Progress:
    """Where a run goes on."""
    if resumed is None:
        return Progress()
    state = resumed.state
    by_source = state["supervised_by_source"]
    return Progress(
        resumed.step,
        state["supervised_tokens"],
        tuple(state["skipped_steps"]),
        tuple(by_source.get(source.name, 0) for source in plan.sources),
    )


def state_of(job: Job, plan: Plan, order: Order, progress: Progress, ranks: int) -> dict[str, Any]:
    """What the manifest of a checkpoint says of the run so far."""
    position = progress.step * plan.batch_rows
    last = max(0, progress.step - 1)
    return {
        "position": position,
        "past_hash": plan.past_hash(position),
        "cursors": cursors_at(plan, order, position, job.cursors),
        "lr": lr_at(last, plan.steps, first_steps(plan), job.schedule),
        "phase": next(p.name for p in plan.phases if last < p.first_step + p.steps),
        "tokens": progress.step * plan.batch_rows * plan.seq_len,
        "supervised_tokens": progress.supervised_tokens,
        "supervised_by_source": {
            source.name: tokens
            for source, tokens in zip(plan.sources, progress.supervised_by_source, strict=False)
        },
        "skipped_steps": list(progress.skipped_steps),
        "plan_hash": plan.hash,
        "complete": progress.step == plan.steps,
        "ranks": ranks,
        "lineage": job.lineage,
    }
