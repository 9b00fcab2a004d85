"""One rank of benchmarks/train.py: four loops over the same batches, taking turns.

Alloy's loop gets its parts from ``pretrain.ranks.assembly``, as in `alloy train`; the others get
batches that lie ready in memory, so that all of Alloy's reading, mixing and logging counts against
it.
"""

import argparse
import datetime
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset, SequentialSampler
from transformers import Trainer, TrainerCallback, TrainingArguments

from mixing.tokens.tokenizer import load_tokenizer
from pretrain.engine.deepspeed_settings import deepspeed_config
from pretrain.engine.engine import join_ranks
from pretrain.engine.optimizer import adamw
from pretrain.job import Job, read_job
from pretrain.model.model import load_start
from pretrain.ranks import assembly
from pretrain.training.batches import collate
from pretrain.training.loop import Progress, Run, train
from pretrain.training.steps import micro_batches

ALLOY, BARE, DDP, TRAINER = "alloy train", "bare DeepSpeed", "PyTorch DDP", "Trainer + DeepSpeed"
WARM_STEPS = 1
PARTS_TURNS = 8
FETCH, FORWARD, BACKWARD, STEP, LOG = "rows", "forward", "backward", "optimizer step", "log"

Batch = tuple[dict[str, torch.Tensor | None], torch.Tensor]


class Clock:
    """Seconds by part of a step; not running while loops are compared as a whole."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.running = False

    @contextmanager
    def part(self, name: str):
        if not self.running:
            yield
            return
        began = now()
        yield
        self.seconds[name] += now() - began


class Parts:
    """An object whose named methods are timed."""

    def __init__(self, inner: Any, clock: Clock, names: dict[str, str]) -> None:
        self._inner, self._clock, self._names = inner, clock, names

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in self._names:
            return found

        def timed(*arguments: Any, **keys: Any) -> Any:
            with self._clock.part(self._names[name]):
                return found(*arguments, **keys)

        return timed


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


class AlloyLoop:
    """The loop of `alloy train` with all it does in a step; saving is timed apart."""

    def __init__(self, run: Run, progress: Progress, clock: Clock) -> None:
        self._run, self._progress, self._clock = run, progress, clock
        self.save = run.save

    def __call__(self, steps: int) -> None:
        left = steps

        def stop() -> bool:
            nonlocal left
            left -= 1
            return left == 0

        run = replace(self._run, stop_asked=stop, save=lambda _: None)
        if self._clock.running:
            parts = {"forward": FORWARD, "backward": BACKWARD, "step": STEP}
            engine: Any = Parts(run.engine, self._clock, parts)
            rows: Any = Parts(run.rows, self._clock, {"row": FETCH, "supervised": FETCH})
            run = replace(run, engine=engine, rows=rows, log=self._timed_log)
        self._progress, _ = train(run, self._progress, frozenset())

    def _timed_log(self, row: dict[str, Any]) -> None:
        with self._clock.part(LOG):
            self._run.log(row)

    def save_once(self) -> float:
        dist.barrier()
        began = now()
        self.save(self._progress)
        return now() - began


class Others:
    """Loops over batches that are ready; each goes round them on its own."""

    def __init__(self, job: Job, batches: list[list[Batch]], clock: Clock) -> None:
        self._job, self._batches, self._clock = job, batches, clock
        self._at = {BARE: 0, DDP: 0}
        model = new_model(job)
        micro = batches[0][0][1].shape[0]
        self._engine: Any = deepspeed.initialize(
            model=model,
            optimizer=at_peak(adamw(model, job.train), job),
            config=deepspeed_config(job.train, micro, len(batches[0])),
        )[0]
        self._ddp = DistributedDataParallel(new_model(job))
        self._optimizer = at_peak(adamw(self._ddp.module, job.train), job)

    def bare_deepspeed(self, steps: int) -> None:
        for batch in self._next(BARE, steps):
            for inputs, labels in batch:
                with self._clock.part(FORWARD):
                    logits = self._engine(**inputs, use_cache=False).logits
                loss = mean_loss(logits, labels)
                with self._clock.part(BACKWARD):
                    self._engine.backward(loss)
                with self._clock.part(STEP):
                    self._engine.step()

    def ddp(self, steps: int) -> None:
        for batch in self._next(DDP, steps):
            for inputs, labels in batch:
                with self._clock.part(FORWARD):
                    logits = self._ddp(**inputs, use_cache=False).logits
                loss = mean_loss(logits, labels) / len(batch)
                with self._clock.part(BACKWARD):
                    loss.backward()
            with self._clock.part(STEP):
                torch.nn.utils.clip_grad_norm_(self._ddp.parameters(), self._job.train.grad_clip)
                self._optimizer.step()
                self._optimizer.zero_grad()

    def _next(self, name: str, steps: int) -> list[list[Batch]]:
        first = self._at[name]
        self._at[name] += steps
        return [self._batches[(first + i) % len(self._batches)] for i in range(steps)]


def new_model(job: Job) -> Any:
    tokenizer = load_tokenizer(job.tokenizer)
    start = load_start(job.base, tokenizer.vocab_size, tokenizer.eos_id, job.train.seed)
    return start.model.to(assembly.device())  # pyright: ignore[reportArgumentType]


def at_peak(optimizer: torch.optim.AdamW, job: Job) -> torch.optim.AdamW:
    """Alloy's own optimizer, with the rate that its loop would write into it."""
    for group in optimizer.param_groups:
        group["lr"] = job.schedule.peak
    return optimizer


