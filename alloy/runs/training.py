"""Trains a recipe in its run folder: from the plan to the exported model."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from alloy.models import local_model, local_tokenizer
from alloy.planning import (
    Planned,
    begun,
    by_task,
    hold_parent,
    plan_recipe,
    require_rows_fit,
    run_folder,
    start_lines,
    tokenizer_name,
)
from alloy.runs.adopting import shared
from alloy.runs.building import build_recipe
from alloy.runs.extending import permitted, require_same, take
from checkpoints import last_good, write_json
from configs import Base, Recipe, Schedule, Train, UserError
from mixing.audit import receipt
from pretrain.engine import ROUNDING_KEYS, deepspeed_config
from pretrain.job import Job, write_job
from pretrain.launch import named, run_ranks
from pretrain.run_folder import AnotherStartError, complete, held, traces

# What may change between two starts of one run: none of it changes what is computed.
_FREE_BASE_KEYS = {"compare_with", "compare_with_revision"}
_FREE_TRAIN_KEYS = {
    "zero",
    "device",
    "ranks",
    "nodes",
    "hostfile",
    "micro_batch_rows",
    "attention",
    "cross_entropy",
    "activation_checkpointing",
    "offload_optimizer",
    "compile",
    "checkpoint_tokens",
    "keep_last",
    "eval_tokens",
    "tensorboard",
    "peak_tflops",
    "timeout_minutes",
    "stop_minutes",
    "max_skipped_steps",
}
RECEIPT_WINDOWS = 10
_PATIENCE_S = 10.0


def train_recipe(
    recipe: Recipe, show: Callable[[str], None], keep_steps: tuple[int, ...] = ()
) -> Path:
    """Train to the end of the plan, going on where an earlier start stopped.

    Checkpoints of ``keep_steps`` are kept besides those of the recipe. Returns the exported
    Hugging Face folder. Raises UserError for a recipe that cannot be trained, and where the run
    folder belongs to other settings.
    """
    job = prepare_run(recipe, show, keep_steps, refuse=named)
    if job is not None:
        run_ranks(job, lambda line: show(f"{recipe.name}: {line}"))
    return run_folder(recipe) / "export"


def prepare_run(
    recipe: Recipe,
    show: Callable[[str], None],
    keep_steps: tuple[int, ...] = (),
    refuse: Callable[[Train], object] = lambda _: None,
) -> Job | None:
    """Build, plan and take the run folder; what the ranks are told, or None for a finished run.

    ``refuse`` raises what the way of starting the ranks cannot do with the recipe. Raises
    AnotherStartError where another start has the folder, or takes it meanwhile.
    """
    if recipe.base is None:
        raise UserError("the recipe has no base to train", "add base: {model: ...}")
    deepspeed_config(recipe.train, rows=1, accumulation=1)  # what is refused, is refused now
    run = run_folder(recipe)
    _check_writable(run)
    found = _as_found(run)
    require_same(run, deciding(recipe, recipe.schedule))
    if begun(recipe) is None:  # afterwards its base may be gone
        require_rows_fit(recipe.base, recipe.data)
    build_recipe(recipe, show)
    planned = plan_recipe(recipe, verify=True)
    reached, _ = last_good(run / "checkpoints")
    wanted = deciding(recipe, planned.start.schedule)
    changes = permitted(run, wanted, planned, reached)
    if complete(run, planned.plan.hash, reached):
        with _taking(run, found):
            take(run, wanted, changes)
        show(f"{recipe.name}: already trained")
        return None
    # All that refuses comes before anything is written: what a hint says must be free to follow.
    refuse(recipe.train)
    lines = start_lines(planned, reached)
    job, asked = _job(recipe, run, planned, changes, keep_steps), corpus_receipt(planned)
    with _taking(run, found):
        take(run, wanted, changes)
        write_json(run / "plan.json", planned.plan.to_json())
        write_json(run / "receipt.json", asked)
        lines += hold_parent(run, planned.start)
        write_job(job)
    for line in lines:
        show(f"{recipe.name}: {line}")
    return job


def deciding(recipe: Recipe, schedule: Schedule) -> dict[str, Any]:
    """The settings that decide a run's result; the rest may change when it is started again.
    ``schedule`` is the recipe's, with a number for the peak rate where that is known."""
    tree = recipe.model_dump(mode="json", include={"base", "data", "mix", "train"})
    tree["schedule"] = schedule.model_dump(mode="json")
    for key in ("store", "max_contaminated"):
        tree["data"].pop(key)
    if tree["base"] is not None:
        tree["base"] = {k: v for k, v in tree["base"].items() if k not in _FREE_BASE_KEYS}
    tree["train"] = {k: v for k, v in tree["train"].items() if k not in _FREE_TRAIN_KEYS}
    raw = recipe.train.deepspeed
    tree["train"]["deepspeed"] = {k: raw[k] for k in ROUNDING_KEYS if k in raw}
    return tree


