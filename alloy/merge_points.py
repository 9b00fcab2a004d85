"""Merging as the second axis of a sweep: models between the reference and one trained arm.

reference, export of the first arm, lambda ─▶ merged folder ─▶ measured like an arm
"""

import json
from pathlib import Path
from typing import Any

from alloy.arms import Arm
from alloy.merging import RECORD, merge_between, open_part
from checkpoints.folder import write_json
from configs import Sweep
from evals.records import weights_hash

Tree = dict[str, Any]


def merge_entries(sweep: Sweep, arm: Arm, *, tokens: int, failed: str) -> list[Tree]:
    """The lines of sweep.json of the merges with ``arm``, before they are made.

    They have no general share: they are not trained, and no law is fitted to them.
    """
    return [_entry(arm, share, tokens, failed) for share in sorted(set(sweep.merge))]


def _entry(arm: Arm, share: float, tokens: int, failed: str) -> Tree:
    name = f"merge_{share:g}_of_{arm.name}"
    return {
        "name": name,
        "kind": "merge",
        "general_share": None,
        "tokens": tokens,
        "seed": arm.seed,
        "settings": arm.settings,
        "merge": {"lambda": share, "of": arm.name},
        "run": None,
        "eval": f"evals/{name}",
        "failed": failed,
    }


def merged_model(base: Path, trained: Path, share: float, out: Path) -> Path:
    """The folder ``out`` with base + share x (trained - base), of two Hugging Face folders.

    What is there is kept where it was made of the same weights.
    """
    weights = {"base": weights_hash(base), "trained": weights_hash(trained), "lambda": share}
    path = out / RECORD
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")).get("weights") == weights:
        return out
    record = merge_between(open_part(str(base)), open_part(str(trained)), share, out)
    write_json(path, {**record, "weights": weights})
    return out
