"""The demo's world at several seeds, with intervals: python benchmarks/demo_seeds.py

    python benchmarks/demo_seeds.py [--seed N ...] [--out FOLDER]

Each seed is a world of its own: other facts, documents, exam, comments, tokenizer, weights and
order of data. For each, the commands that a user would type are run: train the trunk, anneal the
base, sweep the shares, confirm the recommended one. A world that was reported is not run again, and
one that was stopped goes on; about twenty minutes a world on one core. Writes
benchmarks/results/demo_seeds.json.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import scipy.stats

from alloy.demo import NAME, write_recipes

sys.path.append(str(Path(__file__).parent))
from harness import Row, report

ALLOY = str(Path(sys.executable).with_name("alloy"))
ONE_PROCESS = ("--set", "train.ranks=1", "--set", "train.micro_batch_rows=8")
"""A core is enough for a world, so that two can be trained side by side."""

SHARES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0)
QUANTITIES: dict[str, Callable[[Row], float]] = {
    "exam_points": lambda arm: 100 * arm["change"]["exam"]["change"],
    "replayed_points": lambda arm: 100 * arm["change"]["exam_replayed"]["change"],
    "never_points": lambda arm: 100 * arm["change"]["exam_unreplayed"]["change"],
    "f1": lambda arm: arm["domain_f1"],
    "retention_bpb": lambda arm: arm["change"]["retention_bpb"]["change"],
}
"""Of an arm, against the base of its own world."""


@click.command()
@click.option("--seed", "seeds", type=int, multiple=True, default=(0, 1, 2), show_default=True)
@click.option("--out", type=Path, default=Path("runs/demo_seeds"), show_default=True)
def main(seeds: tuple[int, ...], out: Path) -> None:
    """Run what is not done yet, print the tables and write the JSON."""
    worlds = {seed: run_seed(out / f"seed_{seed}", seed) for seed in seeds}
    report(
        "demo_seeds",
        {
            "bases": [base_row(seed, told) for seed, told in worlds.items()],
            "shares": [share_row(share, list(worlds.values())) for share in SHARES],
            "arms": [arm_row(seed, arm) for seed, told in worlds.items() for arm in told["arms"]],
            "confirmations": [confirmation_row(seed, told) for seed, told in worlds.items()],
        },
    )


def run_seed(run_dir: Path, seed: int) -> Row:
    """The report of one world, made by the commands of a user."""
    path = run_dir / NAME / "report.json"
    if not path.is_file():
        sweep = {"general": list(SHARES), "saturation": None}
        trunk, base, arms = map(str, write_recipes(run_dir, print, seed, sweep))
        for words in (["train", trunk], ["train", base], ["sweep", arms]):
            subprocess.run([ALLOY, *words, *ONE_PROCESS], check=True)
        # It ends with 1 where no share can be recommended, which is an answer too.
        subprocess.run([ALLOY, "sweep", arms, "--confirm", *ONE_PROCESS], check=False)
        subprocess.run([ALLOY, "report", str(run_dir / NAME)], check=True)
    return json.loads(path.read_text(encoding="utf-8"))


def base_row(seed: int, told: Row) -> Row:
    base = told["base"]
    names = ("exam_accuracy", "cloze_accuracy", "domain_f1", "retention_bpb")
    return {"seed": seed, **{name: base[name] for name in names}}


def share_row(share: float, worlds: list[Row]) -> Row:
    """The mean over the worlds with Student's 95% interval: worlds are what was drawn at random."""
    arms = [a for told in worlds for a in told["arms"] if a["name"] == f"general_{share:g}"]
    row: Row = {"general_share": share, "worlds": len(arms)}
    for name, value in QUANTITIES.items():
        values = [value(arm) for arm in arms]
        row |= {name: statistics.fmean(values), f"{name}_half_width": half_width(values)}
    return row


def half_width(values: list[float]) -> float | None:
    """Of Student's 95% interval of the mean; None for a single value."""
    if len(values) < 2:
        return None
    error = statistics.stdev(values) / len(values) ** 0.5
    return float(scipy.stats.t.ppf(0.975, len(values) - 1)) * error


def arm_row(seed: int, arm: Row) -> Row:
    told = {name: value(arm) for name, value in QUANTITIES.items()}
    return {"seed": seed, "arm": arm["name"], **told, "verdict": arm["verdict"]}


def confirmation_row(seed: int, told: Row) -> Row:
    """What the report says of its recommendation, in its own words."""
    texts = [confirmation["text"] for confirmation in told["confirmations"]]
    return {"seed": seed, "recommended": told["recommendation"]["text"], "confirmed": texts}


if __name__ == "__main__":
    main()
