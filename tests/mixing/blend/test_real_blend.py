"""Real corpora whose rows hold very unequal amounts: shares come out as they were asked."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from real_corpora import medquad
from tiny import write_recipe

CORPORA = ("law_us_code", "general_novels")


@pytest.mark.slow
def test_shares_are_within_a_thousandth(
    shared_data: Path, tmp_path: Path, alloy: Callable[..., Any]
) -> None:
    """MedQuAD's conversations, the US Code and novels: of the whole run within 0.1% of what was
    asked of each, of a phase within 0.1% of the phase."""
    talks = medquad(shared_data, tmp_path / "medquad.jsonl", "messages")
    law, novels = (
        shared_data / f"corpora/{n}.jsonl.zst" for n in ("law_us_code", "general_novels")
    )
    recipe = {
        "name": "real",
        "data": {
            "tokenizer": str(shared_data / "tokenizers/gpt2.json"),
            "store": str(tmp_path / "store"),
            "sources": [
                {"name": "chat", "role": "domain", "path": str(talks), "format": "messages",
                 "max_bad": "100%", "max_epochs": 100},
                {"name": "law", "role": "domain", "path": str(law), "max_epochs": 100},
                {"name": "novels", "role": "general", "path": str(novels), "max_epochs": 100},
            ],
        },
        "mix": {"general": 0.3, "weights": {"chat": 3, "law": 4}},
        "schedule": {
            "tokens": "400M", "batch_tokens": 65536, "peak_lr": 1e-4, "anneal": 0.3,
            "phases": {"anneal": {"general": 0.1, "weights": {"chat": 1, "law": 1}}},
        },
    }  # fmt: skip
    path = write_recipe(tmp_path / "real.yaml", recipe)
    assert alloy("build", path).returncode == 0
    for seq_len in (1024, 4096):
        for unit in ("supervised_tokens", "tokens"):
            change = ("--set", f"data.seq_len={seq_len}", "--set", f"mix.unit={unit}")
            done = alloy("corpus", "verify", path, *change, "--json")
            assert done.returncode == 0, done.stderr
            check_shares(json.loads(done.stdout)["phases"], unit)


def check_shares(phases: list[dict[str, Any]], unit: str) -> None:
    held = {s["name"]: s["supervised_tokens"] / s["rows"] for s in phases[1]["sources"]}
    assert max(held.values()) > 1.05 * min(held.values())  # by rows, shares would be off
    asked, found = Counter[str](), Counter[str]()
    for phase in phases:
        units = sum(source[unit] for source in phase["sources"])
        for source in phase["sources"]:
            asked[source["name"]] += source["asked_share"] * units
            found[source["name"]] += source[unit]
            assert source["max_prefix_deviation_rows"] < 1
            if phase["name"] != "warmup":
                assert abs(source["realised_share"] - source["asked_share"]) < 1e-3
    for name in asked:
        assert abs(found[name] / asked[name] - 1) < 1e-3, (name, found[name] / asked[name])
