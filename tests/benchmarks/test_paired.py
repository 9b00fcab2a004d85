"""Ratios of paired times (benchmarks/paired.py) by hand and by simulation."""

import importlib.util
import sys
from types import ModuleType

import numpy as np
import pytest
from places import ROOT


@pytest.fixture(scope="module")
def paired() -> ModuleType:
    spec = importlib.util.spec_from_file_location("paired", ROOT / "benchmarks/paired.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["paired"] = module
    spec.loader.exec_module(module)
    return module


def test_by_hand(paired: ModuleType) -> None:
    """Ratios 1, 1.1, 1.2, 1.3: mean 1.15, standard error 0.0645497, t(0.95; 3) 2.353363."""
    found = paired.paired_ratio([1.0, 2.2, 3.6, 5.2], [1.0, 2.0, 3.0, 4.0])
    assert found.mean == pytest.approx(1.15)
    assert found.upper == pytest.approx(1.15 + 2.353363 * 0.0645497, abs=1e-6)
    assert found.lower == pytest.approx(1.15 - 2.353363 * 0.0645497, abs=1e-6)
    assert found.pairs == 4


def test_the_bound_holds_in_nineteen_of_twenty(paired: ModuleType) -> None:
    rng = np.random.default_rng(0)
    over = 0
    for _ in range(2000):
        other = rng.uniform(1, 2, 8)
        mine = other * rng.normal(1.02, 0.03, 8)
        over += paired.paired_ratio(mine.tolist(), other.tolist()).upper < 1.02
    assert over / 2000 == pytest.approx(0.05, abs=0.015)


def test_what_may_be_claimed(paired: ModuleType) -> None:
    tight = paired.Ratio(1.01, 1.005, 1.015, 8)
    assert paired.verdict(tight, 1.02).startswith("at most 1.02: 1.0100, 95% bound 1.0150")
    for ratio in (paired.Ratio(1.01, 1.0, 1.021, 8), paired.Ratio(1.0, 0.99, 1.01, 7)):
        assert paired.verdict(ratio, 1.02).startswith("inconclusive against 1.02")


def test_pairs_are_pairs(paired: ModuleType) -> None:
    for mine, other in (([1.0], [1.0]), ([1.0, 2.0], [1.0])):
        with pytest.raises(ValueError, match="no pairs"):
            paired.paired_ratio(mine, other)
