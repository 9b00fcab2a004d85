"""What a run folder holds, and whether a recipe may go on in it.

recipe.json    the sections that decide the run, checked before anything is resumed
extensions.json  how its future was changed, where it was
plan.json      the plan of rows; job.json what the ranks are told
checkpoints/   verified checkpoints; metrics.jsonl one row a step; export/ the Hugging Face folder
lineage.json   where the weights come from; receipt.json asked and realised shares
"""

import json
from pathlib import Path
from typing import Any

from checkpoints.folder import write_json
from configs import UserError

RECIPE = "recipe.json"


def claim(run: Path, deciding: dict[str, Any]) -> bool:
    """Take a run folder for these settings; False where it holds settings already."""
    try:
        run.mkdir(parents=True, exist_ok=True)
        if (run / RECIPE).is_file():
            return False
        write_json(run / RECIPE, deciding)
        return True
    except OSError as error:
        raise UserError(f"{run}: {error.strerror}", "choose another run_dir or name") from None


def differing_keys(old: Any, new: Any, prefix: str = "") -> list[str]:
    """Dotted keys whose values differ between two trees of dicts."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return [] if old == new else [prefix]
    found = []
    for key in sorted(set(old) | set(new)):
        dotted = f"{prefix}.{key}" if prefix else key
        found += differing_keys(old.get(key), new.get(key), dotted)
    return found


class Metrics:
    """metrics.jsonl of a run: one row a step; a resumed run drops what it will do again."""

    def __init__(self, path: Path, first_step: int) -> None:
        kept = [row for row in read_metrics(path) if row["step"] <= first_step]
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        temporary.replace(path)
        self._file = path.open("a", encoding="utf-8")

    def write(self, row: dict[str, Any]) -> None:
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Whole rows of metrics.jsonl; a row that a kill cut short is not one."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
