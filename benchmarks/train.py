"""Alloy's training loop beside a bare DeepSpeed loop, PyTorch DDP, and Trainer with DeepSpeed.

    python benchmarks/train.py [--shape 3M]... [--pairs 48] [--steps 4] [--zero 2] [--ranks 2]

All four train the same Llama on the same batches in the same two processes, and take turns; a pair
is a stretch of Alloy's loop and the neighbouring stretch of another's. Stretches are short, so that
what else the machine does falls on both sides of a pair. Start-up is not counted, nor
are checkpoints, whose time is a line of its own. The other loops do nothing but train: they log
nothing and find their batches in memory. Ratios are of times: below 1 Alloy is faster.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import click

sys.path.append(str(Path(__file__).parent))
from harness import ROOT, Row, report
from paired import paired_ratio, verdict
from train_loops import ALLOY, BARE, DDP, TRAINER

from alloy.runs.training import prepare_run
from alloy.world import WorldConfig, write_world
from configs.load import parse_recipe
from pretrain.job import Job, write_job
from pretrain.launch.launch import environment

MOST = 1.02
"""Largest time of Alloy's loop over the bare one that the design allows."""
SEQ_LEN = 128
WORLD = WorldConfig(pretrain_documents=600, replay_documents=6000, comments_train=4000)
SHAPES = {
    "1M": {"hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 4},
    "3M": {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 5},
    "12M": {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 6},
}


@click.command()
@click.option("--shape", "shapes", multiple=True, default=["3M"], type=click.Choice(list(SHAPES)))
@click.option("--pairs", default=48, help="With the bare loop.")
@click.option("--ddp-pairs", default=8)
@click.option("--trainer-pairs", default=48)
@click.option("--steps", default=4, help="Steps of a stretch that are timed.")
@click.option("--zero", default=2)
@click.option("--ranks", default=2)
def main(shapes: tuple[str, ...], zero: int, ranks: int, **counts: int) -> None:
    """Print tables and write benchmarks/results/train.json."""
    for shape in shapes:
        with tempfile.TemporaryDirectory() as folder:
            job = prepared(Path(folder), shape, zero, ranks)
            found = measured(job, Path(folder) / "seconds.json", counts)
        alike = f"ZeRO {zero}, {ranks} ranks"
        tokens = counts["steps"] * job.schedule.batch_tokens
        report("train", tables(f"{shape} {alike}", found, tokens, counts["steps"]))
        report("train", {f"all shapes {alike}": pooled(alike)})


def prepared(folder: Path, shape: str, zero: int, ranks: int) -> Job:
    """The job of a run on the demo's world, a quarter of it general text, as `alloy train` has."""
    world = write_world(folder / "world", WORLD)
    sources = [
        {"name": "comments", "role": "domain", "path": str(world.comments_train)},
        {"name": "replay", "role": "general", "path": str(world.replay)},
    ]
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4, "tie_word_embeddings": True}
    batch_tokens = 4 * ranks * SEQ_LEN
    data = {"tokenizer": str(world.tokenizer), "store": str(folder / "store"), "seq_len": SEQ_LEN}
    tree = {
        "name": "bench",
        "run_dir": str(folder),
        "base": {"architecture": {"model_type": "llama", **SHAPES[shape], **heads}},
        "data": {**data, "sources": [{**s, "max_epochs": 1000} for s in sources]},
        "mix": {"general": 0.25},
        "schedule": {"tokens": 2000 * batch_tokens, "batch_tokens": batch_tokens, "peak_lr": 1e-3},
        "train": {"zero": zero, "precision": "fp32", "ranks": ranks, "micro_batch_rows": 4},
    }
    job = prepare_run(parse_recipe(tree), lambda _: None)
    assert job is not None
    return job


