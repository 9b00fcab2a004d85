"""The files of a Hugging Face folder, looked at before anything is loaded; imports no torch.

    folder ─▶ BaseFiles (config, index, headers of safetensors) ─▶ what is wrong | WeightFiles

What can be loaded is decided here, by the same rules for every verb: safetensors only, one copy,
whole, not quantised, of a class that transformers itself has.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from checkpoints.model_types import causal_classes
from configs import UserError

CONFIG = "config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_GENERATION = "generation_config.json"
_ADAPTER = "adapter_config.json"
_PICKLED = (".bin", ".pt", ".pth")
_FLOATS = {"F64", "F32", "F16", "BF16"}
_WHOLE_TYPES = {"I8", "U8", "I16", "U16", "I32", "U32"}
_COUNTS = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
_SAVE_AGAIN = "download or save it again, whole"

Tree = dict[str, Any]


@dataclass(frozen=True)
class Header:
    """One tensor of a safetensors file."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class WeightFiles:
    """The one copy of the weights that is loaded."""

    files: tuple[Path, ...]
    index: Path | None
    tensors: Mapping[str, Header]

    @property
    def numel(self) -> int:
        return sum(header.numel for header in self.tensors.values())

    @property
    def one_type(self) -> str | None:
        """The type of all tensors, as safetensors calls it; None where they are of several."""
        found = {header.dtype for header in self.tensors.values()}
        return found.pop() if len(found) == 1 else None


def require_model(folder: Path) -> Tree:
    """The config of a folder whose description is that of a model that can be trained; weights
    are not looked at. Raises UserError naming what stands against it."""
    names = _names(folder)
    if CONFIG not in names:
        raise _no_model(folder, names)
    config = read_object(folder / CONFIG)
    if _GENERATION in names:
        read_object(folder / _GENERATION)
    _require_config(folder / CONFIG, config)
    _require_unquantised(folder, config)
    _require_class(folder, config)
    return config


def weight_files(folder: Path) -> WeightFiles:
    """The weights of a folder, by their headers.

    Raises UserError where there are none, where they are pickled, incomplete or there twice, where
    the index says otherwise than the files, and where they are quantised.
    """
    names = _names(folder)
    shards = {n for n in names if n.startswith("model-") and n.endswith(".safetensors")}
    if INDEX in names:
        listed = _listed(folder / INDEX)
        wanted = sorted(set(listed.values()))
        if WEIGHTS_FILE in names and WEIGHTS_FILE not in wanted:
            raise _twice(folder, f"{WEIGHTS_FILE} and the shards of {INDEX}")
        missing = [name for name in wanted if name not in names]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise UserError(f"{folder}: {missing[0]}{more} of {INDEX} missing", _SAVE_AGAIN)
        held = {name: read_header(folder / name) for name in wanted}
        _require_listed(folder, listed, held)
        index: Path | None = folder / INDEX
    elif WEIGHTS_FILE in names:
        if shards:
            raise _twice(folder, f"{WEIGHTS_FILE} and {min(shards)}")
        held, index = {WEIGHTS_FILE: read_header(folder / WEIGHTS_FILE)}, None
    else:
        raise _no_weights(folder, names, shards)
    tensors = {name: h for headers in held.values() for name, h in headers.items()}
    if not tensors:
        raise UserError(f"{folder}: {min(held)} holds no tensors", _SAVE_AGAIN)
    _require_floats(folder, tensors)
    return WeightFiles(tuple(folder / name for name in sorted(held)), index, tensors)


def read_object(path: Path) -> Tree:
    """A JSON object that others wrote. Raises UserError for anything else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise UserError(f"{path}: not JSON: {error}", _SAVE_AGAIN) from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: a {type(found).__name__}, not a JSON object", _SAVE_AGAIN)
    return found


def text_part(config: Tree) -> Tree:
    """What a config says of its language model: of several modalities, the text part."""
    part = config.get("text_config")
    return part if isinstance(part, dict) else config


def read_header(path: Path) -> dict[str, Header]:
    """The tensors of a safetensors file. Raises UserError for a file that is cut or is none."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            tree = json.loads(file.read(length)) if length <= size - 8 else None
        found, end = dict[str, Header](), 0
        for name, entry in _entries(tree):
            found[name] = Header(str(entry["dtype"]), tuple(int(n) for n in entry["shape"]))
            end = max(end, int(entry["data_offsets"][1]))
    except (ValueError, KeyError, TypeError, IndexError):
        raise UserError(f"{path}: incomplete, or no safetensors file", _SAVE_AGAIN) from None
    if 8 + length + end != size:
        raise UserError(
            f"{path}: incomplete: {size:,} bytes, its header says {8 + length + end:,}", _SAVE_AGAIN
        )
    return found


