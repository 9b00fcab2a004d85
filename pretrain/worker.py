"""Entry point of one rank; started by the launcher as ``-m pretrain.worker --job FILE``."""

import argparse
import datetime
import errno
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
import torch.distributed as dist
from transformers.utils import logging as transformers_logging

from checkpoints import folder
from checkpoints.export import export_folder
from configs import AlloyError, UserError
from evals.model_state import forward_tokens
from mixing.corpus import Corpus, open_corpus
from mixing.plan import Plan
from mixing.rows import RowReader
from mixing.tokenizer import TokenizerFile, load_tokenizer
from pretrain.attention import (
    Attention,
    ability,
    choose,
    machine,
    require_documents_apart,
    use,
)
from pretrain.batches import document_inputs
from pretrain.documents import corpus_documents
from pretrain.engine import Engine, device, device_name, join_ranks, sums_gradients_in
from pretrain.flops import flops_per_token, has_experts, peak_flops
from pretrain.heldout import HELDOUT, Measurement, measurement
from pretrain.job import (
    ERROR,
    STOP_SIGNALS,
    STOPPED,
    Job,
    gave_up,
    read_job,
    silent_ranks,
    take_back_word,
)
from pretrain.loop import Progress, Run, train
from pretrain.milestones import measured_at, pinned, progress_of, saved_at, state_of
from pretrain.model import Start, load_start, matrix_weights, model_from, resume_start
from pretrain.objective import ChunkedHead, Objective, chunked_head, require_plain_logits
from pretrain.one_folder import require_one_folder
from pretrain.replay import replayed, require_same
from pretrain.run_folder import LINEAGE, BeingTrainedError, held, read_metrics
from pretrain.saving import Saver, disk_full, load_moments
from pretrain.schedule import first_steps
from pretrain.steps import accumulation, micro_batches
from pretrain.watch import Watch, say

_SAME_SIGNAL_S = 5.0
_LAST_WORDS_S = 5.0
_LOCK_PATIENCE_S = 10.0
_FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}


