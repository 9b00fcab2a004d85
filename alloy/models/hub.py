"""Finds the folder, on this machine, of a model that a recipe names."""

from difflib import get_close_matches
from pathlib import Path

from httpx2 import HTTPError
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from checkpoints import is_alloy, require_model, require_no_file, weight_files
from configs import UserError

_DESCRIPTION = ("*.json", "tokenizer*", "*.model", "*.txt", "*.jinja")
_WEIGHTS = ("*.safetensors",)


def local_model(model: str, revision: str | None, weights: bool) -> Path:
    """The folder of ``model``: itself where it is one, else its snapshot from the hub.

    ``weights`` also fetches the safetensors files; pickled weights are never fetched. Raises
    UserError where there is neither such a folder nor such a revision on the hub, and for a model
    that cannot be trained, by its config and, where its weights are here, by their headers.
    """
    folder = Path(model)
    if folder.is_dir():
        if revision is not None:
            raise UserError(
                f"{model} is a folder, which has no revision '{revision}'",
                "leave the revision out, or give a hub id",
            )
        if is_alloy(folder):
            return folder
        _require_trainable(folder, weights=True)
        return folder
    require_no_file(folder)
    found = _snapshot(model, revision, weights)
    _require_trainable(found, weights)
    return found


def _require_trainable(folder: Path, weights: bool) -> None:
    require_model(folder)
    if weights:
        weight_files(folder)


def _snapshot(model: str, revision: str | None, weights: bool) -> Path:
    patterns = [*_DESCRIPTION, *(_WEIGHTS if weights else ())]
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=patterns))
    except (HTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        at = f" at revision '{revision}'" if revision else ""
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "not reachable"
        raise UserError(
            f"{model}{at}: no such folder, and not to be had from the hub: {reason}",
            _nearest_folder(Path(model)) or "check the name and the revision",
        ) from None


def _nearest_folder(folder: Path) -> str | None:
    around = folder.parent.iterdir() if folder.parent.is_dir() else ()
    near = get_close_matches(folder.name, [p.name for p in around if p.is_dir()], 1)
    return f"did you mean {folder.parent / near[0]}?" if near else None


def local_tokenizer(name: str) -> str:
    """The absolute path of the file or folder that a tokenizer's name means, from any working
    directory: a path with ~ or relative, or a hub id (``id@revision``), which is fetched."""
    path = Path(name).expanduser()
    if path.exists():
        return str(path.absolute())  # a file of the hub's cache is a link: its target has no name
    repo, _, revision = name.partition("@")
    return str(_snapshot(repo, revision or None, weights=False).absolute())


def hugging_face_folder(model: str, revision: str | None) -> Path:
    """The folder to load with transformers: of an Alloy run, its export."""
    folder = local_model(model, revision, weights=True)
    return folder / "export" if is_alloy(folder) else folder
