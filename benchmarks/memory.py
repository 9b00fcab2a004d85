"""The most memory of each verb, on a corpus and on four times as much of it.

    python benchmarks/memory.py [--corpus FILE] [--tokenizer FILE] [--copies 4]

All texts differ, so that none is a duplicate. Memory is that of the whole process tree, shared
pages counted once, sampled every 50 ms; own_mb leaves out pages of mapped files. What grows by
document while duplicates are found is measured apart, in bytes per document.
"""

import sys
import tempfile
import tracemalloc
from pathlib import Path

import click
import numpy as np
import yaml

sys.path.append(str(Path(__file__).parent))
from harness import CORPORA, TOKENIZERS, Row, report, run
from tokenizing import WORKERS, repeat

from configs import Source
from mixing.selection.exclude import exclusions

VERBS = (("build",), ("plan",), ("corpus", "verify"))


@click.command()
@click.option("--corpus", type=Path, default=CORPORA / "law_us_code.jsonl.zst")
@click.option("--tokenizer", type=Path, default=TOKENIZERS / "gpt2.json")
@click.option("--copies", default=4)
def main(corpus: Path, tokenizer: Path, copies: int) -> None:
    """Print two tables and write benchmarks/results/memory.json."""
    once, more = measured(corpus, tokenizer, 1), measured(corpus, tokenizer, copies)
    rows = [
        {
            **a,
            f"peak_mb_at_{copies}x": b["peak_mb"],
            f"own_mb_at_{copies}x": b["own_mb"],
            "own_times": b["own_mb"] / a["own_mb"],
        }
        for a, b in zip(once, more, strict=True)
    ]
    report("memory", {"verbs": rows, "duplicates": [tables(n) for n in (10**6, 4 * 10**6)]})


def measured(corpus: Path, tokenizer: Path, copies: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = repeat(corpus, folder / "in", copies, own_texts=True)
        source = {"name": "corpus", "role": "domain", "path": str(folder / "in")}
        data = {"tokenizer": str(tokenizer), "store": str(folder / "store"), "sources": [source]}
        # About an epoch of English text, whatever the corpus.
        schedule = {"tokens": size // 5, "batch_tokens": "1M", "peak_lr": 1e-4}
        recipe = {"name": "bench", "data": data, "mix": {"general": 0}, "schedule": schedule}
        path = folder / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe))
        alloy = str(Path(sys.executable).with_name("alloy"))
        rows = []
        for verb in VERBS:
            ran = run([alloy, *verb, str(path), "--json"], WORKERS)
            memory = {"peak_mb": ran.peak_mb, "own_mb": ran.own_mb}
            rows.append({"verb": " ".join(verb), "text_mb": size / 1e6, **memory})
        return rows


class Hashes:
    """As much of a SourceReader as finding duplicates looks at."""

    def __init__(self, documents: int) -> None:
        rng = np.random.default_rng(0)
        self.content_hashes = rng.integers(0, 2**63, documents).astype(np.uint64)
        self.text_bytes = rng.integers(1, 10_000, documents)


def tables(documents: int) -> Row:
    reader = Hashes(documents)
    source = Source(name="s", role="domain", path=("s",))
    tracemalloc.start()
    exclusions([reader], [source])  # pyright: ignore[reportArgumentType]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"documents": documents, "peak_bytes_per_document": peak / documents}


if __name__ == "__main__":
    main()
