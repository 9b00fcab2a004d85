"""Several worlds of the demo: a seed reaches all that is random, and intervals are over worlds."""

import sys
from pathlib import Path

import pytest
import scipy.stats
from places import ROOT

from alloy.demo import SWEEP, recipes
from alloy.world import WorldFiles

sys.path.append(str(ROOT / "benchmarks"))
from demo_seeds import half_width, share_row


@pytest.mark.parametrize("seed", [0, 7])
def test_a_seed_is_of_the_weights_and_of_the_order_of_data(seed: int) -> None:
    trees = recipes(Path("runs"), WorldFiles.under(Path("world")), seed, SWEEP)
    assert [t["train"]["seed"] for t in trees.values()] == [seed] * 3
    assert [t["data"]["seed"] for t in trees.values()] == [seed] * 3
    assert trees["sweep"]["sweep"] == SWEEP


def test_intervals_are_students_over_worlds() -> None:
    values = [0.3, 0.5, 1.3]
    low, high = scipy.stats.t.interval(0.95, 2, loc=sum(values) / 3, scale=scipy.stats.sem(values))
    assert half_width(values) == pytest.approx((high - low) / 2)
    assert half_width([0.3]) is None


def test_a_share_is_averaged_over_the_worlds_that_have_it() -> None:
    def world(share: str, change: float) -> dict:
        kinds = ("exam", "exam_replayed", "exam_unreplayed", "retention_bpb")
        changes = {kind: {"change": change} for kind in kinds}
        return {"arms": [{"name": f"general_{share}", "domain_f1": 0.5, "change": changes}]}

    row = share_row(0.05, [world("0.05", -0.1), world("0.05", -0.3), world("0.1", 9.0)])
    assert (row["worlds"], row["f1"]) == (2, 0.5)
    assert row["exam_points"] == pytest.approx(-20)
    assert row["retention_bpb"] == pytest.approx(-0.2)
