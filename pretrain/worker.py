"""Entry point of one rank; started by the launcher as ``-m pretrain.worker --job FILE``."""

import argparse
import datetime
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed as dist
from transformers.utils import logging as transformers_logging

from checkpoints import folder
from checkpoints.export import export_folder
from configs import AlloyError
from mixing.corpus import open_corpus
from mixing.cursors import cursors_at
from mixing.plan import Plan
from mixing.rows import RowReader
from mixing.seek import Order
from mixing.tokenizer import TokenizerFile, load_tokenizer
from pretrain.engine import Engine, device, join_ranks
from pretrain.job import ERROR, SHOWN, STOPPED, Job, read_job
from pretrain.loop import Progress, Run, train
from pretrain.model import Start, load_start, model_from, resume_start
from pretrain.run_folder import Metrics
from pretrain.saving import Saver, load_moments
from pretrain.schedule import first_steps, lr_at
from pretrain.steps import accumulation, micro_batches

_SAME_SIGNAL_S = 5.0
_TIMEOUT = datetime.timedelta(minutes=30)


class StopFlag:
    """Set by SIGTERM or SIGINT; a second signal later than that ends the process at once.

    Launchers pass one stop on more than once, so repeats within seconds are the same signal.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def __call__(self) -> bool:
        return self._since is not None

    def _handle(self, number: int, _frame: object) -> None:
        now = time.monotonic()
        if self._since is not None and now - self._since > _SAME_SIGNAL_S:
            os._exit(128 + number)
        self._since = self._since or now


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--job", type=Path, required=True)
    job = read_job(parser.parse_args().job)
    stop = StopFlag()
    transformers_logging.disable_progress_bar()
    try:
        join_ranks(_TIMEOUT)
        complete = run_job(job, stop)
    except AlloyError as error:
        # The command line prints it: ranks share one terminal, and a mistake is one line.
        told = {"message": error.message, "hint": error.hint, "exit_code": error.exit_code}
        folder.write_json(job.folder / ERROR, told)
        sys.stdout.flush()
        os._exit(error.exit_code)
    dist.destroy_process_group()
    # Everything is written. The interpreter's end would run C++ destructors that now and then
    # find a communication thread still alive and abort a run that is complete.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0 if complete else STOPPED)


def run_job(job: Job, stop: Callable[[], bool]) -> bool:
    """Train the job from its newest good checkpoint, or from its start; True when complete."""
    plan = Plan.from_json(json.loads((job.folder / "plan.json").read_text(encoding="utf-8")))
    tokenizer = load_tokenizer(job.tokenizer)
    resumed = _agree_on_resume(job, plan)
    start = _start(job, tokenizer, resumed)
    _say(f"start: {start.described}")
    engine = _engine(job, plan, start)
    rows = _row_reader(job, plan, tokenizer)
    progress = _progress(resumed)
    saver = Saver(_checkpoints(job), _pinned(job, plan), job.train.keep_last, start.model.config)
    metrics = Metrics(job.folder / "metrics.jsonl", progress.step) if dist.get_rank() == 0 else None

    def save(reached: Progress) -> None:
        saver.save(engine, reached.step, _state(job, plan, rows.order, reached))

    def log(row: dict[str, Any]) -> None:
        assert metrics is not None
        metrics.write(row)
        _show(row, plan.steps)

    run = Run(
        plan=plan,
        rows=rows,
        engine=engine,
        schedule=job.schedule,
        train=job.train,
        document_mask=job.data.document_mask,
        device=device(),
        save=save,
        log=log,
        stop_asked=stop,
    )
    progress, complete = train(run, progress, _due(job, plan))
    if metrics is not None:
        metrics.close()
    if complete and dist.get_rank() == 0:
        _finish(job, saver.root, plan.steps)
    dist.barrier()
    return complete


def _checkpoints(job: Job) -> Path:
    return job.folder / "checkpoints"


def _agree_on_resume(job: Job, plan: Plan) -> folder.Checkpoint | None:
    """Rank 0 verifies and all ranks take the same checkpoint of this run, if there is one."""
    found: list[folder.Checkpoint | None] = [None]
    if dist.get_rank() == 0:
        checkpoint, refused = folder.last_good(_checkpoints(job))
        for line in refused:
            _say(f"refused checkpoint: {line}")
        found = [checkpoint]
    dist.broadcast_object_list(found, src=0)
    checkpoint = found[0]
    if checkpoint is not None:
        _refuse_other_past(checkpoint, plan)
    return checkpoint


def _refuse_other_past(checkpoint: folder.Checkpoint, plan: Plan) -> None:
    """Everything up to the checkpoint must be as the plan has it; what comes later may differ."""
    state = checkpoint.state
    same_batch = state["position"] == checkpoint.step * plan.batch_rows
    if not same_batch or state.get("past_hash") != plan.past_hash(state["position"]):
        raise AlloyError(
            f"{checkpoint.path} was trained on plan {state['plan_hash']}, "
            f"the recipe now gives other rows ({plan.hash})",
            "give the run another name",
        )


def _start(job: Job, tokenizer: TokenizerFile, resumed: folder.Checkpoint | None) -> Start:
    if resumed is not None:
        return resume_start(resumed, tokenizer.vocab_size)
    return load_start(job.base, tokenizer.vocab_size, tokenizer.eos_id, job.train.seed)


def _engine(job: Job, plan: Plan, start: Start) -> Engine:
    ranks = dist.get_world_size()
    shape = micro_batches(0, plan.batch_rows, 0, ranks, job.train.micro_batch_rows)
    count = accumulation(plan.batch_rows, ranks, job.train.micro_batch_rows)
    weights = {name: p.detach().clone() for name, p in start.model.named_parameters()}
    start.model.to(device())  # pyright: ignore[reportArgumentType]
    engine = Engine(start.model, job.train, len(shape[0]), count, _TIMEOUT)
    engine.import_weights(weights)
    if start.moments is not None:
        load_moments(engine, start.moments)
    return engine


def _progress(resumed: folder.Checkpoint | None) -> Progress:
    if resumed is None:
        return Progress()
    state = resumed.state
    return Progress(resumed.step, state["supervised_tokens"], tuple(state["skipped_steps"]))


def _row_reader(job: Job, plan: Plan, tokenizer: TokenizerFile) -> RowReader:
    corpus = open_corpus(job.data, job.keys, job.eval_hashes)
    return RowReader(plan, corpus.readers, corpus.packed, pad_id=tokenizer.eos_id)


def _stage_ends(plan: Plan) -> list[int]:
    return [phase.first_step + phase.steps for phase in plan.phases if phase.name != "warmup"]


def _pinned(job: Job, plan: Plan) -> frozenset[int]:
    return frozenset({*_stage_ends(plan), *job.keep_steps})


def _due(job: Job, plan: Plan) -> frozenset[int]:
    due = {plan.steps, *_pinned(job, plan)}
    if job.train.checkpoint_tokens is not None:
        every = max(1, job.train.checkpoint_tokens // (plan.batch_rows * plan.seq_len))
        due |= set(range(every, plan.steps, every))
    return frozenset(due)


def _state(job: Job, plan: Plan, order: Order, progress: Progress) -> dict[str, Any]:
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
        "skipped_steps": list(progress.skipped_steps),
        "plan_hash": plan.hash,
        "complete": progress.step == plan.steps,
        "ranks": dist.get_world_size(),
        "lineage": job.lineage,
    }


def _finish(job: Job, root: Path, steps: int) -> None:
    checkpoint = folder.open_checkpoint(root / folder.step_name(steps))
    export_folder(model_from(checkpoint), job.tokenizer, job.folder / "export")
    state = checkpoint.state
    lineage = {
        **job.lineage,
        "plan_hash": state["plan_hash"],
        "steps": steps,
        "tokens": state["tokens"],
        "supervised_tokens": state["supervised_tokens"],
        "skipped_steps": state["skipped_steps"],
    }
    folder.write_json(job.folder / "lineage.json", lineage)
    _say(f"exported {job.folder / 'export'}")


def _show(row: dict[str, Any], steps: int) -> None:
    if row["step"] % max(1, steps // 20) and row["step"] != steps and row["applied"]:
        return
    left = (steps - row["step"]) * row["tokens"] / row["step"] / row["tokens_per_second"]
    skipped = "" if row["applied"] else "  NON-FINITE GRADIENTS, step not applied"
    _say(
        f"step {row['step']}/{steps}  loss {row['loss']:.4f}  lr {row['lr']:.3g}  "
        f"{row['tokens_per_second']:,.0f} tokens/s  {left:,.0f} s left{skipped}"
    )


def _say(line: str) -> None:
    if not dist.is_initialized() or dist.get_rank() == 0:
        print(SHOWN + line, flush=True)


if __name__ == "__main__":
    main()
