"""How weights come from files to where they are computed with: exact, one at a time, in parts."""

import datetime
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import deepspeed
import pytest
import torch
from deepspeed.runtime.zero.partition_parameters import Init
from mapped import in_memory, own
from one_rank import joined
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from checkpoints.tensors import WEIGHTS
from configs import Base, Train
from pretrain.engine.engine import Engine
from pretrain.model.model import Start, load_start

WORDS = 400
SIZES: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
HEADS: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 1}
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {**HEADS, "tie_word_embeddings": False},
    "qwen3": {**HEADS, "head_dim": 16, "tie_word_embeddings": True},
    "gpt_neox": {"num_attention_heads": 2},
    "gemma3_text": {**HEADS, "head_dim": 16, "sliding_window": 64, "pad_token_id": 0},
}
PATIENCE = datetime.timedelta(minutes=1)
IDS = torch.arange(48).view(2, 24)


@pytest.fixture(scope="module", autouse=True)
def one_rank() -> Iterator[None]:
    with joined():
        yield


def published(folder: Path, model_type: str, dtype: torch.dtype) -> Path:
    """A Hugging Face folder with weights of ``dtype``."""
    torch.manual_seed(0)
    keys = {**SIZES, **SHAPES[model_type]}
    config = AutoConfig.for_model(model_type, vocab_size=WORDS, eos_token_id=0, **keys)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).to(dtype).save_pretrained(folder)
    return folder


def start_of(folder: Path) -> Start:
    return load_start(Base(model=str(folder)), WORDS, 0, seed=0)


def engine_of(start: Start, zero: int, precision: str) -> Engine:
    """As a run sets it up."""
    weights = {name: p.detach() for name, p in start.model.named_parameters()}
    keys = {"zero": zero, "precision": precision, "weight_decay": 0.1}
    engine = Engine(start.model, Train.model_validate(keys), 1, 1, PATIENCE)
    engine.import_weights(weights)
    return engine


def loaded(folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize(
    ("zero", "precision"), [(0, "fp32"), (1, "bf16"), (2, "fp32"), (2, "bf16"), (3, "bf16")]
)
def test_masters_are_what_is_stored(
    zero: int, precision: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    """To the bit, whatever the type; computed with are the same, rounded once."""
    folder = published(tmp_path / "base", "llama", dtype)
    stored = {n: p.detach() for n, p in loaded(folder).named_parameters()}
    engine = engine_of(start_of(folder), zero, precision)
    masters = dict(engine.export_state(set(engine.names)))
    rounding = torch.bfloat16 if precision == "bf16" else torch.float32
    for name, parameter in engine.names.items():
        assert masters[WEIGHTS, name].equal(stored[name]), name
        with deepspeed.zero.GatheredParameters([parameter], enabled=zero == 3):
            assert parameter.dtype == rounding
            assert parameter.detach().equal(stored[name].to(rounding)), name


@pytest.mark.parametrize("zero", [0, 3])
def test_training_leaves_the_files_alone(zero: int, tmp_path: Path) -> None:
    folder = published(tmp_path / "base", "qwen3", torch.float32)
    before = hashlib.sha256((folder / "model.safetensors").read_bytes()).digest()
    engine = engine_of(start_of(folder), zero, "fp32")
    engine.backward(engine.forward(input_ids=IDS).square().mean())
    assert engine.step(0.1)
    changed = dict(engine.export_state(set(engine.names)))
    name = "model.layers.0.mlp.up_proj.weight"
    assert not changed[WEIGHTS, name].equal(loaded(folder).get_parameter(name))
    assert hashlib.sha256((folder / "model.safetensors").read_bytes()).digest() == before


def test_what_is_trained_is_in_no_file(tmp_path: Path) -> None:
    """A checkpoint that is removed while its run goes on would keep its place on the disk."""
    folder = published(tmp_path / "base", "llama", torch.float32)
    before = in_memory().keys()
    engine = engine_of(start_of(folder), 0, "fp32")
    weights = sum(p.numel() for p in engine.names.values())
    assert own(before) >= 12 * weights  # beside both moments


@pytest.mark.parametrize("model_type", SHAPES)
@pytest.mark.parametrize("zero", [0, 3])
def test_tables_are_computed_in_fp32(model_type: str, zero: int, tmp_path: Path) -> None:
    """Of weights in 16 bits, transformers would compute Gemma's scale of embeddings in 16 bits."""
    folder = published(tmp_path / "base", model_type, torch.bfloat16)
    start = start_of(folder)
    assert start.model.config.dtype == torch.float32
    engine = engine_of(start, zero, "fp32")
    engine.module.eval()
    with torch.no_grad():
        expected = loaded(folder).eval()(input_ids=IDS).logits
        assert torch.equal(engine.forward(input_ids=IDS), expected)


def test_no_rank_holds_the_model_of_zero_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until DeepSpeed takes over there is what is partitioned and the tensor that comes next, and
    DeepSpeed gets no tensor that it would move to the device as a whole."""
    folder = published(tmp_path / "base", "llama", torch.bfloat16)
    before = in_memory().keys()
    held: list[int] = []
    start = start_of(folder)
    sizes = [p.numel() for p in start.model.parameters()]
    plain, calls = Init._zero_init_param, iter(range(len(sizes)))

    def counted(self: Init, parameter: Any) -> None:
        if next(calls) % 8 == 0:  # looking takes a second
            held.append(own(before))
        plain(self, parameter)

    class Reached(Exception):
        pass

    def handed_over(model: PreTrainedModel, **_: Any) -> None:
        held.append(own(before))
        assert all(hasattr(p, "ds_id") and p.numel() == 0 for p in model.parameters())
        raise Reached

    monkeypatch.setattr(Init, "_zero_init_param", counted)
    monkeypatch.setattr(deepspeed, "initialize", handed_over)
    with pytest.raises(Reached):
        engine_of(start, 3, "bf16")
    assert len(held) == len(range(0, len(sizes), 8)) + 1
    assert next(calls, None) is None
    tables = sum(b.numel() * b.element_size() for b in start.model.buffers())
    assert max(held) <= 2 * (sum(sizes) + max(sizes)) + tables + 1024
    assert held[-1] >= 2 * sum(sizes)  # of one rank all is its part


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_start_is_a_view_of_its_files(dtype: torch.dtype, tmp_path: Path) -> None:
    folder = published(tmp_path / "base", "llama", dtype)
    before = in_memory().keys()
    start = start_of(folder)
    whole = sum(p.numel() * p.element_size() for p in start.model.parameters())
    assert own(before) < whole / 50
