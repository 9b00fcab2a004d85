"""alloy train: one recipe from its start to the exported model."""

import shlex

import click

from alloy.commands.shared import emit, load, recipe_options, show
from alloy.planning import run_folder
from alloy.runs import prepare_run, train_recipe
from checkpoints import JOB
from configs import Recipe, UserError
from pretrain.launch import slurm_script, torchrun_lines


@click.command()
@click.option(
    "--launcher",
    type=click.Choice(["deepspeed", "torchrun", "slurm"]),
    default="deepspeed",
    help="torchrun and slurm: prepare the run, and say what to start it with.",
)
@click.option("--dry-run", is_flag=True, help="Prepare the run and start nothing.")
@recipe_options
def command(
    recipe_path: str, overrides: tuple[str, ...], as_json: bool, launcher: str, dry_run: bool
) -> None:
    """Train RECIPE; running it again goes on where it stopped."""
    recipe = load(recipe_path, overrides)
    if dry_run or launcher != "deepspeed":
        _prepare(recipe, launcher, dry_run, as_json)
        return
    export = train_recipe(recipe, show)
    if as_json:
        emit({"run": str(run_folder(recipe)), "export": str(export)})
    else:
        click.echo(str(export))


def _prepare(recipe: Recipe, launcher: str, dry_run: bool, as_json: bool) -> None:
    if not dry_run:
        raise UserError(
            f"--launcher {launcher} starts nothing itself",
            f"add --dry-run, and start what it {'prints' if launcher == 'torchrun' else 'writes'}",
        )
    job = prepare_run(recipe, show)
    if job is None:
        return
    path = (job.folder / JOB).resolve()
    if launcher == "slurm":
        script = path.with_name("slurm.sh")
        text = slurm_script(recipe.name, path.parent, recipe.train)
        script.write_text(text, encoding="utf-8")
        lines = [shlex.join(["sbatch", str(script)])]
    elif launcher == "torchrun":
        lines = torchrun_lines(path, recipe.train)
    else:
        lines = [f"alloy train would start {recipe.train.ranks} ranks on {path}"]
    if as_json:
        emit({"job": str(path), "start": lines})
    else:
        click.echo("\n".join(lines))
