"""The config of a model with random weights, from what a recipe says; no key is passed over.

transformers' config classes take any key: one that none of them knows becomes an attribute that
nothing reads.
"""

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from configs import UserError

_SECTION = "base.architecture"


def architecture_config(
    architecture: Mapping[str, Any], vocab_size: int, eos_id: int
) -> PretrainedConfig:
    """``architecture`` is model_type and keys of its config class, under any name that the class
    takes. Raises UserError for what it does not take, naming the nearest key or model_type."""
    _require_causal(architecture.get("model_type"))
    implied = {"vocab_size": vocab_size, "eos_token_id": eos_id, "bos_token_id": None}
    keys: dict[str, Any] = implied | dict(architecture)
    try:
        config = AutoConfig.for_model(**keys)
    except (ValueError, TypeError, StrictDataclassError) as error:
        raise refused(error) from None
    _require_known(config, architecture, _SECTION)
    return config


def refused(error: Exception) -> UserError:
    """What transformers says against the keys; of a check of a whole config, the last line."""
    said = str(error).strip().splitlines()[-1].strip()
    return UserError(f"{_SECTION}: {said}", "see transformers' page of this model_type")


def _require_causal(model_type: object) -> None:
    known = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if model_type in known:
        return
    near = get_close_matches(str(model_type), known, 1)
    raise UserError(
        f"{_SECTION}.model_type '{model_type}' is no causal language model of transformers",
        f"did you mean {near[0]}?" if near else f"set one, such as {next(iter(known))} or llama",
    )


def _require_known(config: PretrainedConfig, keys: Mapping[str, Any], section: str) -> None:
    own = {f.name for f in fields(config)} | set(config.attribute_map)
    for key, value in keys.items():
        part = getattr(config, key, None)
        if isinstance(part, PretrainedConfig) and isinstance(value, Mapping):
            _require_known(part, value, f"{section}.{key}")
    # What older configs call otherwise is translated and leaves no attribute of its name; a leading
    # underscore is transformers' own, as a saved config has it.
    strange = [
        key
        for key in keys
        if key in vars(config)
        and key not in own
        and not hasattr(type(config), key)
        and not key.startswith("_")
    ]
    if not strange:
        return
    # Some classes compute attributes that are no fields, and take them as keys too.
    computed = vars(type(config)(**{k: v for k, v in keys.items() if k in own}))
    for key in (k for k in strange if k not in computed):
        near = get_close_matches(key, own, 1)
        raise UserError(
            f"{section}: {type(config).__name__} has no key '{key}'"
            + (f"; nearest: {near[0]}" if near else ""),
            f"set {near[0]}, or leave it out" if near else "leave it out",
        )
