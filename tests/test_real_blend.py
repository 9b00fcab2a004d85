"""Real corpora whose rows hold very unequal amounts: shares come out as they were asked."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from conftest import write_recipe


def conversations(corpus: Path, path: Path) -> Path:
    """MedQuAD's questions and answers as OpenAI messages; only answers are trained on."""
    with corpus.open("rb") as raw, path.open("w") as out:
        for line in io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(raw), "utf-8"):
            row = json.loads(line)
            question, _, answer = row["text"].partition("\nAnswer: ")
            turns = [("user", question.removeprefix("Question: ")), ("assistant", answer)]
            messages = [{"role": role, "content": content} for role, content in turns]
            out.write(json.dumps({"id": row["id"], "messages": messages}) + "\n")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("seq_len", [1024, 4096])
@pytest.mark.parametrize("unit", ["supervised_tokens", "tokens"])
def test_shares_are_within_a_thousandth(
    seq_len: int, unit: str, shared_data: Path, tmp_path: Path, alloy: Callable[..., Any]
) -> None:
    corpora = shared_data / "corpora"
    medquad = conversations(corpora / "medicine_medquad.jsonl.zst", tmp_path / "medquad.jsonl")
    law, novels = corpora / "law_us_code.jsonl.zst", corpora / "general_novels.jsonl.zst"
    recipe = {
        "name": "real",
        "data": {
            "tokenizer": str(shared_data / "tokenizers/gpt2.json"),
            "store": str(tmp_path / "store"),
            "seq_len": seq_len,
            "sources": [
                # MedQuAD has questions without an answer.
                {"name": "chat", "role": "domain", "path": str(medquad), "format": "messages",
                 "max_bad": "100%", "max_epochs": 20},
                {"name": "law", "role": "domain", "path": str(law)},
                {"name": "novels", "role": "general", "path": str(novels), "max_epochs": 20},
            ],
        },
        "mix": {"unit": unit, "general": 0.3, "weights": {"chat": 3, "law": 4}},
        "schedule": {
            "tokens": "80M", "batch_tokens": 65536, "peak_lr": 1e-4, "anneal": 0.3,
            "phases": {"anneal": {"general": 0.1, "weights": {"chat": 1, "law": 1}}},
        },
    }  # fmt: skip
    path = write_recipe(tmp_path / "real.yaml", recipe)
    assert alloy("build", path).returncode == 0
    done = alloy("corpus", "verify", path, "--json")
    assert done.returncode == 0, done.stderr
    receipt = json.loads(done.stdout)
    held = {s["name"]: s["supervised_tokens"] / s["rows"] for s in receipt["phases"][1]["sources"]}
    assert max(held.values()) > 1.05 * min(held.values())  # by rows, shares would be off
    for phase in receipt["phases"][1:]:
        for source in phase["sources"]:
            assert abs(source["realised_share"] - source["asked_share"]) < 1e-3
            assert source["max_prefix_deviation_rows"] < 1