class StopFlag:
    """Set by STOP_SIGNALS; a second signal later than that ends the process at once.

    Launchers pass one stop on more than once, so repeats within seconds are the same signal.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        for number in STOP_SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup leaves SIGHUP
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
    job = _job(parser.parse_args().job)
    stop = StopFlag()
    rank = int(os.environ["RANK"])
    take_back_word(job.folder, rank)
    transformers_logging.disable_progress_bar()
    try:
        join_ranks(_patience(job))
        with held(job.folder, _LOCK_PATIENCE_S) if rank == 0 else nullcontext() as unlocked:
            if unlocked is not None:
                _say(f"warning: {unlocked}")
            # By which no rank goes on in a folder that rank 0 does not hold.
            require_one_folder(job.folder)
            complete = run_job(job, stop)
    except AlloyError as error:
        _leave(job, error)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        _leave(job, disk_full(str(error), _checkpoints(job)))
    except RuntimeError as error:
        # Of torch.distributed among others: who gave up says so, who hangs cannot.
        gave_up(job.folder, rank, str(error))
        time.sleep(_LAST_WORDS_S)  # the first to end takes the others along
        for silent in silent_ranks(job.folder, int(os.environ["WORLD_SIZE"])):
            print(f"[rank{rank}]: rank {silent} hangs or is gone")
        raise
    dist.destroy_process_group()
    # Everything is written. The interpreter's end would run C++ destructors that now and then
    # find a communication thread still alive and abort a run that is complete.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0 if complete else STOPPED)


def _job(path: Path) -> Job:
    try:
        return read_job(path)
    except AlloyError as error:
        _leave(None, error)


def _leave(job: Job | None, error: AlloyError) -> NoReturn:
    """Left for the command line, which prints it once; in the log for who started ranks without."""
    told = {"message": error.message, "hint": error.hint, "exit_code": error.exit_code}
    print(f"[rank{os.environ['RANK']}]: AlloyError: {error.message}; hint: {error.hint}")
    sys.stdout.flush()
    if job is not None and not isinstance(error, BeingTrainedError):  # another start's folder
        # The disk may be full, and other ranks may write the same.
        with suppress(OSError):
            folder.write_json(job.folder / ERROR, told)
    os._exit(error.exit_code)


def _patience(job: Job) -> datetime.timedelta:
    return datetime.timedelta(minutes=job.train.timeout_minutes)


def run_job(job: Job, stop: Callable[[], bool]) -> bool:
    """Train the job from its newest good checkpoint, or from its start; True when complete."""
    plan = Plan.from_json(json.loads((job.folder / "plan.json").read_text(encoding="utf-8")))
    tokenizer = load_tokenizer(job.tokenizer)
    resumed = _agree_on_resume(job, plan)
    start = _start(job, tokenizer, resumed)
    _say(f"start: {start.described}")
    _check_model(job, start)
    attention = _attention(job, start)
    job = job.model_copy(update={"lineage": {**job.lineage, "attention": attention.name}})
    head = _loss_head(job, start)
    engine = _engine(job, plan, start)
    if head is not None:
        require_plain_logits(engine.forward, engine.module, head)
    lengths = attention.name == "flash"
    if job.data.document_mask:
        _check_documents(engine, job, lengths)
    corpus = open_corpus(job.data, job.keys, job.eval_hashes)
    rows = RowReader(plan, corpus.readers, corpus.packed, pad_id=tokenizer.eos_id)
    batch_tokens = forward_tokens(start.model, job.evals.batch_tokens)
    measured = _measurement(job, corpus, tokenizer, batch_tokens)
    progress = progress_of(resumed, plan)
    watch = _watch(job, plan, engine, progress.step) if dist.get_rank() == 0 else None
    saver = _saver(job, plan, start, progress.step)

    objective = Objective(job.train.z_loss, head)

    def replay(position: int) -> dict[str, Any]:
        masked = job.data.document_mask
        return replayed(engine, objective, rows, position, masked, lengths, device())

    if resumed is not None and "replay" in resumed.state:
        found = replay(resumed.state["position"])
        require_same(resumed.state["replay"], found, job.train.precision, resumed.path)

    def save(reached: Progress) -> None:
        state = state_of(job, plan, rows.order, reached, dist.get_world_size())
        saver.save(engine, reached.step, {**state, "replay": replay(state["position"])})

    def log(row: dict[str, Any]) -> None:
        assert watch is not None
        watch.step(row)

    def measure(reached: Progress) -> bool:
        found = measured.measure(engine, device(), stop)
        if found is not None and watch is not None:
            tokens = reached.step * plan.batch_rows * plan.seq_len
            annealed = reached.step > first_steps(plan)[1]
            watch.measured(found, reached.step, tokens, annealed, measured)
        return found is None

    run = Run(
        plan=plan,
        rows=rows,
        engine=engine,
        schedule=job.schedule,
        train=job.train,
        document_mask=job.data.document_mask,
        lengths=lengths,
        objective=objective,
        device=device(),
        save=save,
        log=log,
        measure=measure,
        stop_asked=stop,
    )
    due = measured_at(job, plan) - _measured_before(job, progress)
    progress, complete = train(run, progress, saved_at(job, plan), due)
    if watch is not None:
        watch.close()
    # Before the export, which takes rank 0 long: nobody waits for it, so no patience runs out.
    dist.barrier()
    if complete and dist.get_rank() == 0:
        _finish(job, saver.root, plan.steps)
    return complete


def _measured_before(job: Job, progress: Progress) -> frozenset[int]:
    """Steps up to where the run goes on of which an earlier start wrote a measurement down."""
    rows = read_metrics(job.folder / HELDOUT) if progress.step > 0 else []
    found: list[Any] = [{row["step"] for row in rows if row["step"] <= progress.step}]
    dist.broadcast_object_list(found, src=0)
    return frozenset(found[0])


def _saver(job: Job, plan: Plan, start: Start, first_step: int) -> Saver:
    root = _checkpoints(job)
    abandoned = {step for step in folder.steps(root) if step > first_step}
    generation = getattr(start.model, "generation_config", None)
    kept = pinned(job, plan), job.train.keep_last
    return Saver(root, *kept, start.model.config, generation, abandoned)


def _loss_head(job: Job, start: Start) -> ChunkedHead | None:
    """Put into the model where the recipe asks for another way than whole logits."""
    way = job.train.cross_entropy
    if way == "whole":
        return None
    return chunked_head(start.model, job.train.z_loss, fused=way == "fused")


def _measurement(
    job: Job, corpus: Corpus, tokenizer: TokenizerFile, batch_tokens: int
) -> Measurement:
    """What is measured on the live model; nothing where the recipe asks for no measurement."""
    documents = (
        list(corpus_documents(corpus, tokenizer, job.evals.bpb_tokens))
        if job.train.eval_tokens is not None
        else []
    )
    start_id = tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id
    return measurement(
        documents, job.data.seq_len, batch_tokens, start_id, job.budget.retention_bpb
    )


def _watch(job: Job, plan: Plan, engine: Engine, first_step: int) -> Watch:
    config = engine.config
    return Watch(
        job.folder,
        plan.steps,
        first_step,
        flops_per_token(
            matrix_weights(engine.trained, config),
            config.num_hidden_layers,
            config.hidden_size,
            plan.seq_len,
        ),
        # Which experts a token meets is not known here.
        None if has_experts(config) else peak_flops(device_name(), job.train.peak_tflops),
        dist.get_world_size(),
        job.train.tensorboard,
    )


def _checkpoints(job: Job) -> Path:
    return job.folder / "checkpoints"


def _agree_on_resume(job: Job, plan: Plan) -> folder.Checkpoint | None:
    """Rank 0 verifies and all ranks take the same checkpoint of this run, if there is one."""
    found: list[folder.Checkpoint | None] = [None]
    if dist.get_rank() == 0:
        swept = folder.sweep(_checkpoints(job))
        if swept is not None:
            _say(f"removed what a kill or a full disk left unfinished: {swept}")
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


def _check_model(job: Job, start: Start) -> None:
    """Say what computes, and refuse rows that are longer than the model has positions for."""
    found = device()
    if job.train.device == "cuda" and found.type != "cuda":
        raise UserError(
            "train.device cuda: torch finds no such device here",
            "check the driver (nvidia-smi) and that torch is not a CPU build",
        )
    sums = sums_gradients_in(job.train)
    _say(
        f"device: {device_name() or found.type}, {job.train.precision}, gradients summed in {sums}"
    )
    config = start.model.config.get_text_config()
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and job.data.seq_len > positions:
        raise UserError(
            f"data.seq_len {job.data.seq_len} is over the {positions} positions of the model",
            f"set data.seq_len: {positions} or less, or max_position_embeddings in its config.json",
        )


def _attention(job: Job, start: Start) -> Attention:
    """The implementation, the same on every rank, said and set."""
    here = machine(device(), job.train.precision)
    found = choose(job.train.attention, job.data.document_mask, here, ability(start.model))
    everywhere: list[Attention | None] = [None] * dist.get_world_size()
    dist.all_gather_object(everywhere, found)
    names = sorted({other.implementation for other in everywhere if other is not None})
    if len(names) > 1:
        raise UserError(
            f"train.attention: the ranks would compute with {' and with '.join(names)}",
            "install the same packages on every machine, or name one that all have",
        )
    use(start.model, found)
    _say(f"attention: {found.name} ({found.reason})")
    return found


def _check_documents(engine: Engine, job: Job, lengths: bool) -> None:
    """Refuse a model that cannot keep documents of a row apart."""

    def forward(ids: np.ndarray, positions: np.ndarray) -> torch.Tensor:
        inputs = document_inputs(positions, device(), lengths)
        return engine.forward(input_ids=torch.from_numpy(ids).to(device()), **inputs)

    # Logits of whole rows over a large vocabulary would take gigabytes, and show no more.
    shape = min(2, job.train.micro_batch_rows), min(256, job.data.seq_len)
    require_documents_apart(forward, engine.module, shape, engine.config.vocab_size)


def _engine(job: Job, plan: Plan, start: Start) -> Engine:
    ranks = dist.get_world_size()
    shape = micro_batches(0, plan.batch_rows, 0, ranks, job.train.micro_batch_rows)
    count = accumulation(plan.batch_rows, ranks, job.train.micro_batch_rows)
    # The fp32 values, which stay where they are when DeepSpeed gives the model others.
    weights = {name: p.detach() for name, p in start.model.named_parameters()}
    if job.train.activation_checkpointing:
        start.model.gradient_checkpointing_enable({"use_reentrant": False})
    engine = Engine(start.model, job.train, len(shape[0]), count, _patience(job))
    engine.import_weights(weights)
    if left_out := len(engine.names) - len(engine.trained):
        _say(f"not trained: {left_out} tensors of other modalities, which no text passes through")
    if start.moments is not None:
        load_moments(engine, start.moments)
    return engine


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
    folder.write_json(job.folder / LINEAGE, lineage)
    _say(f"exported {job.folder / 'export'}")


def _say(line: str) -> None:
    if not dist.is_initialized() or dist.get_rank() == 0:
        say(line)


if __name__ == "__main__":
    main()