def _check_writable(run: Path) -> None:
    """Before hours of building: the nearest existing folder above the run must take files."""
    there = next(p for p in (run, *run.parents) if p.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"run folder {run}: {there} is not writable", "choose another run_dir")


def _as_found(run: Path) -> tuple[Any, ...]:
    """The traces in a folder that nobody trains in; rank 0 holds it for as long as it trains."""
    if not run.is_dir():  # nor is it made for a start that may be refused yet
        return traces(run)
    with held(run, _PATIENCE_S):
        return traces(run)


@contextmanager
def _taking(run: Path, found: tuple[Any, ...]) -> Iterator[None]:
    """Hold the folder while it is written to; what is written was decided by what was ``found``.

    From here until rank 0 holds it another start may take it over: ranks notice by the job's hash.
    """
    with held(run, _PATIENCE_S):
        if traces(run) != found:
            raise AnotherStartError(
                f"{run}: another start took it while this one was prepared",
                "wait for that one's end, or give this run another name",
            )
        try:
            yield
        except OSError as error:
            raise UserError(f"{run}: {error.strerror}", "choose another run_dir or name") from None


def corpus_receipt(planned: Planned) -> dict[str, Any]:
    """The receipt of the plan, with what was taken out of its sources."""
    assert planned.corpus is not None
    window = max(1, planned.plan.rows // RECEIPT_WINDOWS)
    found = receipt(planned.plan, planned.rows(), window, ledgers=planned.corpus.ledgers)
    removed = [asdict(removed) for removed in planned.corpus.removed]
    return {**found, "decontaminated": removed, "erased_documents": planned.corpus.erased}


def _start_folder(base: Base, parent: dict[str, Any] | None) -> str | None:
    if base.model is None:
        return None
    if parent is not None:  # a run, which may be gone since this one began
        return str(Path(base.model).resolve())
    return str(local_model(base.model, base.revision, weights=True).resolve())


def _job(
    recipe: Recipe,
    run: Path,
    planned: Planned,
    changes: Sequence[dict[str, Any]] = (),
    keep_steps: tuple[int, ...] = (),
) -> Job:
    start = planned.start
    base, parent = start.base, start.parent
    trunk = shared(run)
    assert planned.corpus is not None
    assert base is not None
    return Job(
        run=str(run.resolve()),
        base=base.model_copy(update={"model": _start_folder(base, parent)}),
        data=recipe.data,
        schedule=start.schedule,
        train=recipe.train,
        evals=recipe.evals,
        budget=recipe.budget,
        cursors=start.cursors,
        keys=planned.keys,
        plan_hash=planned.plan.hash,
        keep_steps=keep_steps,
        eval_hashes=planned.eval_hashes,
        tokenizer=local_tokenizer(tokenizer_name(recipe)),
        lineage={
            "base": base.model or f"random {json.dumps(base.architecture, sort_keys=True)}",
            "revision": base.revision,
            "start": base.start,
            "parent": parent,
            "tokens_before": start.tokens_before,
            "extensions": list(changes),
            "peak_lr": start.schedule.peak,
            "annealed": recipe.schedule.anneal > 0,
            "final_lr_ratio": recipe.schedule.final_lr_ratio,
            "general_share": recipe.mix.general,
            "decontaminated": by_task(recipe.evals, planned.corpus.removed),
            **({} if trunk is None else {"shared": trunk}),
        },
    )
