"""A job on one rank: its parts put together, trained, and exported."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch.distributed as dist
from transformers import PreTrainedModel

import checkpoints
from checkpoints import export_folder
from configs import UserError
from evals.scoring import forward_tokens
from mixing.blend import Plan, RowReader
from mixing.corpus import Corpus, open_corpus
from mixing.tokens import TokenizerFile, load_tokenizer
from pretrain.engine import Engine, device, device_name
from pretrain.job import Job
from pretrain.model import flops_per_token, has_experts, matrix_weights, model_from, peak_flops
from pretrain.ranks.prepare import prepare
from pretrain.run_folder import LINEAGE, read_metrics
from pretrain.training import (
    HELDOUT,
    Measurement,
    Progress,
    Run,
    Saver,
    Watch,
    corpus_documents,
    first_steps,
    measured_at,
    measurement,
    pinned,
    progress_of,
    replayed,
    require_same,
    saved_at,
    say_once,
    state_of,
    train,
)


def run_job(job: Job, stop: Callable[[], bool], part: Callable[[], None] = lambda: None) -> bool:
    """Train the job from its newest good checkpoint, or from its start; True when complete.
    ``part`` is called by all ranks once they have nothing more to do together."""
    plan = _plan(job)
    tokenizer = load_tokenizer(job.tokenizer)
    ready = prepare(job, plan, tokenizer)
    engine, resumed, lengths = ready.engine, ready.resumed, ready.lengths
    job = job.model_copy(update={"lineage": {**job.lineage, "attention": ready.attention}})
    corpus = open_corpus(job.data, job.keys, job.eval_hashes)
    rows = RowReader(plan, corpus.readers, corpus.packed, pad_id=tokenizer.eos_id)
    batch_tokens = forward_tokens(ready.model, job.evals.batch_tokens)
    measured = _measurement(job, corpus, tokenizer, batch_tokens)
    progress = progress_of(resumed, plan)
    watch = _watch(job, plan, engine, progress.step) if dist.get_rank() == 0 else None
    saver = _saver(job, plan, ready.model, progress.step)

    def replay(position: int) -> dict[str, Any]:
        masked = job.data.document_mask
        return replayed(engine, ready.objective, rows, position, masked, lengths, device())

    if resumed is not None and "replay" in resumed.state:
        found = replay(resumed.state["position"])
        require_same(resumed.state["replay"], found, job.train.precision, resumed.path)

    def save(reached: Progress) -> None:
        state = state_of(job, plan, rows.order, reached, dist.get_world_size())
        saver.save(engine, reached.step, {**state, "replay": replay(state["position"])})

    def log(row: dict[str, Any]) -> None:
        assert watch is not None
        watch.step(row)

    run = Run(
        plan=plan,
        rows=rows,
        engine=engine,
        schedule=job.schedule,
        train=job.train,
        document_mask=job.data.document_mask,
        lengths=lengths,
        objective=ready.objective,
        device=device(),
        save=save,
        log=log,
        measure=partial(_measure, measured, engine, plan, watch, stop),
        stop_asked=stop,
    )
    due = measured_at(job, plan) - _measured_before(job, progress)
    progress, complete = train(run, progress, saved_at(job, plan), due)
    if watch is not None:
        watch.close()
    # Before the export, which takes rank 0 long: nobody waits for it, so no patience runs out.
    dist.barrier()
    exports = complete and dist.get_rank() == 0
    part()
    if exports:
        _finish(job, saver.root, plan.steps)
    return complete


def _plan(job: Job) -> Plan:
    """Raises UserError where it is of another start, which a kill ended between plan and job."""
    plan = Plan.from_json(checkpoints.read_json(job.folder / "plan.json"))
    if plan.hash != job.plan_hash:
        raise UserError(f"{job.folder}: its plan is not that of its job", "run `alloy train` again")
    return plan


def _measure(
    measured: Measurement,
    engine: Engine,
    plan: Plan,
    watch: Watch | None,
    stop: Callable[[], bool],
    reached: Progress,
) -> bool:
    """All ranks together; whether a stop ended it."""
    found = measured.measure(engine, device(), stop)
    if found is not None and watch is not None:
        tokens = reached.step * plan.batch_rows * plan.seq_len
        annealed = reached.step > first_steps(plan)[1]
        watch.measured(found, reached.step, tokens, annealed, measured)
    return found is None


def _measured_before(job: Job, progress: Progress) -> frozenset[int]:
    """Steps up to where the run goes on of which an earlier start wrote a measurement down."""
    rows = read_metrics(job.folder / HELDOUT) if progress.step > 0 else []
    found: list[Any] = [{row["step"] for row in rows if row["step"] <= progress.step}]
    dist.broadcast_object_list(found, src=0)
    return frozenset(found[0])


def _saver(job: Job, plan: Plan, model: PreTrainedModel, first_step: int) -> Saver:
    root = job.checkpoints
    abandoned = {step for step in checkpoints.steps(root) if step > first_step}
    generation = getattr(model, "generation_config", None)
    kept = pinned(job, plan), job.train.keep_last
    return Saver(root, *kept, model.config, generation, abandoned)


def _measurement(
    job: Job, corpus: Corpus, tokenizer: TokenizerFile, batch_tokens: int
) -> Measurement:
    """What is measured on the live model; nothing where the recipe asks for no measurement.

    Raises UserError where it does, and there is nothing to measure on.
    """
    documents = (
        list(corpus_documents(corpus, tokenizer, job.evals.bpb_tokens))
        if job.train.eval_tokens is not None
        else []
    )
    if job.train.eval_tokens is not None and not documents:
        raise UserError(
            "train.eval_tokens: no source has held-out or retention text",
            "raise data.sources[].heldout, add a retention source, or leave it out",
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


def _finish(job: Job, root: Path, steps: int) -> None:
    checkpoint = checkpoints.open_checkpoint(root / checkpoints.step_name(steps))
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
    checkpoints.write_json(job.folder / LINEAGE, lineage)
    say_once(f"exported {job.folder / 'export'}")
