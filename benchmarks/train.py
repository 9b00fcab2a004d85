"""Speed of the training loop against others that train the same model on the same batches.

    python benchmarks/train.py [--ranks 2] [--pairs 12] [--steps 12] [--out FILE]

In one run and one set of processes: Alloy's loop, a bare DeepSpeed loop (the same engine and
settings, batches made beforehand, nothing logged), a PyTorch DDP loop, and Hugging Face Trainer
with DeepSpeed. They take turns, block by block; a pair is Alloy's block and the neighbouring block
of the other. Printed are the median rates and the ratio of times with its 95% bounds (t, on logs).
"""

import argparse
import datetime
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from scipy import stats
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from alloy.building import build_recipe
from alloy.demo import recipes
from alloy.planning import plan_recipe
from alloy.world import WorldConfig, WorldFiles, write_world
from configs.load import parse_recipe
from mixing.rows import RowReader
from mixing.tokenizer import load_tokenizer
from pretrain.batches import collate
from pretrain.engine import Engine, deepspeed_config, device, join_ranks
from pretrain.loop import Progress, Run, train
from pretrain.model import parameter_groups
from pretrain.steps import micro_batches

ALLOY, BARE, DDP, TRAINER = "Alloy", "bare DeepSpeed", "PyTorch DDP", "HF Trainer + DeepSpeed"
ROWS = 16
"""Rows of one step on one rank, in one micro batch."""
OVERHEAD_LIMIT = 1.02
RESULTS = Path(__file__).parent / "results" / "train.json"
PATIENCE = datetime.timedelta(minutes=5)

Step = tuple[dict[str, Any], torch.Tensor]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--zero", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--steps", type=int, default=12, help="steps of a block")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder is not None:
        _rank(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_world(Path(folder) / "world", WorldConfig())
        build_recipe(_recipe(Path(folder), options), lambda _: None)
        seconds = _launch(Path(folder), options)
    result = _summary(seconds, options)
    _print(result)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _recipe(folder: Path, options: argparse.Namespace) -> Any:
    """The demo's trunk: a Llama of a million parameters on rows of 128 tokens, wider batches."""
    tree = recipes(folder, WorldFiles.under(folder / "world"))["trunk"]
    tokens = options.ranks * ROWS * tree["data"]["seq_len"]
    steps = (options.pairs + 1) * options.steps + 1
    tree["schedule"] |= {"batch_tokens": tokens, "tokens": tokens * steps}
    tree["train"] |= {"zero": options.zero, "ranks": options.ranks, "micro_batch_rows": ROWS}
    return parse_recipe(tree)


def _launch(folder: Path, options: argparse.Namespace) -> dict[str, list[float]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    shared |= {"WORLD_SIZE": str(options.ranks), "TORCHDYNAMO_DISABLE": "1"}
    if not torch.cuda.is_available():
        shared["DS_ACCELERATOR"] = "cpu"
    command = [sys.executable, *sys.argv, "--folder", str(folder)]
    ranks = [
        subprocess.Popen(
            command, env={**os.environ, **shared, "RANK": str(r), "LOCAL_RANK": str(r)}
        )
        for r in range(options.ranks)
    ]
    codes = [process.wait() for process in ranks]
    if any(codes):
        sys.exit("a rank failed")
    return json.loads((folder / "seconds.json").read_text(encoding="utf-8"))


def _rank(options: argparse.Namespace) -> None:
    """Every rank: set all loops up, then let them take turns."""
    recipe = _recipe(options.folder, options)
    planned = plan_recipe(recipe)
    plan, rows = planned.plan, planned.rows()
    join_ranks(PATIENCE)
    steps = [_batch(rows, step, recipe.data.document_mask) for step in range(options.steps)]
    blocks: dict[str, Callable[[], None]] = {
        ALLOY: _alloy(recipe, plan, rows, options.steps),
        BARE: _bare_deepspeed(recipe, steps),
        DDP: _ddp(recipe, steps),
        TRAINER: _trainer(recipe, steps, options),
    }
    seconds: dict[str, list[float]] = {name: [] for name in blocks}
    for turn in range(options.pairs + 1):
        names = list(blocks) if turn % 2 else list(reversed(blocks))
        for name in names:
            dist.barrier()
            began = time.perf_counter()
            taken = blocks[name]()
            dist.barrier()
            if turn:  # the first turn warms up
                seconds[name].append(taken or time.perf_counter() - began)
    if dist.get_rank() == 0:
        (options.folder / "seconds.json").write_text(json.dumps(seconds), encoding="utf-8")
    dist.barrier()
    os._exit(0)


def _model(recipe: Any) -> Any:
    words = load_tokenizer(recipe.data.tokenizer).vocab_size
    keys = {"vocab_size": words, "eos_token_id": 0, "bos_token_id": None}
    config = AutoConfig.for_model(**(keys | recipe.base.architecture))
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    return model.to(device())


def _batch(rows: RowReader, step: int, document_mask: bool) -> Step:
    """This rank's rows of a step, ready for the model."""
    size = rows.plan.batch_rows
    places = micro_batches(step * size, size, dist.get_rank(), dist.get_world_size(), ROWS)[0]
    found = [None if p is None else rows.row(p) for p in places]
    inputs, labels, _ = collate(found, rows.plan.seq_len, document_mask, 0, device())
    return inputs, labels


def _loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=-100)


def _alloy(recipe: Any, plan: Any, rows: RowReader, count: int) -> Callable[[], None]:
    engine = Engine(_model(recipe), recipe.train, ROWS, 1, PATIENCE)
    state = {"progress": Progress(), "left": 0}
    log = Path(tempfile.mkstemp()[1]).open("w", encoding="utf-8")  # noqa: SIM115

    def stop() -> bool:
        state["left"] -= 1
        return state["left"] == 0

    def write(row: dict[str, Any]) -> None:
        log.write(json.dumps(row) + "\n")
        log.flush()

    run = Run(
        plan=plan,
        rows=rows,
        engine=engine,
        schedule=recipe.schedule,
        train=recipe.train,
        document_mask=recipe.data.document_mask,
        device=device(),
        save=lambda _: None,
        log=write,
        measure=lambda _: False,
        stop_asked=stop,
    )

    def block() -> None:
        state["left"] = count
        state["progress"], _ = train(run, state["progress"], frozenset())

    return block


def _bare_deepspeed(recipe: Any, steps: list[Step]) -> Callable[[], None]:
    import deepspeed

    model = _model(recipe)
    engine: Any = deepspeed.initialize(
        model=model,
        optimizer=torch.optim.AdamW(parameter_groups(model, 0.1), lr=1e-3, betas=(0.9, 0.95)),
        config=deepspeed_config(recipe.train, ROWS, 1),
    )[0]

    def block() -> None:
        for inputs, labels in steps:
            engine.backward(_loss(engine(**inputs, use_cache=False).logits, labels))
            engine.step()

    return block


def _ddp(recipe: Any, steps: list[Step]) -> Callable[[], None]:
    model = DistributedDataParallel(_model(recipe))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95))

    def block() -> None:
        for inputs, labels in steps:
            _loss(model(**inputs, use_cache=False).logits, labels).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    return block


