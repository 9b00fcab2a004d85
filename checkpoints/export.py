"""A Hugging Face folder from a model, proved by loading it again and comparing logits."""

import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import (
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from checkpoints.folder import MANIFEST, share_as_folder, sync_folder, sync_tree
from checkpoints.pretrained import pretrained_model
from configs import CheckFailed, UserError

LOGIT_TOLERANCE = 1e-5
"""Largest difference in fp32 between the logits of a model and of its reloaded export."""
_PROBE_TOKENS = 16


def export_folder(model: PreTrainedModel, tokenizer: str, target: Path) -> None:
    """Write ``model`` (fp32) and its tokenizer to ``target``, replacing it as a whole.

    ``tokenizer`` is a tokenizer.json, a folder or a hub id. Raises CheckFailed where the reloaded
    logits differ by more than LOGIT_TOLERANCE or the files cannot be written, and UserError where
    ``target`` holds anything but an exported model; then ``target`` is left as it was.
    """
    require_replaceable(target)
    staging = target.with_name(target.name + ".incomplete")
    if staging.exists():
        shutil.rmtree(staging)
    loaded = _load_tokenizer(tokenizer, _eos_id(model.config))
    try:
        model.save_pretrained(staging)
        loaded.save_pretrained(staging)
        for file in staging.glob("*.safetensors"):
            share_as_folder(file)
        sync_tree(staging)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(staging, ignore_errors=True)
        raise CheckFailed(
            f"{target}: could not write: {error}", "make room, and run it again"
        ) from None
    difference = _logit_difference(model, staging)
    if not difference <= LOGIT_TOLERANCE:
        shutil.rmtree(staging)
        raise CheckFailed(f"{target}: reloaded logits differ by {difference:.3g}", "report this")
    if target.exists():
        shutil.rmtree(target)
    staging.rename(target)
    sync_folder(target.parent)


def require_replaceable(target: Path) -> None:
    """Raises UserError where writing a model to ``target`` would remove something else: a run, a
    checkpoint, a folder of other things."""
    if not target.exists():
        return
    inside = list(target.iterdir()) if target.is_dir() else [target]
    names = {entry.name for entry in inside}
    model = "config.json" in names and any(n.endswith(".safetensors") for n in names)
    if inside and (not model or MANIFEST in names or any(entry.is_dir() for entry in inside)):
        raise UserError(
            f"{target} holds something other than an exported model, which would be removed",
            "give a folder that is not there yet",
        )


def _eos_id(config: PreTrainedConfig) -> int | list[int] | None:
    """Of a model of several modalities, its own or that of its text part."""
    own = getattr(config, "eos_token_id", None)
    return config.get_text_config().eos_token_id if own is None else own


def _load_tokenizer(name: str, eos_id: int | list[int] | None) -> PreTrainedTokenizerFast:
    if not Path(name).is_file():
        return AutoTokenizer.from_pretrained(name)
    loaded = PreTrainedTokenizerFast(tokenizer_file=name)
    if isinstance(eos_id, int):
        loaded.eos_token = loaded.convert_ids_to_tokens(eos_id)
        loaded.pad_token = loaded.eos_token
    return loaded


def _logit_difference(model: PreTrainedModel, folder: Path) -> float:
    reloaded = pretrained_model(folder)
    probe = torch.arange(_PROBE_TOKENS).remainder(model.config.get_text_config().vocab_size)[None]
    model.eval()
    with torch.no_grad():
        return float((model(probe).logits - reloaded.eval()(probe).logits).abs().max())
