"""alloy corpus: read a built corpus back, trace its documents, erase some of them."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from alloy.commands.corpus_export import export
from alloy.commands.shared import emit, recipe_options, show
from alloy.planning import Planned
from alloy.runs import corpus_receipt, erase_documents
from alloy.verbs import load, packing_lines, removal_line, require_built, table
from configs import CheckFailed, Recipe, UserError
from mixing.audit import TracedPiece, pieces_of_document, pieces_of_step
from mixing.blend import RowReader
from mixing.building import unfinished
from mixing.store import load_erasures, verify_source


@click.group()
def command() -> None:
    """Verify a blended corpus, trace its documents, erase some, export it."""


command.add_command(export)


@command.command()
@click.option("--deep", is_flag=True, help="Also re-hash every byte of the store.")
@recipe_options
def verify(recipe_path: str, overrides: tuple[str, ...], as_json: bool, deep: bool) -> None:
    """Walk every position of RECIPE's plan and print asked against realised shares."""
    recipe = load(recipe_path, overrides)
    planned = require_built(recipe)
    damage = _damage(recipe, planned) if deep else []
    found = corpus_receipt(planned)
    found = {**found, "ok": found["ok"] and not damage, "damage": damage}
    if as_json:
        emit(found)
    else:
        click.echo(render(planned, found))
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
    recipe = load(recipe_path, overrides)
    planned, store = require_built(recipe), Path(recipe.data.store)
    if (step is None) == (doc is None):
        raise UserError("give one of --step and --doc", "alloy corpus trace RECIPE --step 100")
    reader = planned.rows()
    if step is not None:
        pieces = _of_step(reader, step)
    else:
        pieces = _of_document(planned, reader, str(doc), store)
    found = [_traced(planned, piece) for piece in pieces]
    if as_json:
        emit(found)
    else:
        for line in found:
            click.echo("  ".join(f"{key}={value}" for key, value in line.items()))


@command.command()
@click.option("--doc", "ids", multiple=True, required=True, help="Id of a document; repeatable.")
@recipe_options
def erase(
    recipe_path: str, overrides: tuple[str, ...], as_json: bool, ids: tuple[str, ...]
) -> None:
    """Erase documents of RECIPE's sources, and every copy of their text, from the store.

    A run that is under way keeps its order and reads them as padding from its next start on.
    Input files and run folders are left as they are.
    """
    wiped = erase_documents(load(recipe_path, overrides), ids, show)
    if as_json:
        emit({"erased": [asdict(part) for part in wiped]})
        return
    for part in wiped:
        click.echo(f"{part.source}: {part.documents:,} documents wiped from {part.key}")
    click.echo("nothing left to wipe" if not wiped else "erased; remove them from your files too")


def _of_step(reader: RowReader, step: int) -> list[TracedPiece]:
    if not 1 <= step <= reader.plan.steps:
        raise UserError(f"step {step} is outside the run", f"steps are 1 to {reader.plan.steps}")
    return pieces_of_step(reader, step - 1)


def _of_document(
    planned: Planned, reader: RowReader, document_id: str, store: Path
) -> list[TracedPiece]:
    assert planned.corpus is not None
    places = [
        (name, document)
        for name, source in planned.corpus.readers.items()
        for document in source.find_id(document_id)
    ]
    if not places and load_erasures(store).has_id(document_id):
        raise UserError(f"the document '{document_id}' was erased", "no step reads it any more")
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


def _damage(recipe: Recipe, planned: Planned) -> list[str]:
    store = Path(recipe.data.store)
    problems = [line for key in planned.keys.values() for line in verify_source(store, key)]
    return problems or [line for key in planned.keys.values() for line in unfinished(store, key)]


def render(planned: Planned, found: dict[str, Any]) -> str:
    assert planned.corpus is not None
    columns = [
        ("asked", "asked_share", ".4%"),
        ("realised", "realised_share", ".4%"),
        ("rows", "rows", ","),
        ("supervised", "supervised_tokens", ","),
        ("epochs", "epochs", ".3f"),
        ("deviation", "max_prefix_deviation_rows", ".3f"),
    ]
    notes = [*packing_lines(planned.ledgers), *map(removal_line, planned.corpus.removed)]
    notes += [f"{name}: {n:,} erased" for name, n in found["erased_documents"].items() if n]
    rows = [
        [f"{phase['name']} / {source['name']}", *(format(source[key], f) for _, key, f in columns)]
        for phase in found["phases"]
        for source in phase["sources"]
    ]
    header = ["phase / source", *(header for header, _, _ in columns)]
    return "\n".join([table(header, rows), one_row_rule(found), *notes])


def one_row_rule(found: dict[str, Any]) -> str:
    """How far shares may be off, which in a phase of few rows is much."""
    rows = [f"{100 / phase['rows']:.2g}% of {phase['name']}" for phase in found["phases"]]
    worst = math.floor(found["max_prefix_deviation_rows"] * 1e4) / 1e4  # under 1 stays under 1
    return (
        f"deviation: most rows that a source was off its target before any row, under 1 by the "
        f"rule, here {worst:.4f}; a row is {', '.join(rows)}"
    )
