"""The headline of a task of lm-eval, row by row, from its records alone.

lm-eval names its results "metric,filter", the main one first: "acc,none" of multiple choice,
"exact_match,strict-match" of gsm8k, "prompt_level_strict_acc,none" of ifeval.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evals.stats import bootstrap_ratio, wilson

Record = Mapping[str, Any]


def headline(records: Sequence[Record]) -> tuple[str | None, dict[tuple[str, int], float]]:
    """The name of the main result, and each row's value under (task, id).

    Both are empty where no result is a number of every row, as of perplexities.
    """
    results = records[-1]["results"]
    name = next((key for found in results.values() for key in found if "," in key), None)
    if name is None:
        return None, {}
    metric, _, kept = name.partition(",")
    rows = [row for row in records[:-1] if row["filter"] == kept]
    if not rows or not all(isinstance(row["metrics"].get(metric), int | float) for row in rows):
        return None, {}
    return name, {(row["task"], row["id"]): float(row["metrics"][metric]) for row in rows}


def summarize_task(
    records: Sequence[Record], resamples: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """What lm-eval made of its rows (the last record), how many prompts it cut, and the mean of
    the headline with its 95% interval: Wilson's where every row is right or wrong, else a
    bootstrap's."""
    rows = records[:-1]
    items = {(row["task"], row["id"]) for row in rows}
    cut = {(row["task"], row["id"]) for row in rows if row["truncated"]}
    name, values = headline(records)
    scores = np.array(list(values.values()))
    interval = None
    if name is not None and set(scores.tolist()) <= {0.0, 1.0}:
        interval = list(wilson(int(scores.sum()), len(scores)))
    elif name is not None:
        interval = list(bootstrap_ratio(scores, np.ones(len(scores)), resamples, seed))
    return {
        "n": len(items),
        "headline": name,
        "score": None if name is None else float(scores.mean()),
        "interval": interval,
        "results": records[-1]["results"],
        "truncated_prompts": len(cut),
    }
