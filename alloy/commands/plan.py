"""alloy plan: what a recipe will do, without doing it."""

from typing import Any

import click

from alloy.commands.shared import emit, load, packing_lines, phase_table, recipe_options, table
from alloy.planning import (
    Planned,
    described,
    disk_lines,
    footprint,
    memory_lines,
    plan_recipe,
    rank_memory,
    require_rows_fit,
    run_folder,
    start_lines,
    weights_of,
)
from alloy.sweeps import (
    arms,
    course,
    repeated_recipes,
    repetition_line,
    shared_starts,
    shared_tokens,
)
from checkpoints import Checkpoint, last_good
from configs import Recipe
from mixing.blend import Plan
from pretrain.training import curve


@click.command()
@recipe_options
def command(recipe_path: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Say what RECIPE will do: rows, epochs, learning rate, steps."""
    recipe = load(recipe_path, overrides)
    reached, _ = last_good(run_folder(recipe) / "checkpoints", deep=False)
    if recipe.base is not None and reached is None:
        require_rows_fit(recipe.base, recipe.data)
    planned = plan_recipe(recipe)
    answer = describe(recipe, planned, reached)
    if as_json:
        emit(answer)
    else:
        many = len(answer["sweep"]["arms"]) if answer["sweep"] else 0
        memory = memory_lines(answer["memory"], recipe.train)
        lines = [*start_lines(planned, reached), *memory, *disk_lines(answer["disk"], many)]
        click.echo("\n".join([render(answer), *lines]))


def describe(recipe: Recipe, planned: Planned, reached: Checkpoint | None = None) -> dict[str, Any]:
    plan = planned.plan
    weights = weights_of(planned.start, reached)
    phases = [
        {
            "name": phase.name,
            "steps": phase.steps,
            "rows": phase.rows,
            "tokens": phase.rows * plan.seq_len,
            "general_share": phase.general,
            "denominator": phase.denominator,
            "weight_error": phase.weight_error,
            "sources": [
                {
                    "name": part.name,
                    "share": part.asked_share,
                    "rows": part.rows,
                    "tokens": part.tokens,
                    "supervised_tokens": part.supervised_tokens,
                    "epochs": part.epochs,
                }
                for part in phase.sources
            ],
        }
        for phase in plan.phases
    ]
    return {
        "name": recipe.name,
        "estimated": plan.estimated,
        "plan_hash": plan.hash,
        "unit": plan.unit,
        "steps": plan.steps,
        "batch_rows": plan.batch_rows,
        "seq_len": plan.seq_len,
        "tokens": plan.rows * plan.seq_len,
        "asked_tokens": recipe.schedule.tokens,
        "tokens_of": recipe.schedule.tokens_of,
        "domain": _domain(plan),
        "epochs": plan.epochs,
        "packing": {name: ledger.to_json() for name, ledger in planned.ledgers.items()},
        "phases": phases,
        "start": None if planned.start.base is None else described(planned.start, plan, reached),
        "learning_rate": curve(plan, planned.start.schedule),
        "disk": footprint(recipe, weights, plan),
        "memory": rank_memory(weights, recipe.train),
        "sweep": None if recipe.sweep is None else _sweep(recipe),
    }


def _sweep(recipe: Recipe) -> dict[str, Any]:
    """Every arm of the sweep, planned like the recipe itself, and what arms share."""
    wanted = arms(recipe)
    repeated = repeated_recipes(recipe, wanted)
    courses = [course(own, plan_recipe(own)) for own, _ in repeated]
    starts = shared_starts(courses)
    rows = []
    for i, arm in enumerate(wanted):
        plan, start, repetition = courses[i].plan, starts[i], repeated[i][1]
        step_tokens = plan.batch_rows * plan.seq_len
        shared = None
        if start is not None:
            tokens = start.steps * step_tokens
            shared = {"arm": wanted[start.by].name, "steps": start.steps, "tokens": tokens}
        rows.append(
            {
                "name": arm.name,
                "kind": arm.kind,
                "general_share": arm.general_share,
                "seed": arm.seed,
                "settings": arm.settings,
                "steps": plan.steps,
                "tokens": plan.rows * plan.seq_len,
                "shared": shared,
                "most_epochs": max(plan.epochs.values()),
                "repetition": None if repetition is None else repetition.to_json(plan),
            }
        )
    tokens = sum(row["tokens"] for row in rows)
    return {"arms": rows, "tokens": tokens, "tokens_saved": sum(shared_tokens(courses, starts))}


def _domain(plan: Plan) -> dict[str, int]:
    """What the domain sources give in the whole run, repeats counted."""
    names = {source.name for source in plan.sources if source.role == "domain"}
    parts = [part for phase in plan.phases for part in phase.sources if part.name in names]
    return {
        "rows": sum(part.rows for part in parts),
        "tokens": sum(part.tokens for part in parts),
        "supervised_tokens": sum(part.supervised_tokens for part in parts),
    }


def render(answer: dict[str, Any]) -> str:
    mark = "  (estimated: not all sources are built)" if answer["estimated"] else ""
    columns = [
        (f"share of {answer['unit']}", "share", ".4%"),
        ("rows", "rows", ","),
        ("tokens", "tokens", ","),
        ("supervised", "supervised_tokens", ","),
        ("epochs", "epochs", ".3f"),
    ]
    error = max(phase["weight_error"] for phase in answer["phases"])
    rates = "  ".join(f"{p['step']}: {p['lr']:.3g}" for p in answer["learning_rate"])
    return "\n".join(
        [
            f"{answer['name']}: {answer['steps']:,} steps of {answer['batch_rows']:,} rows x "
            f"{answer['seq_len']:,} = {answer['tokens']:,} tokens "
            f"({_asked(answer)}){mark}",
            phase_table(answer["phases"], columns),
            *packing_lines(answer["packing"]),
            f"slot weights are off by at most {error:.2g} of themselves",
            f"learning rate by step: {rates}",
            f"plan hash {answer['plan_hash']}",
            *(_sweep_lines(answer["sweep"]) if answer["sweep"] else []),
        ]
    )


def _sweep_lines(sweep: dict[str, Any]) -> list[str]:
    rows = [
        [
            arm["name"],
            f"{arm['general_share']:.2%}",
            f"{arm['steps']:,}",
            f"{arm['tokens']:,}",
            f"{arm['shared']['tokens']:,}" if arm["shared"] else "-",
            f"{arm['most_epochs']:.3f}",
        ]
        for arm in sweep["arms"]
    ]
    matched = [arm["repetition"] for arm in sweep["arms"] if arm["repetition"]]
    columns = ["arm", "general", "steps", "tokens", "shared", "most epochs of a source"]
    return [
        "",
        f"sweep: {len(rows)} arms, {sweep['tokens']:,} tokens in all",
        table(columns, rows),
        _saved_line(sweep),
        *([repetition_line(matched)] if matched else []),
    ]


def _saved_line(sweep: dict[str, Any]) -> str:
    """What the arms share, by the arms that train it."""
    if not sweep["tokens_saved"]:
        return "no two arms have first steps in common, so none are shared"
    trunks: dict[str, int] = {}
    for arm in sweep["arms"]:
        if arm["shared"]:
            trunks[arm["shared"]["arm"]] = trunks.get(arm["shared"]["arm"], 0) + 1
    listed = ", ".join(f"{name} (by {count})" for name, count in trunks.items())
    return (
        f"shared: {sweep['tokens_saved']:,} tokens "
        f"({sweep['tokens_saved'] / sweep['tokens']:.1%}) are trained once, in {listed}"
    )


def _asked(answer: dict[str, Any]) -> str:
    if answer["tokens_of"] == "run":
        return f"asked {answer['asked_tokens']:,}"
    given = answer["domain"][answer["unit"]]
    return f"{given:,} {answer['unit']} of the domain, asked {answer['asked_tokens']:,}"