def measured(job: Job, out: Path, counts: dict[str, int]) -> dict[str, Any]:
    """Start the ranks as a launcher would, and read what the first has found."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    ranks = str(job.train.ranks)
    shared = {"WORLD_SIZE": ranks, "LOCAL_SIZE": ranks, "MASTER_ADDR": "127.0.0.1"}
    shared |= {**environment(os.environ, job.train), "MASTER_PORT": port}
    script = str(Path(__file__).with_name("train_loops.py"))
    command = [sys.executable, script, "--job", str(write_job(job)), "--out", str(out)]
    command += [f"--{name.replace('_', '-')}={count}" for name, count in counts.items()]
    each = [{**shared, "RANK": str(r), "LOCAL_RANK": str(r)} for r in range(job.train.ranks)]
    children = [subprocess.Popen(command, env=variables, stdout=sys.stderr) for variables in each]
    codes = [child.wait() for child in children]
    if any(codes):
        raise SystemExit(f"the ranks ended with codes {codes}")
    return json.loads(out.read_text(encoding="utf-8"))


def tables(setting: str, found: dict[str, Any], tokens: int, steps: int) -> dict[str, list[Row]]:
    """Loops, the times of each pair, and the parts of a step."""
    pairs: dict[str, list[tuple[float, float]]] = found["pairs"]
    to_ms = 1e3 / steps
    return {
        f"loops {setting}": [_loop(name, times, tokens) for name, times in pairs.items()],
        f"milliseconds a step {setting}": _parts(found),
        f"pairs {setting}": [
            {"pair": i, "with": name, "alloy_ms": mine * to_ms, "other_ms": other * to_ms}
            | {"ratio": mine / other}
            for name, times in pairs.items()
            for i, (mine, other) in enumerate(times, 1)
        ],
    }


def pooled(alike: str) -> list[Row]:
    """Ratios over the pairs of all shapes that were measured last, each pair counting alike."""
    told = json.loads((ROOT / "benchmarks/results/train.json").read_text(encoding="utf-8"))
    shapes = [shape for shape in SHAPES if f"pairs {shape} {alike}" in told]
    pairs = [row for shape in shapes for row in told[f"pairs {shape} {alike}"]["rows"]]
    rows: list[Row] = []
    for name, most in ((BARE, MOST), (TRAINER, 1.0)):
        mine, other = zip(
            *((row["alloy_ms"], row["other_ms"]) for row in pairs if row["with"] == name),
            strict=True,
        )
        ratio = paired_ratio(mine, other)
        figures: Row = {"alloy_over_it": ratio.mean, "lower": ratio.lower, "upper": ratio.upper}
        rows.append({"loop": name, **figures, "verdict": verdict(ratio, most)})
    return [{**row, "shapes": " ".join(shapes)} for row in rows]


def _loop(name: str, pairs: list[tuple[float, float]], tokens: int) -> Row:
    mine, other = zip(*pairs, strict=True)
    ratio = paired_ratio(mine, other)
    row: Row = {
        "loop": name,
        "tokens_per_s": tokens / median(other),
        "alloy_tokens_per_s": tokens / median(mine),
        "alloy_over_it": ratio.mean,
        "lower": ratio.lower,
        "upper": ratio.upper,
    }
    if name in (BARE, TRAINER):
        row["verdict"] = verdict(ratio, MOST if name == BARE else 1.0)
    return row


def _parts(found: dict[str, Any]) -> list[Row]:
    parts: dict[str, dict[str, float]] = found["parts"]
    names = list(dict.fromkeys(name for loop in parts.values() for name in loop))
    rows: list[Row] = []
    for name in sorted(names, key=lambda n: n == "total"):
        each = {loop: parts[loop].get(name, 0.0) * 1e3 for loop in parts}
        rows.append({"part": name, **each, "alloy_minus_ddp": each[ALLOY] - each[DDP]})
    return [*rows, {"part": "one checkpoint", ALLOY: median(found["save"]) * 1e3}]


if __name__ == "__main__":
    main()