def mean_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=-100)


class Rows(Dataset):
    """Rows one by one as Trainer wants them, from memory, over and over; the model shifts labels
    itself."""

    def __init__(self, run: Run, steps: int, count: int) -> None:
        self._items = [self._item(run, p) for p in range(steps * run.plan.batch_rows)]
        self._count = count

    @staticmethod
    def _item(run: Run, position: int) -> dict[str, torch.Tensor]:
        row = run.rows.row(position)
        device = torch.device("cpu")
        batch = collate([row], run.plan.seq_len, run.document_mask, 1, device)
        unshifted = F.pad(batch.labels[0], (1, 0), value=-100)[:-1]
        found = {name: tensor[0] for name, tensor in batch.inputs.items() if tensor is not None}
        return {**found, "labels": unshifted}

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return self._items[index % len(self._items)]


class InOrder(Trainer):
    def _get_train_sampler(self, *_: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)  # pyright: ignore[reportArgumentType]


class Turns(TrainerCallback):
    """Lets Alloy's loop have a turn after each stretch of Trainer's."""

    def __init__(self, alloy: Callable[[int], None], steps: int) -> None:
        self.pairs: list[list[float]] = []
        self._alloy, self._steps = alloy, steps
        self._done, self._began = 0, 0.0

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self._done += 1
        in_turn = self._done % (WARM_STEPS + self._steps)
        if in_turn == WARM_STEPS:
            dist.barrier()
            self._began = now()
        elif in_turn == 0:
            dist.barrier()
            seconds = now() - self._began
            self.pairs.append([timed(self._alloy, self._steps), seconds])


def trainer_pairs(
    run: Run, job: Job, alloy: Callable[[int], None], pairs: int, steps: int
) -> list[list[float]]:
    """As ``paired``, with a Trainer of default settings."""
    micro = job.train.micro_batch_rows
    count = pairs * (WARM_STEPS + steps)
    arguments = TrainingArguments(
        output_dir=str(job.folder / "trainer"),
        per_device_train_batch_size=micro,
        max_steps=count,
        learning_rate=job.schedule.peak,
        adam_beta2=job.train.beta2,
        weight_decay=job.train.weight_decay,
        lr_scheduler_type="constant",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        deepspeed=deepspeed_config(job.train, micro, 1),
        remove_unused_columns=False,
    )
    turns = Turns(alloy, steps)
    rows = Rows(run, steps, count * run.plan.batch_rows)
    InOrder(new_model(job), arguments, train_dataset=rows, callbacks=[turns]).train()
    return turns.pairs


