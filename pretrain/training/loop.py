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
from mixing.blend import Plan, RowReader
from pretrain.engine import Engine
from pretrain.model import on_device
from pretrain.training.batches import collate
from pretrain.training.objective import Objective
from pretrain.training.schedule import first_steps, lr_at
from pretrain.training.steps import micro_batches


@dataclass(frozen=True)
class Progress:
    """What has been trained: the state that a checkpoint carries besides tensors."""

    step: int = 0
    supervised_tokens: int = 0
    skipped_steps: tuple[int, ...] = ()
    supervised_by_source: tuple[int, ...] = ()
    """Of ``supervised_tokens``, by source of the plan; empty before the first step."""


@dataclass(frozen=True)
class Agreed:
    """What the ranks found together in a step."""

    nats: tuple[float, ...]
    """Summed cross-entropy by source of the plan."""
    targets: tuple[int, ...]
    """Supervised tokens by source."""
    stop: bool
    """Whether a rank was asked to stop."""


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
        waiting = _accumulate(run, progress.step)
        applied = run.engine.step(lr)
        if run.engine.lr() != {lr}:
            raise RuntimeError(f"learning rate {run.engine.lr()} in force, not {lr}")
        agreed = waiting()
        progress = _advanced(progress, applied, agreed)
        if dist.get_rank() == 0:
            seconds = time.perf_counter() - began
            run.log(_metrics(run, progress, agreed, lr, applied, seconds))
        in_a_row = skipped_in_a_row(progress)
        if in_a_row > run.train.max_skipped_steps:
            raise CheckFailed(
                f"{in_a_row} steps in a row had non-finite gradients, the last at {progress.step}",
                "lower schedule.peak_lr, or look at the rows with `alloy corpus trace`",
            )
        unmeasured = progress.step in measured and (agreed.stop or run.measure(progress))
        stop = agreed.stop or unmeasured
        if stop or progress.step in due:
            run.save(progress)
        if stop:
            return progress, progress.step == run.plan.steps and not unmeasured
    return progress, True


def _accumulate(run: Run, step: int) -> Callable[[], Agreed]:
    """Gradients of one step. The result waits for what the ranks agree on."""
    first = step * run.plan.batch_rows
    count = len(run.plan.sources)
    targets = run.rows.supervised(first, run.plan.batch_rows)
    _seed(hash((run.train.seed, step, dist.get_rank())) & (2**63 - 1), run.device)
    # On the device: reading a figure back would make the next pass wait for this one.
    nats = torch.zeros(count, dtype=torch.float64, device=run.device)
    counted = np.zeros(count, np.int64)
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
        batch = collate(rows, run.plan.seq_len, run.document_mask, count, run.device, run.lengths)
        objective, nll = run.objective(run.engine.forward, batch.inputs, batch.labels)
        nats += _by_source(nll, batch.of_source)
        counted += batch.targets
        if index + 1 == len(batches):
            agreed = _agreement(nats, counted, run.stop_asked(), targets)
        loss = objective.sum() / max(targets, 1)
        balancing = run.engine.balancing()
        if balancing is not None:  # the mean over the step's targets of each pass's term
            loss = loss + balancing * (int(batch.targets.sum()) / max(targets, 1))
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


def _by_source(nll: torch.Tensor, of_source: torch.Tensor) -> torch.Tensor:
    """Loss of each source, float64 (sources,), from that of each row; not by ``index_add_``, whose
    order of additions is left to chance on a GPU."""
    return torch.where(of_source, nll.double(), 0.0).sum(dim=-1)


def _agreement(
    nats: torch.Tensor, targets: np.ndarray, stop_asked: bool, planned: int
) -> Callable[[], Agreed]:
    """Begin to add the ranks' figures up, which goes on beside the backward pass, and give what
    waits for the result. That raises CheckFailed where the rows had not the targets that the plan
    knows of, by which the gradients were divided."""
    counted = np.append(targets, stop_asked).astype(np.float64)
    everything = torch.cat([nats, on_device(counted, nats.device)])
    work = dist.all_reduce(everything, async_op=True)

    def agreed() -> Agreed:
        assert work is not None
        work.wait()
        found = everything.tolist()
        count = len(targets)
        trained = tuple(int(n) for n in found[count:-1])
        if sum(trained) != planned:
            raise CheckFailed(
                f"the rows of a step had {sum(trained)} supervised tokens, the plan {planned}",
                "run `alloy corpus verify --deep`, and build again what it names",
            )
        return Agreed(tuple(found[:count]), trained, found[-1] > 0)

    return agreed


def _advanced(progress: Progress, applied: bool, agreed: Agreed) -> Progress:
    step = progress.step + 1
    if not applied:
        return replace(progress, step=step, skipped_steps=(*progress.skipped_steps, step))
    before = progress.supervised_by_source or (0,) * len(agreed.targets)
    return Progress(
        step=step,
        supervised_tokens=progress.supervised_tokens + sum(agreed.targets),
        skipped_steps=progress.skipped_steps,
        supervised_by_source=tuple(b + n for b, n in zip(before, agreed.targets, strict=True)),
    )


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
    run: Run, progress: Progress, agreed: Agreed, lr: float, applied: bool, seconds: float
) -> dict[str, Any]:
    batch_tokens = run.plan.batch_rows * run.plan.seq_len
    losses = {
        source.name: nats / targets
        for source, nats, targets in zip(run.plan.sources, agreed.nats, agreed.targets, strict=True)
        if targets > 0
    }
    return {
        "step": progress.step,
        "tokens": progress.step * batch_tokens,
        "supervised_tokens": progress.supervised_tokens,
        "lr": lr,
        "loss": sum(agreed.nats) / max(sum(agreed.targets), 1),
        "loss_by_source": losses,
        "realised_shares": realised_shares(run.plan, progress),
        "grad_norm": run.engine.grad_norm(),
        "applied": applied,
        "tokens_per_second": batch_tokens / seconds,
    }
