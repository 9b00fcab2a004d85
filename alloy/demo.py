"""The embedded world through the whole path, on the same code as any other recipe.

world ─▶ trunk (random weights, warmup + stable) ─┬▶ base (the trunk's anneal)
                                                  └▶ sweep (arms from the un-annealed trunk)
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from alloy.reports.writing import ReportFiles, write_report
from alloy.runs import train_recipe
from alloy.sweeps import run_sweep
from alloy.world import WorldConfig, WorldFiles, write_world
from checkpoints import write_json
from configs import load_recipe

NAME = "demo"
SEQ_LEN = 128
BATCH_TOKENS = 1024
PRETRAIN_LR = 2e-3
ARM_LR = 1e-3
"""Half of the pre-training rate, falling to 0 over the whole arm, as in mid-training from an
un-annealed checkpoint (OLMo 2)."""
TRUNK_TOKENS = 3_891_200
BASE_TOKENS = 409_600
ARM_TOKENS = 491_520
SWEEP = {"general": [0.0, 0.1, 0.25, 0.75, 1.0], "saturation": 0.75}
NOTE = (
    "A tiny model in an invented world: it exaggerates forgetting, and this exam is in MMLU's "
    "form but is not MMLU."
)
_ARCHITECTURE = {
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
    # Wider than the usual 0.02, with which a model this narrow starts too slowly.
    "initializer_range": 0.07,
}


def run_demo(run_dir: Path, show: Callable[[str], None]) -> ReportFiles:
    """Train and measure the world's base and arms; what is done already is reused."""
    folder = run_dir / NAME
    for path in write_recipes(run_dir, show):
        recipe = load_recipe(path)
        if recipe.sweep is None:
            train_recipe(recipe, show)
        else:
            run_sweep(recipe, show)
    return write_report(folder)


def write_recipes(
    run_dir: Path,
    show: Callable[[str], None],
    seed: int = 0,
    sweep: Mapping[str, Any] = SWEEP,
) -> list[Path]:
    """Write the world of ``seed`` and its recipes, in the order in which they are to be run."""
    folder = run_dir / NAME
    world = _world(folder / "world", WorldConfig(seed=seed), show)
    paths = []
    for name, tree in recipes(run_dir, world, seed, sweep).items():
        path = folder / "recipes" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
        paths.append(path)
    return paths


def recipes(
    run_dir: Path, world: WorldFiles, seed: int, sweep: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """The recipes of the demo, in the order in which they are run."""
    run_folder = run_dir / NAME
    common = {"run_dir": str(run_dir)}
    data = {
        "tokenizer": str(world.tokenizer),
        "store": str(run_folder / "store"),
        "seq_len": SEQ_LEN,
        "seed": seed,
    }
    train = {"zero": 2, "precision": "fp32", "ranks": 2, "micro_batch_rows": 4, "seed": seed}
    pretraining = _source("facts", "general", world.pretrain)
    trunk = {
        "name": f"{NAME}/trunk",
        **common,
        "base": {"architecture": _ARCHITECTURE, "embedding_std": 0.2, "residual_scale": 0.5},
        "data": {**data, "sources": [pretraining]},
        "mix": {"general": 1.0},
        "schedule": _schedule(TRUNK_TOKENS, PRETRAIN_LR, warmup=0.025, anneal=0.0),
        "train": train,
    }
    base = {
        **trunk,
        "name": f"{NAME}/base",
        "base": {"model": str(run_folder / "trunk"), "start": "weights+moments"},
        "schedule": _schedule(BASE_TOKENS, PRETRAIN_LR, warmup=0.0, anneal=1.0),
    }
    arms = {**_arms(common, data, train, world, run_folder), "sweep": dict(sweep)}
    return {"trunk": trunk, "base": base, "sweep": arms}


def _arms(
    common: dict[str, Any],
    data: dict[str, Any],
    train: dict[str, Any],
    world: WorldFiles,
    run_folder: Path,
) -> dict[str, Any]:
    sources = [
        _source("comments", "domain", world.comments_train),
        _source("replay", "general", world.replay),
        _source("unseen", "retention", world.retention),
    ]
    return {
        "name": NAME,
        **common,
        "note": NOTE,
        "base": {
            "model": str(run_folder / "trunk"),
            "start": "weights+moments",
            "compare_with": str(run_folder / "base"),
        },
        "data": {**data, "sources": sources},
        "schedule": _schedule(ARM_TOKENS, ARM_LR, warmup=0.0, anneal=1.0),
        "train": train,
        "evals": {
            "mmlu": {"path": str(world.exam), "shots": 0, "items": str(world.exam_items)},
            "domain": [
                {
                    "name": "comment_topics",
                    "path": str(world.comments_test),
                    "metric": "label_path",
                }
            ],
        },
        "budget": {"mmlu_points": 5.0, "retention_bpb": 0.1},
    }


def _source(name: str, role: str, path: Path) -> dict[str, Any]:
    return {"name": name, "role": role, "path": str(path), "max_epochs": 100, "heldout": "2%"}


def _schedule(tokens: int, peak_lr: float, warmup: float, anneal: float) -> dict[str, Any]:
    return {
        "tokens": tokens,
        "batch_tokens": BATCH_TOKENS,
        "peak_lr": peak_lr,
        "warmup": warmup,
        "anneal": anneal,
    }


def _world(folder: Path, config: WorldConfig, show: Callable[[str], None]) -> WorldFiles:
    """The world's files, written once for a config; the marker is written after them."""
    marker = folder / "world.json"
    wanted = asdict(config)
    if marker.is_file() and json.loads(marker.read_text(encoding="utf-8")) == wanted:
        return WorldFiles.under(folder)
    show("writing the world")
    files = write_world(folder, config)
    write_json(marker, wanted)
    return files
