"""Which tokenizer a recipe means, and whether it is the base's."""

import json
from pathlib import Path

from alloy.hub import local_model
from checkpoints.folder import is_alloy
from configs import Base, Data, UserError
from mixing.tokenizer import TokenizerFile, load_tokenizer


def tokenizer_name(base: Base | None, data: Data) -> str:
    """Where the tokenizer is loaded from: the recipe's own, else the base's."""
    if data.tokenizer is not None:
        return data.tokenizer
    assert base is not None
    assert base.model is not None
    folder = local_model(base.model, base.revision, weights=False)
    return str(folder / "export") if is_alloy(folder) else str(folder)


def open_tokenizer(base: Base | None, data: Data) -> TokenizerFile:
    """The recipe's tokenizer; UserError where it is not the one that the base was trained with."""
    name = tokenizer_name(base, data)
    tokenizer = load_tokenizer(name)
    if base is not None and base.model is not None:
        folder = local_model(base.model, base.revision, weights=False)
        _check_base(folder, tokenizer, name)
    return tokenizer


def _check_base(folder: Path, tokenizer: TokenizerFile, name: str) -> None:
    own = next((p for p in (folder, folder / "export") if (p / "tokenizer.json").is_file()), None)
    if own is not None:
        theirs = load_tokenizer(str(own))
        if _vocabulary(theirs) != _vocabulary(tokenizer):
            raise UserError(
                f"tokenizer {name} ({tokenizer.vocab_size} ids) is not that of the base {folder} "
                f"({theirs.vocab_size} ids)",
                "leave data.tokenizer out to use the base's own",
            )
    config = next((p for p in (folder, folder / "export") if (p / "config.json").is_file()), None)
    if config is not None:
        rows = json.loads((config / "config.json").read_text(encoding="utf-8")).get("vocab_size")
        if isinstance(rows, int) and tokenizer.vocab_size > rows:
            raise UserError(
                f"tokenizer {name} has ids up to {tokenizer.vocab_size - 1}, the embedding of "
                f"{folder} {rows} rows",
                "leave data.tokenizer out to use the base's own",
            )


def _vocabulary(tokenizer: TokenizerFile) -> object:
    """What decides the ids: the model, without the settings that saving rewrites."""
    return json.loads(tokenizer.json_text)["model"].get("vocab")
