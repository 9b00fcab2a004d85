"""Which tokenizer a recipe means, and whether it is the base's."""

import json
from pathlib import Path

from alloy.models import local_model
from alloy.planning.starting import begun
from checkpoints import JOB, is_alloy, read_json, read_object, run_of, text_part
from configs import Recipe, UserError
from mixing.tokens import TokenizerFile, load_tokenizer


def tokenizer_name(recipe: Recipe) -> str:
    """Where the tokenizer is loaded from: the recipe's own, else the base's."""
    if recipe.data.tokenizer is not None:
        return recipe.data.tokenizer
    known = begun(recipe)  # its base may be gone since
    if known is not None:
        return known["tokenizer"]
    base = recipe.base
    assert base is not None
    assert base.model is not None
    folder = local_model(base.model, base.revision, weights=False)
    return trained_tokenizer(folder) if is_alloy(folder) else str(folder)


def trained_tokenizer(folder: Path) -> str:
    """Where the tokenizer of a run, or of one of its checkpoints, is loaded from: as the run did,
    else from its export where that file is gone. Raises UserError for a checkpoint alone."""
    run = run_of(folder)
    export = run / "export"
    told = read_json(run / JOB).get("tokenizer") if (run / JOB).is_file() else None
    if (export / "tokenizer.json").is_file() and (told is None or not _is_here(told)):
        return str(export)
    if told is None:
        raise UserError(
            f"{folder}: no {JOB} in {run}, which names the tokenizer",
            "give the folder of a run, or one of the checkpoints in it",
        )
    return told


def open_tokenizer(recipe: Recipe) -> TokenizerFile:
    """The recipe's tokenizer; UserError where it is not the one that the base was trained with."""
    name = tokenizer_name(recipe)
    tokenizer = load_tokenizer(name)
    base = recipe.base
    # A run that has begun was checked when it did, and its base may be gone since.
    if base is not None and base.model is not None and begun(recipe) is None:
        folder = local_model(base.model, base.revision, weights=False)
        _check_base(folder, tokenizer, name)
    return tokenizer


def _own_tokenizer(folder: Path) -> str | None:
    """Of a base, for comparison; None where it has none or that of its training is gone."""
    if is_alloy(folder):
        found = trained_tokenizer(folder)
        return found if _is_here(found) else None
    return str(folder) if (folder / "tokenizer.json").is_file() else None


def _is_here(tokenizer: str) -> bool:
    return Path(tokenizer).expanduser().exists()


def _check_base(folder: Path, tokenizer: TokenizerFile, name: str) -> None:
    own = _own_tokenizer(folder)
    if own is not None and own != name:
        theirs = load_tokenizer(own)
        if _vocabulary(theirs) != _vocabulary(tokenizer):
            raise UserError(
                f"tokenizer {name} ({tokenizer.vocab_size} ids) is not that of the base {folder} "
                f"({theirs.vocab_size} ids)",
                "leave data.tokenizer out to use the base's own",
            )
    config = next((p for p in (folder, folder / "export") if (p / "config.json").is_file()), None)
    if config is not None:
        rows = text_part(read_object(config / "config.json")).get("vocab_size")
        if isinstance(rows, int) and tokenizer.vocab_size > rows:
            raise UserError(
                f"tokenizer {name} has ids up to {tokenizer.vocab_size - 1}, the embedding of "
                f"{folder} {rows} rows",
                "leave data.tokenizer out to use the base's own",
            )


def _vocabulary(tokenizer: TokenizerFile) -> object:
    """What decides the ids: the model, without the settings that saving rewrites."""
    return json.loads(tokenizer.json_text)["model"].get("vocab")