def compared(run: Run, progress: Progress, job: Job, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of paired stretches of Alloy's loop and each other, and of the parts of a step."""
    clock = Clock()
    others = Others(job, [ready(run, step) for step in range(options.steps)], clock)
    alloy = AlloyLoop(run, progress, clock)
    loops = {ALLOY: alloy, BARE: others.bare_deepspeed, DDP: others.ddp}
    for loop in loops.values():
        timed(loop, options.steps)
    counts = {BARE: options.pairs, DDP: options.ddp_pairs}
    pairs = {name: paired(alloy, loops[name], n, options.steps) for name, n in counts.items()}
    parts = parts_of(loops, clock, options.steps)
    saves = [alloy.save_once() for _ in range(3)][1:]
    pairs[TRAINER] = trainer_pairs(run, job, alloy, options.trainer_pairs, options.steps)
    return {"pairs": pairs, "parts": parts, "save": saves}


def paired(
    mine: Callable[[int], None], other: Callable[[int], None], pairs: int, steps: int
) -> list[list[float]]:
    """[seconds of mine, seconds of the other] of each pair; who goes first changes."""
    found = []
    for turn in range(pairs):
        both = [(0, mine), (1, other)]
        times = [0.0, 0.0]
        for place, loop in both if turn % 2 else reversed(both):
            times[place] = timed(loop, steps)
        found.append(times)
    return found


def ready(run: Run, step: int) -> list[Batch]:
    """This rank's micro batches of a step."""
    size = run.plan.batch_rows
    places = micro_batches(
        step * size, size, dist.get_rank(), dist.get_world_size(), run.train.micro_batch_rows
    )
    found = []
    for positions in places:
        rows = [None if p is None else run.rows.row(p) for p in positions]
        batch = collate(rows, run.plan.seq_len, run.document_mask, 1, run.device)
        found.append((batch.inputs, batch.labels))
    return found


def timed(loop: Callable[[int], None], steps: int) -> float:
    loop(WARM_STEPS)
    dist.barrier()
    began = now()
    loop(steps)
    dist.barrier()
    return now() - began


def parts_of(
    loops: dict[str, Callable[[int], None]], clock: Clock, steps: int
) -> dict[str, dict[str, float]]:
    """Seconds a step by part of each loop, which take turns in this too."""
    found: dict[str, dict[str, float]] = {name: defaultdict(float) for name in loops}
    for _ in range(PARTS_TURNS):
        for name, loop in loops.items():
            loop(WARM_STEPS)
            clock.seconds.clear()
            clock.running = True
            total = timed_only(loop, steps)
            clock.running = False
            rest = total - sum(clock.seconds.values())
            for part, seconds in {**clock.seconds, "rest": rest, "total": total}.items():
                found[name][part] += seconds / (PARTS_TURNS * steps)
    return found


def timed_only(loop: Callable[[int], None], steps: int) -> float:
    began = now()
    loop(steps)
    return now() - began


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--job", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    for name in ("pairs", "ddp-pairs", "trainer-pairs", "steps"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()
    job = read_job(options.job)
    join_ranks(datetime.timedelta(minutes=5))

    def hand_over(run: Run, progress: Progress, *_: object) -> tuple[Progress, bool]:
        found = compared(run, progress, job, options)
        if dist.get_rank() == 0:
            options.out.write_text(json.dumps(found), encoding="utf-8")
        return progress, False

    # The worker makes everything ready as for any run, and then hands over to the turns.
    assembly.train = hand_over
    assembly.run_job(job, lambda: False)
    os._exit(0)


if __name__ == "__main__":
    main()