def _entries(tree: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(tree, dict):
        raise TypeError("no header")
    return ((name, entry) for name, entry in tree.items() if name != "__metadata__")


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _no_model(folder: Path, names: set[str]) -> UserError:
    if _ADAPTER in names:
        return _adapter(folder)
    gguf = sorted(name for name in names if name.endswith(".gguf"))
    if gguf:
        return _gguf(folder / gguf[0])
    return UserError(
        f"{folder} is a folder without config.json, so no model",
        "give a Hugging Face folder, the folder of an Alloy run, or a hub id",
    )


def _no_weights(folder: Path, names: set[str], shards: set[str]) -> UserError:
    if shards:
        return UserError(f"{folder}: {min(shards)} without {INDEX}", _SAVE_AGAIN)
    if _ADAPTER in names:
        return _adapter(folder)
    for name in sorted(names):
        if name.endswith(".gguf"):
            return _gguf(folder / name)
        if name.endswith(_PICKLED) and name != "training_args.bin":
            return UserError(
                f"{folder}: its weights are pickled ({name}), which Alloy never opens",
                f"save them as safetensors: AutoModelForCausalLM.from_pretrained('{folder}')"
                ".save_pretrained(OUT)",
            )
    other = sorted(name for name in names if name.endswith(".safetensors"))
    near = f"; there is {other[0]}" if other else ""
    return UserError(
        f"{folder}: no *.safetensors: no {WEIGHTS_FILE} and no {INDEX}{near}", _SAVE_AGAIN
    )


def _adapter(folder: Path) -> UserError:
    return UserError(
        f"{folder} holds an adapter without its model",
        f"merge it first: PeftModel.from_pretrained(BASE, '{folder}').merge_and_unload()"
        ".save_pretrained(OUT)",
    )


def _gguf(path: Path) -> UserError:
    return UserError(
        f"{path}: GGUF weights cannot be trained",
        "give the Hugging Face folder or hub id that it was made from",
    )


def require_no_file(path: Path) -> None:
    """Raises UserError where a model's name is that of a file."""
    if path.suffix == ".gguf" and path.is_file():
        raise _gguf(path)
    if path.is_file():
        raise UserError(f"{path} is a file, not a model's folder", f"give {path.parent}")


def _twice(folder: Path, which: str) -> UserError:
    return UserError(
        f"{folder}: two copies of the weights: {which}", "move one of them out of the folder"
    )


def _require_config(path: Path, config: Tree) -> None:
    if not isinstance(config.get("model_type"), str):
        raise UserError(f"{path}: no model_type", _SAVE_AGAIN)
    if not isinstance(config.get("text_config", {}), dict):
        raise UserError(f"{path}: text_config is no object", _SAVE_AGAIN)
    text = text_part(config)
    positions = ("max_position_embeddings", "n_positions")
    for key in (*_COUNTS, *positions):
        value = text.get(key)
        # A list is per-layer, as some families have it.
        if value is not None and (isinstance(value, bool) or not _is_count(value)):
            raise UserError(f"{path}: {key} is {value!r}, not a count", _SAVE_AGAIN)


def _is_count(value: object) -> bool:
    if isinstance(value, list):
        return all(_is_count(v) for v in value) and bool(value)
    return isinstance(value, int) and value > 0


def _require_unquantised(folder: Path, config: Tree) -> None:
    for part in (config, text_part(config)):
        for key in ("quantization_config", "compression_config"):
            if (said := part.get(key)) is None:
                continue
            known = said if isinstance(said, dict) else {}
            bits = [k for k in ("load_in_4bit", "load_in_8bit") if known.get(k)]
            method = known.get("quant_method") or ("bitsandbytes" if bits else key)
            raise _quantised(folder, str(method))
    if (folder / "quantize_config.json").is_file():
        raise _quantised(folder, "quantize_config.json, as GPTQ writes it")


def _quantised(folder: Path, how: str) -> UserError:
    return UserError(
        f"{folder}: its weights are quantised ({how}) and cannot be trained",
        "give the unquantised model that it was made from",
    )


def _require_floats(folder: Path, tensors: Mapping[str, Header]) -> None:
    """Masks and position ids, as older models store them, are no weights."""
    for name, header in tensors.items():
        packed = header.dtype in _WHOLE_TYPES and header.numel > 1 and "weight" in name
        packed = packed or name.endswith((".qweight", ".qzeros", "_blocks", ".absmax"))
        if packed or (header.dtype.startswith(("F", "BF")) and header.dtype not in _FLOATS):
            raise _quantised(folder, f"'{name}' is {header.dtype}")


def _require_class(folder: Path, config: Tree) -> None:
    """transformers' own class must be what the folder was trained as: code in it is not run."""
    kind, known, remote = config["model_type"], causal_classes(), config.get("auto_map")
    if kind not in known:
        if remote:
            raise UserError(
                f"{folder}: model_type '{kind}' is code in its own folder (auto_map), which Alloy "
                "does not run",
                "give a model of an architecture that transformers has",
            )
        near = get_close_matches(kind, known, 1)
        raise UserError(
            f"{folder}: model_type '{kind}' is no causal language model of transformers",
            f"did you mean {near[0]}?" if near else "give a causal language model",
        )
    named = config.get("architectures")
    own = {n for n in named if isinstance(n, str)} if isinstance(named, list) else set[str]()
    causal = isinstance(remote, dict) and "AutoModelForCausalLM" in remote
    if causal and own and not own & set(known[kind]):
        raise UserError(
            f"{folder}: {min(own)} is code in its own folder (auto_map), which Alloy does not run",
            f"give a model of one of transformers' classes, such as {known[kind][0]}",
        )


def _listed(path: Path) -> dict[str, str]:
    """{tensor: file} of an index."""
    found = read_object(path).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise UserError(f"{path}: no weight_map", _SAVE_AGAIN)
    for name, file in found.items():
        if not isinstance(file, str) or Path(file).name != file:
            raise UserError(f"{path}: '{name}' is in no file beside it: {file!r}", _SAVE_AGAIN)
    return found


def _require_listed(
    folder: Path, listed: Mapping[str, str], held: Mapping[str, Mapping[str, Header]]
) -> None:
    for name, file in listed.items():
        if name not in held[file]:
            raise UserError(
                f"{folder}: {INDEX} says that '{name}' is in {file}, it is not", _SAVE_AGAIN
            )
    for file, headers in held.items():
        for name in headers:
            if listed.get(name) != file:
                raise UserError(
                    f"{folder}: {file} holds '{name}', {INDEX} does not say so", _SAVE_AGAIN
                )
