"""Models of the hub as bases: buffers, vision parts, whole weights, stop tokens, typos."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from one_rank import engines_made, joined, rows_of, train_here
from safetensors.torch import load_file, save_file
from tiny import tiny_recipe
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from alloy.models import hub
from alloy.runs.merging import average_last, merge_between, merge_residual, open_part
from checkpoints.export import LOGIT_TOLERANCE
from checkpoints.folder import chosen
from checkpoints.pretrained import pretrained_model
from checkpoints.tensors import BUFFERS, EXP_AVG, read_tensors
from configs import Base, UserError
from mixing.tokens.tokenizer import load_tokenizer
from pretrain.engine.engine import Engine
from pretrain.job import JOB, read_job
from pretrain.model.architecture import architecture_config
from pretrain.model.model import load_start, model_from

STEP_TOKENS = 8 * 32
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
LLAMA = {**SIZES, "num_attention_heads": 2, "num_key_value_heads": 1, "eos_token_id": 0}
GEMMA4 = LLAMA | {"head_dim": 16, "global_head_dim": 16, "hidden_size_per_layer_input": 0}
GEMMA4 |= {"vocab_size_per_layer_input": 400, "sliding_window": 64, "pad_token_id": 0}
GEMMA4 |= {"layer_types": ["sliding_attention", "full_attention"]}
MLA = {"kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8}
ROUTED = {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1}
DEEPSEEK = {**LLAMA, **MLA, **ROUTED, "num_key_value_heads": 2, "v_head_dim": 8}
DEEPSEEK |= {"first_k_dense_replace": 1, "n_shared_experts": 1, "moe_intermediate_size": 16}


@pytest.fixture(scope="module", autouse=True)
def one_rank() -> Iterator[None]:
    with joined():
        yield


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> list[Engine]:
    return engines_made(monkeypatch)


def random_model(model_type: str, keys: dict[str, Any]) -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, vocab_size=400, bos_token_id=None, **keys)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def saved(model: PreTrainedModel, tiny: Path, folder: Path) -> Path:
    model.save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(tiny / "tokenizer.json"))
    tokenizer.eos_token = "<|endoftext|>"
    tokenizer.save_pretrained(folder)
    return folder


def recipe(tiny: Path, base: Path, **train: Any) -> dict[str, Any]:
    shape = {"zero": 2, "precision": "fp32", "ranks": 1, "micro_batch_rows": 4}
    kept = {"checkpoint_tokens": STEP_TOKENS, "keep_last": 9}
    lengths = {"tokens": 3 * STEP_TOKENS, "batch_tokens": STEP_TOKENS}
    schedule = {**lengths, "peak_lr": 0.01, "warmup": 0.34}
    sections = {"train": {**shape, **kept, **train}, "schedule": schedule}
    tree = tiny_recipe(tiny, base.parent, **sections, base={"model": str(base)})
    tree["data"]["tokenizer"] = None
    return {**tree, "name": "run"}


def logits(model: Any) -> torch.Tensor:
    ids = torch.randint(0, 400, (2, 24), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return (model(input_ids=ids) if isinstance(model, PreTrainedModel) else model(ids)).logits


def exported(folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def with_buffers(model_type: str) -> PreTrainedModel:
    """A model whose persistent buffers are not what a new one has."""
    model = random_model(model_type, GEMMA4 if model_type == "gemma4_text" else DEEPSEEK)
    kept = [(n, b) for n, b in model.named_buffers() if n in model.state_dict()]
    assert kept
    for _, buffer in kept:
        buffer.copy_(torch.linspace(0.5, 0.9, buffer.numel()).view_as(buffer))
    return model


@pytest.mark.parametrize(("model_type", "zero"), [("deepseek_v3", 2), ("gemma4_text", 3)])
def test_buffers_come_along(
    model_type: str,
    zero: int,
    tiny: Path,
    tmp_path: Path,
    live: list[Engine],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Export, checkpoint, average and a resumed run have the buffers of the base."""
    model = with_buffers(model_type)
    base = saved(model, tiny, tmp_path / "base")
    tree = recipe(tiny, base, zero=zero)
    run = train_here(tree, monkeypatch)
    live[0].module.eval()
    ids = torch.randint(0, 400, (2, 24), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = live[0].forward(input_ids=ids)
    assert float((logits(exported(run / "export")) - expected).abs().max()) <= LOGIT_TOLERANCE
    stored = dict(read_tensors(chosen(run), BUFFERS))
    held = dict(model.named_buffers())
    assert stored
    assert all(tensor.equal(held[name]) for name, tensor in stored.items())
    average_last(run, 2, tmp_path / "mean")
    averaged = dict(exported(tmp_path / "mean").named_buffers())
    assert all(tensor.equal(averaged[name]) for name, tensor in stored.items())
    shutil.rmtree(chosen(run).path)
    train_here(tree, monkeypatch)  # from step 2: the replayed loss must be the stored one
    assert chosen(run).step == 3


def test_buffers_under_bf16(
    tiny: Path, tmp_path: Path, live: list[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is stored is what the live model computes with, and a resumed run has it again."""
    base = saved(with_buffers("deepseek_v3"), tiny, tmp_path / "base")
    tree = recipe(tiny, base, precision="bf16")
    run = train_here(tree, monkeypatch)
    shutil.rmtree(chosen(run).path)
    train_here(tree, monkeypatch)
    stored = dict(read_tensors(chosen(run, 3), BUFFERS))
    for engine in live:
        buffers = dict(engine.module.named_buffers())
        assert all(tensor.equal(buffers[name].float()) for name, tensor in stored.items())


def test_checkpoints_of_before_buffers(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They open where the model has no buffers, and are refused by name where it has some."""
    for model_type, keys in (("llama", LLAMA), ("gemma4_text", GEMMA4)):
        base = saved(random_model(model_type, keys), tiny, tmp_path / model_type / "base")
        checkpoint = chosen(train_here(recipe(tiny, base), monkeypatch))
        for file in checkpoint.path.glob("tensors_*"):
            tensors = load_file(file)
            assert any(n.startswith(BUFFERS) for n in tensors) is (model_type != "llama")
            save_file({n: t for n, t in tensors.items() if not n.startswith(BUFFERS)}, file)
        if model_type == "llama":
            assert model_from(checkpoint)
        else:
            with pytest.raises(UserError, match=r"no buffers for 'model\.layers\.0\.layer_scalar'"):
                model_from(checkpoint)


def changed(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> str:
    """The folder's name, after a change of its weights."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


def test_bases_that_are_not_whole(tiny: Path, tmp_path: Path) -> None:
    """Weights that are missing or of another shape are refused by name, never drawn at random."""
    norm = "model.layers.1.input_layernorm.weight"

    def without(weights: dict[str, torch.Tensor]) -> None:
        for name in [n for n in weights if "layers.1." in n]:
            del weights[name]

    def shorter(weights: dict[str, torch.Tensor]) -> None:
        weights[norm] = weights[norm][:-1].contiguous()

    base = saved(random_model("llama", LLAMA), tiny, tmp_path / "base")
    for change, message in (
        (without, f"no weights for '{norm}' and 8 more"),
        (shorter, f"'{norm}' is (31,), the config says (32,)"),
    ):
        folder = shutil.copytree(base, tmp_path / change.__name__)
        with pytest.raises(UserError, match=re.escape(message)):
            pretrained_model(changed(folder, change))
    tied = saved(random_model("llama", LLAMA | {"tie_word_embeddings": True}), tiny, tmp_path / "t")
    assert "lm_head.weight" not in load_file(tied / "model.safetensors")
    assert pretrained_model(str(tied))


def test_bases_that_are_no_causal_models(tiny: Path, tmp_path: Path) -> None:
    base = saved(random_model("llama", LLAMA), tiny, tmp_path / "base")
    cut = shutil.copytree(base, tmp_path / "cut")
    weights = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(weights[:-100])
    (base / "config.json").write_text(json.dumps({"model_type": "t5"}))
    for folder, message in ((base, "'t5' is no causal language model"), (cut, "incomplete")):
        with pytest.raises(UserError, match=message):
            pretrained_model(str(folder))


VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
VISION |= {"num_attention_heads": 1, "image_size": 28, "patch_size": 14}
GEMMA3 = {"vision_config": VISION, "image_token_index": 399, "mm_tokens_per_image": 4}
GEMMA3 |= {"boi_token_index": 397, "eoi_token_index": 398}
GEMMA3["text_config"] = {**LLAMA, "head_dim": 16, "vocab_size": 400, "pad_token_id": 0}


@pytest.mark.parametrize(("zero", "precision"), [(0, "fp32"), (1, "bf16"), (3, "bf16")])
def test_vision_parts_stay_as_they_are(
    zero: int,
    precision: str,
    tiny: Path,
    tmp_path: Path,
    live: list[Engine],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are exported to the bit, take no decay and no moments, and are no trained weights."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("gemma3", **GEMMA3))
    vision = {n: p for n, p in model.named_parameters() if "vision" in n or "multi_modal" in n}
    assert vision
    text = next(n for n, _ in model.named_parameters() if n.endswith("up_proj.weight"))
    base = saved(model, tiny, tmp_path / "base")
    raw = {"zero_optimization": {"stage3_param_persistence_threshold": 0}} if zero == 3 else {}
    tree = recipe(tiny, base, zero=zero, precision=precision, weight_decay=0.1, deepspeed=raw)
    run = train_here(tree, monkeypatch)
    for found in (exported(run / "export"), model_from(chosen(run, 2))):
        weights = dict(found.named_parameters())
        assert all(weights[name].equal(p) for name, p in vision.items())
        assert not weights[text].equal(dict(model.named_parameters())[text])
    assert set(live[0].trained) == set(weights) - set(vision)
    assert set(dict(read_tensors(chosen(run), EXP_AVG))) == set(live[0].trained)
    shutil.rmtree(chosen(run).path)
    before = rows_of(run, "loss")
    train_here(tree, monkeypatch)
    assert rows_of(run, "loss") == before


@pytest.mark.parametrize("name", ["~/tokenizer.json", "beside/tokenizer.json", "beside"])
def test_tokenizers_are_found_from_anywhere(
    name: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the build takes as a tokenizer, the export does too, from whatever folder it runs in."""
    (tmp_path / "beside").mkdir()
    for folder in (tmp_path, tmp_path / "beside"):
        shutil.copy(tiny / "tokenizer.json", folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    tree = recipe(tiny, tmp_path / "base")
    tree["base"] = {"architecture": {"model_type": "llama", **LLAMA}}
    tree["data"]["tokenizer"] = name
    run = train_here(tree, monkeypatch)
    assert (run / "export" / "tokenizer.json").is_file()
    monkeypatch.chdir("/")
    average_last(run, 2, tmp_path / "mean")
    assert load_tokenizer(read_job(run / JOB).tokenizer).vocab_size > 300


def test_tokenizers_of_the_hub_are_resolved(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, Any]] = []

    def fetch(repo: str, *, revision: Any, allow_patterns: Any) -> str:
        assert "*.safetensors" not in allow_patterns
        asked.append((repo, revision))
        return str(tiny)

    monkeypatch.setattr(hub, "snapshot_download", fetch)
    monkeypatch.chdir(tmp_path)
    assert hub.local_tokenizer("some/model@main") == str(tiny)
    assert hub.local_tokenizer("some/model") == str(tiny)
    assert asked == [("some/model", "main"), ("some/model", None)]


CHAT = {"eos_token_id": [0, 7], "do_sample": True, "temperature": 0.6}
ODD = {"eos_token_id": 0, "temperature": 0.6}  # transformers warns, and will not save it
PLAIN = {"eos_token_id": 0}


def generating(tiny: Path, folder: Path, settings: dict[str, Any]) -> Path:
    model = random_model("llama", {**LLAMA, "eos_token_id": settings["eos_token_id"]})
    saved(model, tiny, folder)
    (folder / "generation_config.json").write_text(json.dumps(settings))
    return folder


def stops(folder: Path) -> tuple[dict[str, Any], Any]:
    """What an exported model's files say about generating, and the ids that end its text."""
    found = json.loads((folder / "generation_config.json").read_text())
    kept = {k: v for k, v in found.items() if k in CHAT}
    return kept, json.loads((folder / "config.json").read_text())["eos_token_id"]


@pytest.mark.parametrize("settings", [CHAT, ODD])
def test_exports_generate_as_their_base(
    settings: dict[str, Any], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = generating(tiny, tmp_path / "base", settings)
    run = train_here(recipe(tiny, base), monkeypatch)
    average_last(run, 2, tmp_path / "mean")
    for folder in (run / "export", tmp_path / "mean"):
        assert stops(folder) == (settings, settings["eos_token_id"])


def test_a_residual_stops_as_the_tuned_model_does(tiny: Path, tmp_path: Path) -> None:
    base, trained, tuned = (
        open_part(str(generating(tiny, tmp_path / name, settings)))
        for name, settings in (("base", PLAIN), ("trained", PLAIN), ("tuned", CHAT))
    )
    merge_between(base, trained, 0.5, tmp_path / "between")
    assert stops(tmp_path / "between") == (PLAIN, 0)
    merge_residual(base, trained, tuned, 1.0, tmp_path / "out")
    assert stops(tmp_path / "out") == (CHAT, [0, 7])


@pytest.mark.parametrize(
    ("model_type", "keys", "message"),
    [
        ("llama", {**LLAMA, "hiden_size": 32}, "'hiden_size'; nearest: hidden_size"),
        ("gpt2", {"n_head": 2, "num_hiden_layers": 2}, "nearest: num_hidden_layers"),
        ("llama", {**LLAMA, "zzz": 1}, "has no key 'zzz'"),
        ("gemma3", GEMMA3 | {"text_config": {"head_dimm": 16}}, "text_config.*nearest: head_dim"),
    ],
)
def test_unknown_keys_of_an_architecture(
    model_type: str, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        architecture_config({"model_type": model_type, **keys}, 400, 0)


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"model_type": "lama", **LLAMA}, "'lama' is no causal .*did you mean llama"),
        ({"model_type": "t5"}, "'t5' is no causal language model"),
        ({"model_type": "llama", **LLAMA, "num_attention_heads": 3}, "not a multiple of"),
        ({"model_type": "gpt2", "n_embd": 32, "n_head": 5, "n_layer": 1}, "must be divisible"),
        ({"model_type": "llama", **LLAMA, "hidden_act": "silo"}, "silo"),
    ],
)
def test_architectures_that_cannot_be_are_refused_in_a_line(
    keys: dict[str, Any], line: str
) -> None:
    with pytest.raises(UserError) as refused:
        load_start(Base(architecture=keys), 400, 0, 0)
    told = f"{refused.value.message}; {refused.value.hint}"
    assert re.search(line, told)
    assert "\n" not in told
    assert len(told) < 200


@pytest.mark.parametrize(
    ("model_type", "keys"),
    [
        ("llama", {**LLAMA, "rope_theta": 5e5, "torch_dtype": "bfloat16", "num_labels": 3}),
        ("llama", {**LLAMA, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
        ("gpt2", {"hidden_size": 32, "num_hidden_layers": 2, "n_head": 2}),
        ("gpt_neox", {**SIZES, "num_attention_heads": 2, "rotary_pct": 0.5}),
        ("gemma3", {**GEMMA3, "image_token_id": 399}),
        ("deepseek_v3", DEEPSEEK),
        ("gemma4_text", GEMMA4),
    ],
)
def test_other_names_of_known_keys(model_type: str, keys: dict[str, Any]) -> None:
    """Aliases, and keys of older configs that transformers itself translates."""
    config = architecture_config({"model_type": model_type, **keys}, 400, 0)
    assert config.get_text_config().vocab_size == 400


@pytest.mark.parametrize("model_type", ["llama", "gpt_neox", "qwen3", "mixtral", "gpt2", "mamba"])
def test_a_saved_config_is_known_to_its_class(model_type: str) -> None:
    saved_keys = json.loads(AutoConfig.for_model(model_type).to_json_string(use_diff=False))
    assert architecture_config(saved_keys, 400, 0).model_type == model_type
