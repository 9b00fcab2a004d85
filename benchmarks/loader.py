"""Rows from warm page cache in one process, against Megatron-core's GPTDataset and MosaicML's
StreamingDataset on the same tokens.

    python benchmarks/loader.py [--corpus FILE] [--tokenizer FILE] [--passes 3]

Alloy gives int64 ids, targets, position ids that restart at each document, segments and the
lengths of documents, in the shuffled order of a plan; the peers give ids and position ids (and
targets and a loss mask, Megatron-core). Ids are summed, so every token is touched. One pass over
everything warms the cache; the figure is the median of the passes after it, on one core.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

sys.path.append(str(Path(__file__).parent))
from harness import CORPORA, TOKENIZERS, Row, peer, report, run

from alloy.planning.planning import Planned, plan_recipe
from alloy.runs.building import build_recipe
from configs import Recipe
from mixing.audit.megatron import export_source
from mixing.blend.rows import RowReader
from mixing.corpus import trained_spans

SEQ_LEN = 4096


@click.command()
@click.option("--corpus", type=Path, default=CORPORA / "law_us_code.jsonl.zst")
@click.option("--tokenizer", type=Path, default=TOKENIZERS / "gpt2.json")
@click.option("--passes", default=3)
@click.option("--ours", type=Path, hidden=True, help="Time only this built recipe; print JSON.")
def main(corpus: Path, tokenizer: Path, passes: int, ours: Path | None) -> None:
    """Print a table and write benchmarks/results/loader.json."""
    if ours is not None:
        print(json.dumps(timed(plan_recipe(_read(ours)), passes)))
        return
    with tempfile.TemporaryDirectory() as folder:
        recipe = _recipe(corpus, tokenizer, Path(folder))
        build_recipe(recipe, lambda _: None)
        planned = plan_recipe(recipe)
        path = Path(folder) / "recipe.json"
        path.write_text(recipe.model_dump_json())
        prefix = exported(planned, Path(folder))
        script = [sys.executable, __file__, "--ours", str(path), "--passes", str(passes)]
        rows = described("alloy RowReader", json.loads(run(script, 1).output))
        arguments = (prefix, SEQ_LEN, planned.tokenizer.eos_id, passes)
        for system, name in (
            ("megatron-core GPTDataset", "loader_megatron.py"),
            ("mosaicml StreamingDataset", "loader_streaming.py"),
        ):
            rows += described(system, peer(name, *arguments, cores=1)[0])
    first = rows[0]["million_tokens_per_s"]
    told = [{**row, "alloy_is_faster": first / row["million_tokens_per_s"]} for row in rows]
    report("loader", {"loader": told})


def _read(path: Path) -> Recipe:
    return Recipe.model_validate_json(path.read_text())


def _recipe(corpus: Path, tokenizer: Path, folder: Path) -> Recipe:
    source = {"name": "corpus", "role": "domain", "path": str(corpus), "heldout": 0}
    data = {
        "tokenizer": str(tokenizer),
        "store": str(folder / "store"),
        "seq_len": SEQ_LEN,
        "sources": [source],
    }
    # Long enough for an epoch of anything that fits the memory of a laptop; only one is read.
    schedule = {"tokens": 2 * SEQ_LEN, "batch_tokens": SEQ_LEN, "peak_lr": 1e-4}
    tree = {"name": "bench", "data": data, "mix": {"general": 0}, "schedule": schedule}
    recipe = Recipe.model_validate(tree)
    build_recipe(recipe, lambda _: None)
    rows = plan_recipe(recipe).plan.sources[0].rows
    longer = recipe.schedule.model_copy(update={"tokens": rows * SEQ_LEN})
    return recipe.model_copy(update={"schedule": longer})


def exported(planned: Planned, folder: Path) -> str:
    corpus = planned.corpus
    assert corpus is not None
    spans = trained_spans(corpus.packed["corpus"])
    return export_source(corpus.readers["corpus"], spans, folder / "megatron").prefix


def timed(planned: Planned, passes: int) -> list[dict[str, Any]]:
    rows = planned.rows()
    seconds = [one_pass(rows) for _ in range(passes + 1)][1:]
    tokens = planned.plan.sources[0].tokens
    return [{"setting": "positions restart at documents", "tokens": tokens, "seconds": seconds}]


def one_pass(rows: RowReader) -> float:
    begin, touched = time.perf_counter(), 0
    for position in range(rows.plan.rows):
        row = rows.row(position)
        touched += int(row.input_ids.sum()) + int(row.position_ids[-1])
        touched += int(row.document_lengths[0])
    assert touched > 0
    return time.perf_counter() - begin


def described(system: str, results: list[dict[str, Any]]) -> list[Row]:
    return [
        {
            "system": system,
            "setting": result["setting"],
            "tokens": result["tokens"],
            "seconds": statistics.median(result["seconds"]),
            "million_tokens_per_s": result["tokens"] / statistics.median(result["seconds"]) / 1e6,
        }
        for result in results
    ]


if __name__ == "__main__":
    main()
