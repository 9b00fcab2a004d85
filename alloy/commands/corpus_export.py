"""alloy corpus export: the kept documents in other trainers' formats."""

from dataclasses import asdict
from pathlib import Path

import click

from alloy.commands.shared import emit, recipe_options, show
from alloy.verbs import load, require_built, table
from mixing.audit import export_source
from mixing.corpus import trained_spans


@click.command()
@click.option(
    "--megatron", "folder", type=Path, required=True, help="Folder for a .bin and .idx a source."
)
@recipe_options
def export(recipe_path: str, overrides: tuple[str, ...], as_json: bool, folder: Path) -> None:
    """Write what RECIPE may train on, without mixing it: one dataset for each trained source.

    Duplicates, held-out and erased documents and contaminated passages are left out.
    """
    recipe = load(recipe_path, overrides)
    planned = require_built(recipe)
    assert planned.corpus is not None
    files = []
    for name, packed in planned.corpus.packed.items():
        reader, spans = planned.corpus.readers[name], trained_spans(packed)
        show(f"{name}: writing {spans.length.size:,} documents")
        files.append(export_source(reader, spans, folder))
    if as_json:
        emit({"sources": [asdict(written) for written in files]})
        return
    rows = [[f.source, f"{f.documents:,}", f"{f.tokens:,}", f.prefix] for f in files]
    click.echo(table(["source", "documents", "tokens", "prefix"], rows))
