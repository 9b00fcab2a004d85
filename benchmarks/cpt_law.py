"""The law of a published continued-pretraining sweep, and the coverage of the law's intervals.

    python benchmarks/cpt_law.py [--data FOLDER] [--seeds 200] [--out FILE.json]

The sweep is that of "data mixing laws" (Ye et al. 2024): Pythia-70M continued on the Pile against
Python. Four ratios are fitted, the authors' fifth run is predicted, and the share at which the
general loss returns to the base's is set beside theirs; straight-line interpolation stands beside.
``FOLDER`` holds cpt_pythia70m_pile_python.csv and pile_validation_weights.json; without it that
half is left out and said to be. The synthetic half needs nothing.
"""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from alloy.law.critical import SHARES, critical_share, crossings
from alloy.law.fit import Law, Runs, fit_law
from alloy.law.forms import Array

ROOT = Path(__file__).parents[1]
CONFIRMING_SHARE = 0.28515625
PUBLISHED_CRITICAL_SHARE = 0.286
LAST_STEP = 10_000
Row = dict[str, Any]


@dataclass(frozen=True)
class Truth:
    """A curve that runs are simulated from; ``specified``: the law knows its form."""

    name: str
    specified: bool
    curve: Callable[[Array], Array]


TRUTHS = (
    Truth("exponential", True, lambda r: 1 + 0.3 * np.exp(-9 * r)),
    Truth("logarithmic", True, lambda r: 1.3 - 0.04 * np.log1p(300 * r)),
    Truth("shifted power", True, lambda r: 1 + 0.3 / np.sqrt(1 + 50 * r)),
    Truth("two exponentials", False, lambda r: 1 + 0.2 * np.exp(-60 * r) + 0.15 * np.exp(-3 * r)),
    Truth("logistic", False, lambda r: 1 + 0.3 / (1 + np.exp(15 * (r - 0.25)))),
)
SWEEP_SHARES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0)
REPEATS = 3
NOISE_SD = 0.01
ASKED_SHARE = 0.17
LEVEL = 1.08


