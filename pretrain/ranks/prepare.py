"""What a rank needs before its first step: checkpoint, model, attention, engine; all refusals."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from transformers import PreTrainedModel

import checkpoints
from configs import AlloyError, UserError
from mixing.blend import Plan
from mixing.tokens import TokenizerFile
from pretrain.engine import Engine, device, device_name, sums_gradients_in
from pretrain.job import Job
from pretrain.model import (
    Attention,
    Start,
    ability,
    base_checkpoint,
    choose,
    load_start,
    machine,
    require_documents_apart,
    require_positions,
    resume_start,
    run_start,
    use,
)
from pretrain.training import (
    ChunkedHead,
    Objective,
    accumulation,
    chunked_head,
    document_inputs,
    load_moments,
    micro_batches,
    require_plain_logits,
    say_once,
)


@dataclass(frozen=True)
class Ready:
    """A rank that can take its first step."""

    engine: Engine
    model: PreTrainedModel
    objective: Objective
    attention: str
    lengths: bool
    """Whether attention takes the lengths of documents; see ``collate``."""
    resumed: checkpoints.Checkpoint | None


def prepare(job: Job, plan: Plan, tokenizer: TokenizerFile) -> Ready:
    """All ranks together: take the newest good checkpoint or the base, and say from where.

    Raises AlloyError for a checkpoint of another run, and for a model that does not fit the recipe
    or cannot keep documents apart.
    """
    resumed = _agree_on_resume(job, plan)
    start = _started(job, tokenizer, resumed)
    say_once(f"start: {start.described}")
    _require_fit(job, start)
    attention = _agree_on_attention(job, start)
    head = _loss_head(job, start)
    engine = _engine_of(job, plan, start)
    if head is not None:
        require_plain_logits(engine.forward, engine.module, head)
    lengths = attention.name == "flash"
    if job.data.document_mask:
        _check_documents(engine, job, lengths)
    objective = Objective(job.train.z_loss, head)
    return Ready(engine, start.model, objective, attention.name, lengths, resumed)


def _agree_on_resume(job: Job, plan: Plan) -> checkpoints.Checkpoint | None:
    """The checkpoint of this run that all ranks go on from, if there is one."""
    checkpoint = _word_of_rank_0(lambda: _last_good(job))
    if checkpoint is not None:
        _refuse_other_past(checkpoint, plan)
    return checkpoint


def _last_good(job: Job) -> checkpoints.Checkpoint | None:
    swept = checkpoints.remove_unfinished(job.checkpoints)
    if swept is not None:
        say_once(f"removed what a kill or a full disk left unfinished: {swept}")
    checkpoint, refused = checkpoints.last_good(job.checkpoints)
    for line in refused:
        say_once(f"refused checkpoint: {line}")
    return checkpoint


def _word_of_rank_0(
    look: Callable[[], checkpoints.Checkpoint | None],
) -> checkpoints.Checkpoint | None:
    """All ranks together: what rank 0 finds, where each would read every byte of a checkpoint. What
    it refuses is raised on all of them."""
    found: list[Any] = [None]
    if dist.get_rank() == 0:
        try:
            found = [look()]
        except AlloyError as error:
            found = [error]
    dist.broadcast_object_list(found, src=0)
    if isinstance(found[0], AlloyError):
        raise found[0]
    return found[0]


def _refuse_other_past(checkpoint: checkpoints.Checkpoint, plan: Plan) -> None:
    """Everything up to the checkpoint must be as the plan has it; what comes later may differ."""
    state = checkpoint.state
    same_batch = state["position"] == checkpoint.step * plan.batch_rows
    if not same_batch or state.get("past_hash") != plan.past_hash(state["position"]):
        raise AlloyError(
            f"{checkpoint.path} was trained on plan {state['plan_hash']}, "
            f"the recipe now gives other rows ({plan.hash})",
            "give the run another name",
        )


def _started(job: Job, tokenizer: TokenizerFile, resumed: checkpoints.Checkpoint | None) -> Start:
    if resumed is not None:
        return resume_start(resumed, tokenizer.vocab_size)
    parent = _word_of_rank_0(lambda: base_checkpoint(job.base))
    if parent is not None:
        return run_start(job.base, parent, tokenizer.vocab_size)
    return load_start(job.base, tokenizer.vocab_size, tokenizer.eos_id, job.train.seed)


def _require_fit(job: Job, start: Start) -> None:
    """Say what computes, and refuse rows that are longer than the model has positions for."""
    found = device()
    if job.train.device == "cuda" and found.type != "cuda":
        raise UserError(
            "train.device cuda: torch finds no such device here",
            "check the driver (nvidia-smi) and that torch is not a CPU build",
        )
    sums = sums_gradients_in(job.train)
    say_once(
        f"device: {device_name() or found.type}, {job.train.precision}, gradients summed in {sums}"
    )
    config = start.model.config.get_text_config()
    require_positions(job.data.seq_len, getattr(config, "max_position_embeddings", None))


def _agree_on_attention(job: Job, start: Start) -> Attention:
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
    say_once(f"attention: {found.name} ({found.reason})")
    return found


def _loss_head(job: Job, start: Start) -> ChunkedHead | None:
    """Put into the model where the recipe asks for another way than whole logits."""
    way = job.train.cross_entropy
    if way == "whole":
        return None
    return chunked_head(start.model, job.train.z_loss, fused=way == "fused")


def _check_documents(engine: Engine, job: Job, lengths: bool) -> None:
    """Refuse a model that cannot keep documents of a row apart."""

    def forward(ids: np.ndarray, positions: np.ndarray) -> torch.Tensor:
        inputs = document_inputs(positions, device(), lengths)
        return engine.forward(input_ids=torch.from_numpy(ids).to(device()), **inputs)

    # Logits of whole rows over a large vocabulary would take gigabytes, and show no more.
    shape = min(2, job.train.micro_batch_rows), min(256, job.data.seq_len)
    require_documents_apart(forward, engine.module, shape, engine.config.vocab_size)


def _engine_of(job: Job, plan: Plan, start: Start) -> Engine:
    ranks = dist.get_world_size()
    shape = micro_batches(0, plan.batch_rows, 0, ranks, job.train.micro_batch_rows)
    count = accumulation(plan.batch_rows, ranks, job.train.micro_batch_rows)
    # As they are stored; the engine gives the model others.
    weights = {name: p.detach() for name, p in start.model.named_parameters()}
    if job.train.activation_checkpointing:
        start.model.gradient_checkpointing_enable({"use_reentrant": False})
    engine = Engine(start.model, job.train, len(shape[0]), count, job.patience)
    engine.import_weights(weights)
    if left_out := len(engine.names) - len(engine.trained):
        say_once(
            f"not trained: {left_out} tensors of other modalities, which no text passes through"
        )
    if start.moments is not None:
        load_moments(engine, start.moments)
    return engine
