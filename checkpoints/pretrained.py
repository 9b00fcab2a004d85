"""Weights from a Hugging Face folder: the only place where they are loaded, for every verb.

    folder ─▶ base_files (refused?) ─▶ links to its files alone ─▶ transformers ─▶ read its report

transformers draws what is missing at random, drops what it does not expect, takes one of several
copies, loads adapters that lie beside the weights, and only logs any of it.
"""

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from checkpoints.base_files import CONFIG, WeightFiles, require_model, weight_files
from configs import UserError

_TYPES = {"BF16": torch.bfloat16, "F16": torch.float16}
"""As safetensors calls them."""
_DESCRIPTION = (CONFIG, "generation_config.json")
_ODD_CONFIG = (
    *(OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
    *(AssertionError, RuntimeError, ImportError, SafetensorError, StrictDataclassError),
)
"""What classes of transformers raise for a config that they cannot be made of."""


def pretrained_model(
    name: str | Path, dtype: torch.dtype | None = torch.float32
) -> PreTrainedModel:
    """The model of a Hugging Face folder, in ``dtype`` whatever it is stored as.

    With ``dtype`` None, weights that are all of one 16-bit type stay in it, and all others are in
    fp32: they are then views of the mapped files, which take no memory until they are written to.
    A config that ties embeddings of which the files hold two is untied: the weights decide.

    Raises UserError where the folder is no causal LM that Alloy can load (see ``base_files``), and
    where weights are missing, of another shape than the config says, or not in its model.
    """
    folder = Path(name)
    if not folder.is_dir():
        raise UserError(f"{name}: no such folder", "check the name, revision or folder")
    require_model(folder)
    found = weight_files(folder)
    wanted = _TYPES.get(found.one_type or "", torch.float32) if dtype is None else dtype
    with _alone(folder, found) as links:
        try:
            # Any: its stubs do not know of the second value.
            pair: Any = AutoModelForCausalLM.from_pretrained(
                links,
                config=AutoConfig.from_pretrained(links, trust_remote_code=False),
                dtype=wanted,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        except _ODD_CONFIG as error:
            raise UserError(
                f"{name}: {_said(error, links)}", f"see {CONFIG} of that folder"
            ) from None
    model, told = pair
    model.name_or_path = model.config._name_or_path = str(name)
    _require_whole(name, told["missing_keys"], told["mismatched_keys"])
    _require_all_used(name, told["unexpected_keys"], model.config)
    _untie(model)
    return model


@contextmanager
def _alone(folder: Path, found: WeightFiles) -> Iterator[Path]:
    """A folder with links to what describes the model and to its weights, and to nothing else that
    a loader could take for it: adapters, other copies, code. Mapped files outlive it."""
    with TemporaryDirectory(prefix="alloy-") as made:
        links = Path(made)
        wanted = [*found.files, *(folder / n for n in _DESCRIPTION if (folder / n).is_file())]
        for path in [*wanted, *([found.index] if found.index is not None else [])]:
            os.symlink(path.absolute(), links / path.name)
        yield links


def _said(error: BaseException, links: Path) -> str:
    lines = str(error).strip().splitlines() or [""]
    # A check of a whole config says what is wrong in its last line.
    line = lines[-1] if isinstance(error, StrictDataclassError) else lines[0]
    return f"{type(error).__name__}: {line.strip()}".replace(f"{links}/", "").replace(
        str(links), "the folder"
    )


def _require_whole(
    name: str | Path,
    missing: Collection[str],
    mismatched: Collection[tuple[str, Sequence[int], Sequence[int]]],
) -> None:
    """``mismatched`` are (weight, shape in the file, shape of the config)."""
    odd = [
        f"'{weight}' is {tuple(stored)}, the config says {tuple(expected)}"
        for weight, stored, expected in sorted(mismatched)
    ] or [f"no weights for '{weight}'" for weight in sorted(missing)]
    if odd:
        raise UserError(f"{name}: {odd[0]}{_more(odd)}", "download or save it again, whole")


def _require_all_used(
    name: str | Path, unexpected: Collection[str], config: PreTrainedConfig
) -> None:
    odd = sorted(unexpected)
    if odd:
        raise UserError(
            f"{name}: the files hold '{odd[0]}'{_more(odd)}, which a {config.model_type} of its "
            f"{CONFIG} has not: they would be dropped",
            f"make {CONFIG} say what the files hold (its layers, its biases)",
        )


def _more(odd: Sequence[str]) -> str:
    return f" and {len(odd) - 1} more" if len(odd) > 1 else ""


def _untie(model: PreTrainedModel) -> None:
    """Let the config say what was loaded: transformers does not tie tensors that differ."""
    head = model.get_output_embeddings()
    if head is None or head.weight is model.get_input_embeddings().weight:
        return
    for config in (model.config, model.config.get_text_config()):
        if getattr(config, "tie_word_embeddings", False):
            config.tie_word_embeddings = False