@click.command()
@click.option("--data", type=Path, default=ROOT.parent / "shared/data/laws", show_default=True)
@click.option("--seeds", default=200, show_default=True)
@click.option("--out", type=Path, default=ROOT / "benchmarks/results/cpt_law.json")
def main(data: Path, seeds: int, out: Path) -> None:
    """Print both tables and write them as JSON."""
    result = {
        "published_sweep": published_sweep(data) if data.is_dir() else None,
        "coverage": {"seeds": seeds, "rows": [coverage(truth, seeds) for truth in TRUTHS]},
    }
    show(result)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def read_sweep(data: Path) -> tuple[list[tuple[float, float, float]], tuple[float, float]]:
    """((Pile share, general loss, Python loss) a ratio), (general, Python) of the base.

    Last step; the general loss is the weighted mean over the 22 Pile domains.
    """
    weights = json.loads((data / "pile_validation_weights.json").read_text(encoding="utf-8"))
    losses: dict[tuple[str, int], dict[str, float]] = {}
    with (data / "cpt_pythia70m_pile_python.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            key = (row["weights"], int(row["step"]))
            losses.setdefault(key, {})[row["valid_domain"]] = float(row["loss"])

    def both(key: tuple[str, int]) -> tuple[float, float]:
        total = sum(weights.values())
        general = sum(w * losses[key][name] for name, w in weights.items()) / total
        return general, losses[key]["python"]

    keys = sorted(key for key in losses if key[1] == LAST_STEP)
    return [(float(key[0].split("-")[0]), *both(key)) for key in keys], both(("", 0))


def published_sweep(data: Path) -> Row:
    """The fit on four ratios, the fifth run predicted, the critical share."""
    rows, (base, _) = read_sweep(data)
    fitted = np.array([row for row in rows if row[0] != CONFIRMING_SHARE])
    confirming = next(row for row in rows if row[0] == CONFIRMING_SHARE)
    share, general, python = fitted.T
    law = _law(share, general)
    domain = _law(1 - share, python)
    told = law.predict(np.array([CONFIRMING_SHARE]))
    critical = critical_share(law, base)
    assert critical.share is not None
    at = np.array([CONFIRMING_SHARE])
    straight = float(np.interp(CONFIRMING_SHARE, share, general))
    straight_critical = float(np.interp(-base, -general, share))
    return {
        "base_loss": base,
        "form": law.form.name,
        "leave_one_out_rmse": law.errors,
        "noise_sd": law.noise.sd,
        "noise_from": f"{law.noise.source}, {law.noise.degrees} degrees of freedom",
        "confirming_loss": confirming[1],
        "predicted_loss": float(told.value[0]),
        "error": float(told.value[0]) - confirming[1],
        "run_interval": [float(told.run_low[0]), float(told.run_high[0])],
        "straight_line_error": straight - confirming[1],
        "domain_form": domain.form.name,
        "domain_error": float(domain.curve(1 - at)[0]) - confirming[2],
        "critical_share": critical.share,
        "critical_interval": [critical.low, critical.high],
        "published_critical_share": PUBLISHED_CRITICAL_SHARE,
        "straight_line_critical_share": straight_critical,
    }


def _law(share: Array, loss: Array) -> Law:
    return fit_law(Runs(share=share, tokens=np.ones_like(share), loss=loss))


def coverage(truth: Truth, seeds: int) -> Row:
    """How often 95% intervals of the curve, of a further run and of the critical share hold."""
    share = np.repeat(np.array(SWEEP_SHARES), REPEATS)
    at = np.array([ASKED_SHARE])
    value = float(truth.curve(at)[0])
    wanted = float(crossings(SHARES, truth.curve(SHARES)[None, :], LEVEL)[0])
    held = np.zeros(3)
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        loss = truth.curve(share) + rng.normal(0, NOISE_SD, len(share))
        law = fit_law(Runs(share=share, tokens=np.ones_like(share), loss=loss), seed=seed)
        told, critical = law.predict(at), critical_share(law, LEVEL)
        further = value + rng.normal(0, NOISE_SD)
        low = -np.inf if critical.low is None else critical.low
        high = np.inf if critical.high is None else critical.high
        held += (
            told.low[0] <= value <= told.high[0],
            told.run_low[0] <= further <= told.run_high[0],
            low <= wanted <= high,
        )
    curve, run, critical_held = (float(h) / seeds for h in held)
    return {
        "truth": truth.name,
        "specified": truth.specified,
        "curve": curve,
        "further_run": run,
        "critical_share": critical_held,
    }


def show(result: Row) -> None:
    told = result["published_sweep"]
    if told is None:
        print("published sweep: no data folder, left out")
    else:
        low, high = told["critical_interval"]
        print(f"published sweep, {told['form']} chosen of {told['leave_one_out_rmse']}")
        print(f"  confirming run: predicted {told['predicted_loss']:.5f}, was ", end="")
        print(f"{told['confirming_loss']:.5f} (error {told['error']:+.5f}; straight line ", end="")
        print(f"{told['straight_line_error']:+.5f}; domain loss {told['domain_error']:+.5f})")
        print(f"  critical share: {told['critical_share']:.4f} [{low:.3f}, {high:.3f}], ", end="")
        print(f"published {told['published_critical_share']}, ", end="")
        print(f"straight line {told['straight_line_critical_share']:.4f}")
    print(f"coverage of 95% intervals over {result['coverage']['seeds']} seeds")
    print(f"  {'truth':18} {'known form':10} {'curve':>7} {'further run':>12} {'critical':>9}")
    for row in result["coverage"]["rows"]:
        known = "yes" if row["specified"] else "no"
        print(f"  {row['truth']:18} {known:10} {row['curve']:7.1%} ", end="")
        print(f"{row['further_run']:12.1%} {row['critical_share']:9.1%}")


if __name__ == "__main__":
    main()
