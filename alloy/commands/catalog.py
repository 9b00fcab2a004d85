"""alloy catalog: open models that publish their stages."""

from typing import Any

import click

from alloy.commands.shared import emit
from alloy.models import (
    OpenModel,
    habits,
    known_model,
    nearest_model,
    open_models,
    published_revisions,
)
from alloy.verbs import table
from configs import UserError


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout.")
@click.option("--online", is_flag=True, help="Also ask the hub which revisions MODEL really has.")
@click.argument("model", required=False)
def command(model: str | None, online: bool, as_json: bool) -> None:
    """List the models whose stages are known, or what is known of MODEL."""
    if model is None:
        if online:
            raise UserError("--online asks for one model", "alloy catalog MODEL --online")
        entries = [m.model_dump(mode="json") for m in open_models()]
        if as_json:
            emit(entries)
        else:
            click.echo(_overview())
        return
    found = known_model(model)
    if found is None and not online:
        near = nearest_model(model)
        hint = f"did you mean {near}?" if near else "`alloy catalog` lists what is"
        raise UserError(f"{model} is not in the catalog", hint)
    answer: dict[str, Any] = {"catalog": found.model_dump(mode="json") if found else None}
    if online:
        answer["revisions"] = published_revisions(model)
    if as_json:
        emit(answer)
        return
    click.echo(_one(found) if found else f"{model} is not in the catalog")
    if online:
        click.echo("on the hub: " + ", ".join(answer["revisions"]))


def _overview() -> str:
    rows = [
        [m.id, _rate(m.peak_lr), stage.name, stage.revision or "?", _rate(stage.end_lr)]
        for m in open_models()
        for stage in m.stages
    ]
    return table(["model", "peak LR", "stage", "revision at its end", "LR there"], rows)


def _one(model: OpenModel) -> str:
    stages = [
        [
            s.name,
            s.revision or "?",
            f"{s.tokens:,}" if s.tokens else "?",
            _rate(s.end_lr),
            "yes" if s.annealed else "no",
        ]
        for s in model.stages
    ]
    lines = [
        f"{model.id}" + (f" (also {', '.join(model.also)})" if model.also else ""),
        f"schedule: {model.schedule or 'not known'}; peak {_rate(model.peak_lr)}",
        f"trained with {habits(model)}",
        f"replay corpora: {', '.join(model.replay) or 'not known'}",
        table(["stage", "revision at its end", "tokens", "LR there", "annealed"], stages),
    ]
    lines += [
        f"published MMLU of {score.model}: {score.accuracy:.1%} ({score.form} form, "
        f"{score.shots} shots, {score.harness}; {score.source})"
        for score in model.published
    ]
    if model.main:
        lines.append(f"main branch: {model.main}")
    if model.recalled:
        lines.append(f"not checked at the source: {', '.join(model.recalled)}")
    return "\n".join(lines)


def _rate(value: float | None) -> str:
    return "?" if value is None else f"{value:g}"
