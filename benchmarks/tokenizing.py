"""JSONL.zst to token shards, whole process, against datatrove and datasets.map.

    python benchmarks/tokenize.py [--part cold|steady|map] [--corpus FILE] [--tokenizer FILE]

Every system starts as a new process on the same two files with two workers. Alloy's run is
`alloy build`: it hashes the input, tokenizes, writes shards with hashes and a document's id, file
and line, keeps the ledger, and looks for duplicates. cold: the US Code. steady: the same text
repeated with changed ids, ten times (3 GB) for both; --copies and --peer-copies take other numbers,
as the ten take datatrove some twelve minutes. Rates are of UTF-8 text.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import click
import yaml
import zstandard

sys.path.append(str(Path(__file__).parent))
from harness import CORPORA, TOKENIZERS, Row, peer, report, run

WORKERS = 2


@click.command()
@click.option("--part", type=click.Choice(["cold", "steady", "map"]), multiple=True)
@click.option("--corpus", type=Path, default=CORPORA / "law_us_code.jsonl.zst")
@click.option("--tokenizer", type=Path, default=TOKENIZERS / "gpt2.json")
@click.option("--copies", default=10, help="Of the corpus, for Alloy's steady state.")
@click.option("--peer-copies", default=10, help="Of the corpus, for datatrove's steady state.")
def main(
    part: tuple[str, ...], corpus: Path, tokenizer: Path, copies: int, peer_copies: int
) -> None:
    """Print a table for each part and write benchmarks/results/tokenize.json."""
    for name in part or ("cold", "steady", "map"):
        with tempfile.TemporaryDirectory() as folder:
            rows = {"cold": cold, "steady": steady, "map": mapped}[name](
                corpus, tokenizer, Path(folder), copies, peer_copies
            )
        report("tokenize", {name: rows})


def cold(corpus: Path, tokenizer: Path, folder: Path, *_: int) -> list[Row]:
    size = repeat(corpus, folder / "in", 1)
    return compared([alloy(folder, tokenizer, size), datatrove(folder, tokenizer, size)])


def steady(corpus: Path, tokenizer: Path, folder: Path, copies: int, peer_copies: int) -> list[Row]:
    size = repeat(corpus, folder / "in", copies)
    ours = alloy(folder, tokenizer, size)
    size = repeat(corpus, folder / "in", peer_copies)
    return compared([ours, datatrove(folder, tokenizer, size)])


def mapped(corpus: Path, tokenizer: Path, folder: Path, *_: int) -> list[Row]:
    size = repeat(corpus, folder / "in", 1)
    result, ran = peer("tokenize_datasets.py", folder / "in", folder, tokenizer, WORKERS)
    row = measured("datasets.map", size, ran.seconds, ran.peak_mb)
    return compared([alloy(folder, tokenizer, size), {**row, "of_it_loading_s": result["load_s"]}])


def repeat(corpus: Path, folder: Path, copies: int, own_texts: bool = False) -> int:
    """Two files that hold the corpus ``copies`` times, each with ids of its own, and with texts of
    its own if asked, so that none is a duplicate. Returns the bytes of all texts as they were."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with corpus.open("rb") as file:
        lines = zstandard.ZstdDecompressor().stream_reader(file).read().splitlines(keepends=True)
    text_bytes = sum(len(json.loads(line)["text"].encode()) for line in lines)
    writers = [
        # A compressor has one context, so each writer has a compressor.
        zstandard.ZstdCompressor(level=3).stream_writer((folder / f"{i}.jsonl.zst").open("wb"))
        for i in range(2)
    ]
    half = len(lines) * copies // 2
    for number in range(len(lines) * copies):
        line, copy = lines[number % len(lines)], number // len(lines)
        changed = line.replace(b'"id": "', b'"id": "%d-' % copy, 1) if copy else line
        if own_texts and copy:
            changed = changed.replace(b'"text": "', b'"text": "%d ' % copy, 1)
        writers[number >= half].write(changed)
    for writer in writers:
        writer.close()
    return text_bytes * copies


def alloy(folder: Path, tokenizer: Path, text_bytes: int) -> Row:
    shutil.rmtree(folder / "store", ignore_errors=True)
    source = {"name": "law", "role": "domain", "path": str(folder / "in")}
    recipe = {
        "name": "bench",
        "data": {
            "tokenizer": str(tokenizer),
            "store": str(folder / "store"),
            "sources": [source],
        },
        "mix": {"general": 0},
        "schedule": {"tokens": "1M", "batch_tokens": "1M", "peak_lr": 1e-4},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    command = [str(Path(sys.executable).with_name("alloy")), "build", str(folder / "recipe.yaml")]
    ran = run([*command, "--json"], WORKERS)
    built = json.loads(ran.output)
    assert built["ledger_balanced"]
    assert built["sources"][0]["text_bytes"] == text_bytes
    return measured("alloy build", text_bytes, ran.seconds, ran.peak_mb)


def datatrove(folder: Path, tokenizer: Path, text_bytes: int) -> Row:
    out = folder / "datatrove"
    shutil.rmtree(out, ignore_errors=True)
    _, ran = peer("tokenize_datatrove.py", folder / "in", out, tokenizer, WORKERS, cores=WORKERS)
    return measured("datatrove DocumentTokenizer", text_bytes, ran.seconds, ran.peak_mb)


def measured(system: str, text_bytes: int, seconds: float, peak_mb: float) -> Row:
    return {
        "system": system,
        "text_mb": text_bytes / 1e6,
        "seconds": seconds,
        "mb_per_s": text_bytes / 1e6 / seconds,
        "peak_mb": peak_mb,
    }


def compared(rows: list[Row]) -> list[Row]:
    return [{**row, "alloy_is_faster": rows[0]["mb_per_s"] / row["mb_per_s"]} for row in rows]


if __name__ == "__main__":
    main()
