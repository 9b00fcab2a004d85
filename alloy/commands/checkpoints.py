"""alloy checkpoints: list and verify."""

from pathlib import Path

import click

from alloy.commands.shared import emit
from alloy.verbs import table
from checkpoints import problems, step_name, steps
from configs import CheckFailed, UserError


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout.")
@click.argument("run", type=Path)
def command(run: Path, as_json: bool) -> None:
    """List the checkpoints of RUN, comparing every byte with its hash."""
    root = run / "checkpoints"
    found = [
        {"step": step, "path": str(path), "problems": problems(path)}
        for step in steps(root)
        for path in [root / step_name(step)]
    ]
    if not found:
        raise UserError(f"{run} has no checkpoints", "give the folder of a run")
    if as_json:
        emit(found)
    else:
        rows = [[str(f["step"]), f["path"], "; ".join(f["problems"]) or "good"] for f in found]
        click.echo(table(["step", "folder", "state"], rows))
    damaged = [line for f in found for line in f["problems"]]
    if damaged:
        raise CheckFailed(damaged[0], "training goes on from the newest good checkpoint")
