"""The training loop written again, plainly: one process, no DeepSpeed, one row at a time.

It shares only the row reader with the real one; loss, masks, decay groups, clipping, schedule and
AdamW are torch's own or spelled out here.
"""

import json
import math
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from mixing.blend.plan import Plan
from mixing.blend.rows import Row, RowReader
from mixing.corpus import open_corpus
from mixing.tokens.tokenizer import load_tokenizer
from pretrain.job import Job, read_job

Named = dict[str, torch.Tensor]


def reference_losses(run: Path) -> tuple[list[float], Named, Named]:
    """Mean loss of each step of a finished run's plan, the weights after the last, and the clipped
    gradient of the first."""
    job = read_job(run / "job.json")
    plan = Plan.from_json(json.loads((run / "plan.json").read_text()))
    tokenizer = load_tokenizer(job.tokenizer)
    corpus = open_corpus(job.data, job.keys, job.eval_hashes)
    reader = RowReader(plan, corpus.readers, corpus.packed, pad_id=tokenizer.eos_id)
    assert job.base.architecture is not None
    config = AutoConfig.for_model(
        **job.base.architecture, vocab_size=tokenizer.vocab_size, eos_token_id=0, bos_token_id=None
    )
    torch.manual_seed(job.train.seed)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    optimizer = adamw(model, job)
    losses: list[float] = []
    gradient: Named = {}
    for step in range(plan.steps):
        positions = range(step * plan.batch_rows, (step + 1) * plan.batch_rows)
        rows = [reader.row(p) for p in positions]
        targets = sum(int((r.labels != -100).sum()) for r in rows)
        total = sum(row_loss(model, row) for row in rows)
        assert isinstance(total, torch.Tensor)
        optimizer.zero_grad()
        (total / targets).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), job.train.grad_clip)
        gradient = gradient or {n: p.grad.clone() for n, p in model.named_parameters()}
        for group in optimizer.param_groups:
            group["lr"] = closed_form_lr(step, plan.steps, job)
        optimizer.step()
        losses.append(float(total.detach()) / targets)
    return losses, {n: p.detach() for n, p in model.named_parameters()}, gradient


def adamw(model: torch.nn.Module, job: Job) -> torch.optim.AdamW:
    named = list(model.named_parameters())
    plain = [p for n, p in named if "norm" in n or "embed" in n]
    decayed = [p for n, p in named if "norm" not in n and "embed" not in n]
    groups = [
        {"params": decayed, "weight_decay": job.train.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    betas = (job.train.beta1, job.train.beta2)
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=job.train.eps)


def row_loss(model: torch.nn.Module, row: Row) -> torch.Tensor:
    """Summed loss of a row, each of its documents run through the model alone.

    Only whether a token is supervised is taken from the row's labels.
    """
    total = torch.zeros(())
    for segment in range(int(row.segments.max()) + 1):
        inside = torch.from_numpy(row.segments == segment)
        ids = torch.from_numpy(row.input_ids)[inside]
        if len(ids) > 1:
            logits = model(ids[None]).logits[0]
            asked = torch.from_numpy(row.labels)[inside][:-1] != -100
            nll = torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="none")
            total = total + nll[asked].sum()
    return total


def closed_form_lr(step: int, steps: int, job: Job) -> float:
    """Warmup, stable and linear anneal, by the middle of the step."""
    schedule = job.schedule
    warm = math.floor(schedule.warmup * steps + 0.5)
    stable = math.floor((1 - schedule.anneal) * steps + 0.5)
    middle = step + 0.5
    if step < warm:
        return schedule.peak_lr * middle / warm
    if step < stable:
        return schedule.peak_lr
    return schedule.peak_lr * (steps - middle) / (steps - stable)