class _Batches(Dataset):
    """Steps as Trainer wants them: rows one by one, which it puts together again."""

    def __init__(self, steps: list[Step]) -> None:
        self._steps = steps

    def __len__(self) -> int:
        return len(self._steps) * dist.get_world_size() * ROWS

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        inputs, labels = self._steps[index // (dist.get_world_size() * ROWS)]
        row = index % ROWS
        found = {key: value[row] for key, value in inputs.items() if value is not None}
        return {**found, "labels": labels[row]}


class _Clock(TrainerCallback):
    """Time of the steps alone: making the trainer ready is not counted."""

    def __init__(self) -> None:
        self.began = self.taken = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.began = time.perf_counter()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.taken = time.perf_counter() - self.began


def _trainer(
    recipe: Any, steps: list[Step], options: argparse.Namespace
) -> Callable[[], float | None]:
    config = {
        "train_micro_batch_size_per_gpu": ROWS,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 1.0,
        "zero_optimization": {"stage": options.zero},
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": False},
    }
    arguments = TrainingArguments(
        output_dir=str(options.folder / "trainer"),
        per_device_train_batch_size=ROWS,
        max_steps=len(steps),
        learning_rate=1e-3,
        adam_beta2=0.95,
        weight_decay=0.1,
        lr_scheduler_type="constant",
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        deepspeed=config,
        optim="adamw_torch",
        remove_unused_columns=False,
    )
    clock = _Clock()

    def block() -> float | None:
        trainer = Trainer(
            model=_model(recipe),
            args=arguments,
            train_dataset=_Batches(steps),
            callbacks=[clock],
            compute_loss_func=lambda outputs, labels, **_: _loss(outputs.logits, labels),
        )
        trainer.train()
        return clock.taken

    return block


def _summary(seconds: dict[str, list[float]], options: argparse.Namespace) -> dict[str, Any]:
    tokens = options.steps * options.ranks * ROWS * 128
    rates = {name: statistics.median(tokens / s for s in times) for name, times in seconds.items()}
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "ranks": options.ranks,
        "zero": options.zero,
        "pairs": options.pairs,
        "steps_of_a_block": options.steps,
        "tokens_per_second": rates,
        "time_of_alloy_over": {
            name: _ratio(seconds[ALLOY], times) for name, times in seconds.items() if name != ALLOY
        },
        "seconds": seconds,
    }


def _ratio(mine: list[float], other: list[float]) -> dict[str, float]:
    """Mean ratio of paired times with 95% bounds."""
    logs = np.log(np.array(mine) / np.array(other))
    half = stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs))
    low, middle, high = np.exp([logs.mean() - half, logs.mean(), logs.mean() + half])
    return {"ratio": float(middle), "low": float(low), "high": float(high)}


def _print(result: dict[str, Any]) -> None:
    print(f"{result['device']}, {result['ranks']} ranks, ZeRO {result['zero']}, fp32")
    print(f"{'loop':24}  {'tokens/s':>9}  time of Alloy over it (95%)")
    for name, rate in result["tokens_per_second"].items():
        found = result["time_of_alloy_over"].get(name)
        bounds = (
            f"{found['ratio']:.3f} ({found['low']:.3f} to {found['high']:.3f})" if found else "-"
        )
        print(f"{name:24}  {rate:9,.0f}  {bounds}")
    bare = result["time_of_alloy_over"][BARE]
    verdict = "within" if bare["high"] <= OVERHEAD_LIMIT else "not shown to be within"
    if bare["low"] > OVERHEAD_LIMIT:
        verdict = "over"
    print(f"overhead over bare DeepSpeed: {verdict} {OVERHEAD_LIMIT - 1:.0%}")


if __name__ == "__main__":
    main()
