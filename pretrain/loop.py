"""The training loop, top to bottom.

A step trains on ``batch_rows`` consecutive positions of the plan. Position alone decides rows and
learning rate; the loss is the sum over the step's supervised tokens divided by their number,
which the plan knows beforehand, so ranks, micro batches and masks do not change it. (What keeps a
mixture of experts in balance is not linear in the tokens, and depends on the micro batches.)
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from configs import CheckFailed, Schedule, Train
from mixing.plan import Plan
from mixing.rows import RowReader
from pretrain.batches import collate
from pretrain.engine import Engine
from pretrain.objective import Objective
from pretrain.schedule import first_steps, lr_at
from pretrain.steps import micro_batches


@dataclass(frozen=True)
class Progress:
    """What has been trained: the state that a checkpoint carries besides tensors."""

    step: int = 0
    supervised_tokens: int = 0
    skipped_steps: tuple[int, ...] = ()
    supervised_by_source: tuple[int, ...] = ()
    """Of ``supervised_tokens``, by source of the plan; empty before the first step."""


@dataclass(frozen=True)
class Run:
    """The parts that a training run is made of."""

    plan: Plan
    rows: RowReader
    engine: Engine
    schedule: Schedule
    train: Train
    document_mask: bool
    lengths: bool
    """Whether attention takes the lengths of documents; see ``collate``."""
    objective: Objective
    device: torch.device
    save: Callable[[Progress], None]
    """Called by all ranks where a checkpoint is due."""
    log: Callable[[dict[str, Any]], None]
    """Called by rank 0 after each step."""
    measure: Callable[[Progress], bool]
    """Called by all ranks where a measurement is due; whether a stop ended it."""
    stop_asked: Callable[[], bool]
    """Whether a signal came to this rank."""


def train(
    run: Run, progress: Progress, due: frozenset[int], measured: frozenset[int] = frozenset()
) -> tuple[Progress, bool]:
    """Train from ``progress`` to the end of the plan, or to a stop that any rank was asked for.

    ``due`` holds the step counts at which a checkpoint is saved, ``measured`` those at which the
    live model is still to be measured. Returns the progress and whether the plan is complete.
    Raises CheckFailed after ``max_skipped_steps`` non-finite steps in a row.
    """
    run.engine.module.train()
    # Before the first step, and where a stop cut the measurement off.
    if progress.step in measured and run.measure(progress):
        return progress, False
    while progress.step < run.plan.steps:
        began = time.perf_counter()
        lr = lr_at(progress.step, run.plan.steps, first_steps(run.plan), run.schedule)
        agreed = _accumulate(run, progress.step)
        applied = run.engine.step(lr)
        if run.engine.lr() != {lr}:
            raise RuntimeError(f"learning rate {run.engine.lr()} in force, not {lr}")
        sums, stop = agreed()
        progress = _advanced(progress, applied, sums)
        if dist.get_rank() == 0:
            seconds = time.perf_counter() - began
            run.log(_metrics(run, progress, sums, lr, applied, seconds))
        in_a_row = skipped_in_a_row(progress)
        if in_a_row > run.train.max_skipped_steps:
            raise CheckFailed(
                f"{in_a_row} steps in a row had non-finite gradients, the last at {progress.step}",
                "lower schedule.peak_lr, or look at the rows with `alloy corpus trace`",
            )
        unmeasured = progress.step in measured and (stop or run.measure(progress))
        stop = stop or unmeasured
        if stop or progress.step in due:
            run.save(progress)
        if stop:
            return progress, progress.step == run.plan.steps and not unmeasured
    return progress, True


def _accumulate(run: Run, step: int) -> Callable[[], tuple[np.ndarray, bool]]:
    """Gradients of one step. The result waits for what the ranks agree on: the sums of loss and
    targets by source (2, sources), and whether one of them was asked to stop."""
    first = step * run.plan.batch_rows
    targets = run.rows.supervised(first, run.plan.batch_rows)
    _seed(hash((run.train.seed, step, dist.get_rank())) & (2**63 - 1), run.device)
    # On the device: reading a figure back would make the next pass wait for this one.
    sums = torch.zeros(2, len(run.plan.sources) + 1, dtype=torch.float64, device=run.device)
    batches = micro_batches(
        first,
        run.plan.batch_rows,
        dist.get_rank(),
        dist.get_world_size(),
        run.train.micro_batch_rows,
    )
    agreed = None
    for index, positions in enumerate(batches):
        rows = [None if p is None else run.rows.row(p) for p in positions]
        inputs, labels, sources = collate(
            rows,
            run.plan.seq_len,
            run.document_mask,
            len(run.plan.sources),
            run.device,
            run.lengths,
        )
        objective, nll = run.objective(run.engine.forward, inputs, labels)
        sums += _by_source(nll, labels, sources, sums.shape[1])
        if index + 1 == len(batches):
            agreed = _agreement(sums, run.stop_asked())
        loss = objective.sum() / max(targets, 1)
        balancing = run.engine.balancing()
        if balancing is not None:  # the mean over the step's targets of each pass's term
            loss = loss + balancing * (labels != -100).sum() / max(targets, 1)
        run.engine.backward(loss)
        if index + 1 < len(batches):
            run.engine.advance()
    assert agreed is not None  # there is a micro-batch, if only of empty places
    return agreed


def _seed(seed: int, device: torch.device) -> None:
    """Make dropout a function of the step and the rank, so that a resumed run needs no stored RNG.

    ``torch.manual_seed`` would also write down, with a formatted stack each, seeds for all kinds of
    devices that are not in use: most of a millisecond a step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def _by_source(
    nll: torch.Tensor, labels: torch.Tensor, sources: torch.Tensor, count: int
) -> torch.Tensor:
    """Loss and targets of each source from those of each row, float64 (2, count); not by
    ``index_add_``, whose order of additions is left to chance on a GPU."""
    rows = torch.stack([nll.double(), (labels != -100).sum(dim=1).double()])
    of_source = sources == torch.arange(count, device=sources.device)[:, None]  # (count, rows)
    return torch.where(of_source, rows[:, None], 0.0).sum(dim=-1)


