"""Changes of F1 in the report, for every form of a domain task's records."""

import random
from typing import Any

import numpy as np
import pytest

from alloy.reports.judging.compare import f1_change
from alloy.reports.records.inputs import DomainRow
from evals.domain.domain_f1 import summarize_domain
from evals.domain.domain_items import DomainRow as Asked
from evals.domain.domain_records import domain_records

LABELS = ["a", "b", "c", "d"]


def rows(metric: str, seed: int, skill: float) -> list[dict[str, Any]]:
    """Records of 300 answers, the same questions for every seed."""
    asked, luck = random.Random("asked"), random.Random(seed)
    items, answers = [], []
    for i in range(300):
        gold = sorted(asked.sample(LABELS, asked.randint(1, 3)))
        right = luck.random() < skill
        if metric == "multi_label":
            items.append(Asked(str(i), "p", tuple(gold)))
            answers.append(", ".join(gold if right else luck.sample(LABELS, 2)))
        elif metric == "extractive":
            items.append(Asked(str(i), "p", (" ".join(gold),)))
            answers.append(" ".join(gold if right else luck.sample(LABELS, 2)))
        else:
            items.append(Asked(str(i), "p", (gold[0],)))
            answers.append(gold[0] if right else luck.choice(LABELS))
    return domain_records(items, answers, metric)  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", ["exact_label", "multi_label", "extractive"])
def test_the_change_is_that_of_the_summaries(metric: str) -> None:
    base, arm = rows(metric, 1, 0.3), rows(metric, 2, 0.8)
    told = [summarize_domain(r, metric, 10, 0, 0.9)["domain_f1"] for r in (base, arm)]  # type: ignore[arg-type]
    found = f1_change([row(r) for r in base], [row(r) for r in arm], resamples=400)
    assert found is not None
    assert found["n"] == 300
    assert found["change"] == pytest.approx(told[1] - told[0], abs=1e-12)
    assert found["interval"][0] < found["change"] < found["interval"][1]
    assert np.sign(found["interval"][0]) == 1


def row(record: dict[str, Any]) -> DomainRow:
    return DomainRow.model_validate(record)
