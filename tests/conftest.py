"""A tiny corpus, tokenizer and recipe, made by seed, and the real data where it is present."""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from report_sweep import Tree, load, write_sweep
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

ROOT = Path(__file__).parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"
ALLOY = str(Path(sys.executable).with_name("alloy"))
WORDS = [
    "stone",
    "river",
    "cloud",
    "amber",
    "window",
    "paper",
    "signal",
    "garden",
    "winter",
    "copper",
    "lantern",
    "harbor",
    "velvet",
    "thunder",
    "meadow",
    "cipher",
    "orbit",
    "marble",
    "canyon",
    "willow",
]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data, or a skip."""
    if not SHARED_DATA.is_dir():
        pytest.skip("no real data: ../shared/data is absent")
    return SHARED_DATA


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with domain.jsonl, general.jsonl, retention.jsonl, and tokenizer.json and
    config.json, by which it is also a base of which no weights are asked."""
    folder = tmp_path_factory.mktemp("tiny")
    rng = random.Random(7)
    for name, documents, longest in (
        ("domain", 120, 60),
        ("general", 200, 24),
        ("retention", 30, 40),
    ):
        rows = [_row(name, i, rng, longest) for i in range(documents)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    train_tokenizer(folder / "tokenizer.json")
    (folder / "config.json").write_text('{"model_type": "llama", "vocab_size": 400}')
    return folder


def train_tokenizer(path: Path) -> None:
    """A byte-level BPE over WORDS; id 0 ends a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(WORDS)] * 4, trainer)
    tokenizer.save(str(path))


def _row(name: str, index: int, rng: random.Random, longest: int) -> dict[str, str]:
    words = rng.choices(WORDS, k=rng.randint(2, longest))
    return {"id": f"{name}-{index}", "text": " ".join(words)}


def tiny_recipe(folder: Path, run_dir: Path, **sections: Any) -> dict[str, Any]:
    """A recipe over the tiny corpus: 12 steps of 8 rows of 32; ``sections`` replace whole ones."""
    recipe: dict[str, Any] = {
        "name": "tiny",
        "run_dir": str(run_dir),
        "base": {
            "architecture": {
                "model_type": "llama",
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "tie_word_embeddings": True,
            }
        },
        "data": {
            "tokenizer": str(folder / "tokenizer.json"),
            "store": str(run_dir / "store"),
            "seq_len": 32,
            "sources": [
                {"name": "own", "role": "domain", "path": str(folder / "domain.jsonl")},
                {"name": "web", "role": "general", "path": str(folder / "general.jsonl")},
                {"name": "wiki", "role": "retention", "path": str(folder / "retention.jsonl")},
            ],
        },
        "mix": {"general": 0.25},
        "schedule": {
            "tokens": 12 * 8 * 32,
            "batch_tokens": 8 * 32,
            "peak_lr": 0.003,
            "warmup": 0.25,
            "anneal": 0.25,
        },
        "train": {"zero": 2, "precision": "fp32", "ranks": 2, "micro_batch_rows": 2},
    }
    return {**recipe, **sections}


def long_recipe(
    folder: Path, run_dir: Path, name: str, steps: int, train: dict[str, Any]
) -> dict[str, Any]:
    """As ``tiny_recipe``, of so many steps of 8 rows: its sources are read as often as it takes."""
    schedule = {"tokens": steps * 256, "batch_tokens": 256, "peak_lr": 0.003}
    schedule |= {"warmup": 0.1, "anneal": 0.3}
    tree = tiny_recipe(folder, run_dir, schedule=schedule, train=train)
    for source in tree["data"]["sources"]:
        source["max_epochs"] = 10_000
    return {**tree, "name": name}


def write_recipe(path: Path, recipe: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return path


@pytest.fixture(scope="session")
def whole_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records of a synthetic sweep, read-only: tests that change files take ``own_sweep``."""
    folder = tmp_path_factory.mktemp("sweep")
    write_sweep(folder)
    return folder


@pytest.fixture(scope="session")
def whole_report(whole_sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """The report of ``whole_sweep``."""
    return load(whole_sweep, tmp_path_factory.mktemp("out"))


@pytest.fixture(scope="session")
def _smaller_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("smaller")
    write_sweep(folder, n=400)
    return folder


@pytest.fixture
def own_sweep(_smaller_sweep: Path, tmp_path: Path) -> Path:
    """A sweep of fewer questions that a test may change."""
    return Path(shutil.copytree(_smaller_sweep, tmp_path / "one"))


@pytest.fixture(scope="session")
def alloy() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the real command; keyword arguments go to subprocess.run."""

    def run(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [ALLOY, *map(str, arguments)],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **options.pop("env", {})},
            check=False,
            **options,
        )

    return run


@pytest.fixture
def serve_hub() -> Iterator[Callable[[Path], str]]:
    """Serve the datasets below a folder as the hub does; returns HF_ENDPOINT."""
    servers = []

    def serve(root: Path) -> str:
        script = Path(__file__).with_name("hub_server.py")
        command = [sys.executable, str(script), str(root)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        servers.append(server)
        assert server.stdout is not None
        return f"http://127.0.0.1:{server.stdout.readline().strip()}"

    yield serve
    for server in servers:
        server.terminate()
        server.wait()
        server.stdout.close()