def _agreement(sums: torch.Tensor, stop_asked: bool) -> Callable[[], tuple[np.ndarray, bool]]:
    """Begin to add the ranks' sums up, which goes on beside the backward pass, and give what waits
    for the result; the last column of ``sums`` is of empty places and left out."""
    everything = torch.cat([sums.flatten(), sums.new_full((1,), float(stop_asked))])
    work = dist.all_reduce(everything, async_op=True)

    def agreed() -> tuple[np.ndarray, bool]:
        assert work is not None
        work.wait()
        found = everything.cpu()
        return found[:-1].view(2, -1)[:, :-1].numpy(), bool(found[-1] > 0)

    return agreed


def _advanced(progress: Progress, applied: bool, sums: np.ndarray) -> Progress:
    step = progress.step + 1
    if applied:
        trained = progress.supervised_tokens + int(sums[1].sum())
        before = progress.supervised_by_source or (0,) * sums.shape[1]
        by_source = tuple(b + int(n) for b, n in zip(before, sums[1], strict=True))
        return replace(
            progress, step=step, supervised_tokens=trained, supervised_by_source=by_source
        )
    return replace(progress, step=step, skipped_steps=(*progress.skipped_steps, step))


def skipped_in_a_row(progress: Progress) -> int:
    """Of the last steps, also of those before this start: or a run that is started again and again
    would come to its end without one applied."""
    found = 0
    for step in reversed(progress.skipped_steps):
        if step != progress.step - found:
            break
        found += 1
    return found


def realised_shares(plan: Plan, progress: Progress) -> dict[str, float]:
    """Share of each side in the supervised tokens trained so far."""
    sides: dict[str, int] = {}
    for source, tokens in zip(plan.sources, progress.supervised_by_source, strict=False):
        sides[source.role] = sides.get(source.role, 0) + tokens
    total = max(1, sum(sides.values()))
    return {role: tokens / total for role, tokens in sorted(sides.items())}


def _metrics(
    run: Run, progress: Progress, sums: np.ndarray, lr: float, applied: bool, seconds: float
) -> dict[str, Any]:
    batch_tokens = run.plan.batch_rows * run.plan.seq_len
    losses = {
        source.name: float(sums[0, i] / sums[1, i])
        for i, source in enumerate(run.plan.sources)
        if sums[1, i] > 0
    }
    return {
        "step": progress.step,
        "tokens": progress.step * batch_tokens,
        "supervised_tokens": progress.supervised_tokens,
        "lr": lr,
        "loss": float(sums[0].sum() / max(sums[1].sum(), 1)),
        "loss_by_source": losses,
        "realised_shares": realised_shares(run.plan, progress),
        "grad_norm": run.engine.grad_norm(),
        "applied": applied,
        "tokens_per_second": batch_tokens / seconds,
    }
