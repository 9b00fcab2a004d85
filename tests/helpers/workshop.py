"""Recipes over the tiny corpus by paths that are the same in every folder: those of examples, and
those whose answers are kept in tests/alloy/verbs/command_answers.json."""

import json
import shutil
from pathlib import Path
from typing import Any

from tiny import tiny_recipe, write_recipe

ANSWERS = Path(__file__).parents[1] / "alloy" / "verbs" / "command_answers.json"
LONG = 20
CHANGING = ("free_bytes", "seconds")
"""Keys whose values are those of the machine."""


def write_examples(tiny: Path, folder: Path) -> None:
    """recipe.yaml trains 12 steps on one rank; sweep.yaml goes on from what that exports."""
    one = _recipe(tiny, folder)
    write_recipe(folder / "recipe.yaml", one)
    base = {"model": "runs/tiny/export"}
    schedule = {**one["schedule"], "tokens": 4 * 8 * 32}
    swept = {**one, "name": "tiny_sweep", "base": base, "schedule": schedule}
    write_recipe(folder / "sweep.yaml", {**swept, "sweep": {"general": [0.25]}})


def write_answered(tiny: Path, folder: Path) -> Path:
    """A recipe with arms that match repetition, shared steps, and an eval that stands in its
    corpus."""
    tree = _recipe(tiny, folder)
    rows = [json.loads(line)["text"] for line in (tiny / "domain.jsonl").read_text().splitlines()]
    found = [" ".join(text.split()[5:LONG]) for text in rows if len(text.split()) >= LONG]
    asked = [{"prompt": prompt, "label": "x"} for prompt in [*found[:3], "nowhere " * 30]]
    (folder / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    tree["evals"] = {"domain": [{"name": "asked", "path": "asked.jsonl"}]}
    tree["data"] |= {"decontaminate": ["asked"], "max_contaminated": "9%"}
    tree["base"] = {"model": "corpus"}
    tree["sweep"] = {"general": [0.25, 0.5], "full_tokens": 9 * 8 * 32 * 4}
    tree["sweep"]["over"] = {"schedule.anneal": [0.25, 0.5]}
    for source in tree["data"]["sources"]:
        source["max_epochs"] = 30
    return write_recipe(folder / "answered.yaml", tree)


def steady(value: Any) -> Any:
    """A JSON value with what depends on the machine set to 0."""
    if isinstance(value, dict):
        return {k: 0 if k in CHANGING else steady(v) for k, v in value.items()}
    return [steady(v) for v in value] if isinstance(value, list) else value


def _recipe(tiny: Path, folder: Path) -> dict[str, Any]:
    if not (folder / "corpus").exists():
        shutil.copytree(tiny, folder / "corpus")
    train = {"zero": 2, "precision": "fp32", "ranks": 1, "micro_batch_rows": 8}
    return tiny_recipe(Path("corpus"), Path("runs"), train=train)
