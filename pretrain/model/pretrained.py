"""A model as others published it: a Hugging Face folder, whole or refused."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCausalLM, PreTrainedModel

from configs import UserError

_HALVES = {"BF16": torch.bfloat16, "F16": torch.float16}
"""As safetensors calls them."""


def pretrained_model(name: str, as_stored: bool = False) -> PreTrainedModel:
    """A Hugging Face folder, in fp32 whatever it is stored as.

    ``as_stored`` leaves weights that are all of one 16-bit type in it: they are then, as fp32 ones
    always are, views of the mapped files, which take no memory until they are written to.

    Raises UserError where it cannot be loaded as a causal LM, and where weights are missing or of
    another shape than the config says: transformers would draw them at random and go on.
    """
    try:
        # Any: its stubs do not know of the second value.
        pair: Any = AutoModelForCausalLM.from_pretrained(
            name,
            dtype=_stored_type(Path(name)) if as_stored else torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
        model, loaded = pair
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        first = str(error).splitlines()[0]
        raise UserError(
            f"base.model {name}: {first}", "check the name, revision or folder"
        ) from None
    _require_whole(name, loaded["missing_keys"], loaded["mismatched_keys"])
    return model


def _stored_type(folder: Path) -> torch.dtype:
    """The type in which weights are loaded without rounding. Not the config's, which may be
    another than that of the files."""
    found: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            found |= {file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
    return _HALVES.get(found.pop(), torch.float32) if len(found) == 1 else torch.float32


def _require_whole(
    name: str,
    missing: Collection[str],
    mismatched: Collection[tuple[str, Sequence[int], Sequence[int]]],
) -> None:
    """``mismatched`` are (weight, shape in the file, shape of the config)."""
    odd = [
        f"'{weight}' is {tuple(stored)}, the config says {tuple(expected)}"
        for weight, stored, expected in sorted(mismatched)
    ] or [f"no weights for '{weight}'" for weight in sorted(missing)]
    if odd:
        more = f" and {len(odd) - 1} more" if len(odd) > 1 else ""
        raise UserError(f"base.model {name}: {odd[0]}{more}", "download or save it again, whole")
