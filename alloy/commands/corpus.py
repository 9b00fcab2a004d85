"""alloy corpus: read a built corpus back and compare it with what was asked."""

from pathlib import Path
from typing import Any

import click

from alloy.commands.shared import emit, load, packing_lines, recipe_options, table
from alloy.planning import Planned, plan_recipe
from alloy.training import RECEIPT_WINDOWS
from configs import CheckFailed, Recipe, UserError
from mixing.receipt import receipt
from mixing.rows import RowReader
from mixing.store import verify_source
from mixing.trace import TracedPiece, pieces_of_document, pieces_of_step


@click.group()
def command() -> None:
    """Verify a blended corpus, and trace its documents."""


@command.command()
@click.option("--deep", is_flag=True, help="Also re-hash every byte of the store.")
@recipe_options
def verify(recipe_path: str, overrides: tuple[str, ...], as_json: bool, deep: bool) -> None:
    """Walk every position of RECIPE's plan and print asked against realised shares."""
    recipe = load(recipe_path, overrides)
    planned = _built(recipe)
    damage = _damage(recipe, planned) if deep else []
    window = max(1, planned.plan.rows // RECEIPT_WINDOWS)
    found = receipt(planned.plan, planned.rows(), window, ledgers=planned.ledgers)
    found = {**found, "ok": found["ok"] and not damage, "damage": damage}
    if as_json:
        emit(found)
    else:
        click.echo(render(found))
    if not found["ok"]:
        first = (damage + found["problems"])[0]
        raise CheckFailed(first, "build again what is damaged, after removing its folder")


@command.command()
@click.option("--step", type=int, help="Which documents this step (from 1) trains on.")
@click.option("--doc", help="Which steps train on the document of this id.")
@recipe_options
def trace(
    recipe_path: str, overrides: tuple[str, ...], as_json: bool, step: int | None, doc: str | None
) -> None:
    """Say which documents a step trained on, or which steps saw a document."""
    planned = _built(load(recipe_path, overrides))
    if (step is None) == (doc is None):
        raise UserError("give one of --step and --doc", "alloy corpus trace RECIPE --step 100")
    reader = planned.rows()
    pieces = _of_step(reader, step) if step is not None else _of_document(planned, reader, str(doc))
    found = [_traced(planned, piece) for piece in pieces]
    if as_json:
        emit(found)
    else:
        for line in found:
            click.echo("  ".join(f"{key}={value}" for key, value in line.items()))


def _of_step(reader: RowReader, step: int) -> list[TracedPiece]:
    if not 1 <= step <= reader.plan.steps:
        raise UserError(f"step {step} is outside the run", f"steps are 1 to {reader.plan.steps}")
    return pieces_of_step(reader, step - 1)


def _of_document(planned: Planned, reader: RowReader, document_id: str) -> list[TracedPiece]:
    assert planned.corpus is not None
    places = [
        (name, document)
        for name, source in planned.corpus.readers.items()
        for document in source.find_id(document_id)
    ]
    if not places:
        raise UserError(f"no document has the id '{document_id}'", "ids are in the input's rows")
    trained = {source.name for source in planned.plan.sources}
    return [
        piece
        for name, document in places
        if name in trained
        for piece in pieces_of_document(reader, name, document)
    ]


def _traced(planned: Planned, piece: TracedPiece) -> dict[str, Any]:
    assert planned.corpus is not None
    origin = planned.corpus.readers[piece.source].provenance(piece.document)
    return {
        "step": piece.step + 1,
        "position": piece.position,
        "source": piece.source,
        "epoch": piece.epoch,
        "id": origin.id,
        "file": origin.file,
        "line": origin.line,
        "start_token": piece.start,
        "tokens": piece.length,
    }


def _built(recipe: Recipe) -> Planned:
    planned = plan_recipe(recipe)
    if planned.corpus is None:
        missing = sorted({s.name for s in recipe.data.sources} - set(planned.keys))
        raise UserError(f"not built yet: {', '.join(missing)}", "run `alloy build` first")
    return planned


def _damage(recipe: Recipe, planned: Planned) -> list[str]:
    store = Path(recipe.data.store)
    return [line for key in planned.keys.values() for line in verify_source(store, key)]


def render(found: dict[str, Any]) -> str:
    rows = [
        [
            f"{phase['name']} / {source['name']}",
            f"{source['asked_share']:.4%}",
            f"{source['realised_share']:.4%}",
            f"{source['rows']:,}",
            f"{source['supervised_tokens']:,}",
            f"{source['epochs']:.3f}",
            f"{source['max_prefix_deviation_rows']:.3f}",
        ]
        for phase in found["phases"]
        for source in phase["sources"]
    ]
    header = ["phase / source", "asked", "realised", "rows", "supervised", "epochs", "deviation"]
    return "\n".join([table(header, rows), *packing_lines(found["packing"])])
