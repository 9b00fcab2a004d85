"""One guarded way to load weights: what a base's files say is what is loaded, or it is refused."""

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from places import ROOT
from rooms import PACKAGES, imports, modules, parsed
from safetensors.torch import load_file, save_file
from tiny import tiny_recipe, write_base, write_recipe
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from alloy.models import local_model
from alloy.planning import require_rows_fit
from alloy.planning.start_matrix import has_chat_template
from checkpoints import pretrained_model, weight_files
from checkpoints.base_files import INDEX, WEIGHTS_FILE
from checkpoints.model_types import causal_classes
from configs import Base, Data, UserError
from evals.scoring import load_folder
from pretrain.model import load_start

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
LLAMA = {**SIZES, "num_attention_heads": 2, "vocab_size": 400, "eos_token_id": 0}
Tensors = dict[str, torch.Tensor]
LOADS = re.compile(r"Model\w*\.from_pretrained|torch\.load\b")


def made(folder: Path, **keys: Any) -> Path:
    torch.manual_seed(0)
    config = AutoConfig.for_model("llama", **(LLAMA | keys))
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return made(tmp_path / "base")


def rewrite(folder: Path, change: Callable[[Tensors], Any]) -> None:
    weights = load_file(folder / WEIGHTS_FILE)
    change(weights)
    save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt"})


def configure(folder: Path, **keys: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | keys))


def shard(folder: Path) -> None:
    """Two shards and their index in place of one file."""
    weights = load_file(folder / WEIGHTS_FILE)
    (folder / WEIGHTS_FILE).unlink()
    listed = {}
    for number in (1, 2):
        name = f"model-0000{number}-of-00002.safetensors"
        part = dict(list(weights.items())[number - 1 :: 2])
        save_file(part, folder / name, metadata={"format": "pt"})
        listed |= dict.fromkeys(part, name)
    index = {"metadata": {"total_size": 0}, "weight_map": listed}
    (folder / INDEX).write_text(json.dumps(index))


def relist(folder: Path, change: Callable[[dict[str, str]], Any]) -> None:
    index = json.loads((folder / INDEX).read_text())
    change(index["weight_map"])
    (folder / INDEX).write_text(json.dumps(index))


def refused_everywhere(folder: Path, message: str) -> None:
    """The same line for training, evaluation and merging: they have one loader."""
    base = Base(model=str(folder))
    for verb in (
        lambda: load_start(base, 300, 0, 1),
        lambda: load_folder(folder, pretrained_model),
        lambda: pretrained_model(folder),
    ):
        with pytest.raises(UserError, match=re.escape(message)) as refused:
            verb()
        assert refused.value.hint
        assert "\n" not in refused.value.message


def test_weights_are_loaded_in_one_place() -> None:
    found = set()
    for package in PACKAGES:
        for path in modules(package):
            text = path.read_text(encoding="utf-8")
            if LOADS.search(text):
                found.add(path.relative_to(ROOT).as_posix())
            for module, name in imports(path):
                assert (module, name) != ("safetensors.torch", "load_file"), path
            assert parsed(path)
    # Of these one gives it in a hint.
    assert found == {"checkpoints/pretrained.py", "checkpoints/base_files.py"}


def test_missing_head_is_refused(base: Path) -> None:
    rewrite(base, lambda w: w.pop("lm_head.weight"))
    refused_everywhere(base, "no weights for 'lm_head.weight'")


def test_biases_that_the_config_has_not(base: Path) -> None:
    bias = "model.layers.0.self_attn.q_proj.bias"
    rewrite(base, lambda w: w.update({bias: torch.ones(32)}))
    refused_everywhere(base, f"the files hold '{bias}'")


def test_layers_that_the_config_does_not_count(base: Path) -> None:
    configure(base, num_hidden_layers=1)
    refused_everywhere(base, "the files hold 'model.layers.1.input_layernorm.weight' and 8 more")


@pytest.mark.parametrize("dtype", [torch.float32, None])
def test_two_tensors_are_not_tied(base: Path, dtype: torch.dtype | None) -> None:
    """The weights decide; training begins with both, and says so in the config it saves."""
    configure(base, tie_word_embeddings=True)
    stored = load_file(base / WEIGHTS_FILE)
    start = load_start(Base(model=str(base)), 300, 0, 1).model
    for model in (pretrained_model(base, dtype), start):
        weights = dict(model.named_parameters())
        assert weights["lm_head.weight"].equal(stored["lm_head.weight"])
        assert weights["model.embed_tokens.weight"].equal(stored["model.embed_tokens.weight"])
        assert model.config.tie_word_embeddings is False


def test_one_tensor_stored_twice_is_tied(base: Path) -> None:
    configure(base, tie_word_embeddings=True)
    rewrite(base, lambda w: w.update({"lm_head.weight": w["model.embed_tokens.weight"].clone()}))
    model = pretrained_model(base)
    assert model.config.tie_word_embeddings is True
    assert "lm_head.weight" not in dict(model.named_parameters())


def test_mixed_types_are_loaded_without_rounding(base: Path) -> None:
    norm = "model.norm.weight"
    rewrite(base, lambda w: w.update({n: t.bfloat16() for n, t in w.items() if n != norm}))
    stored = load_file(base / WEIGHTS_FILE)
    for name, weight in pretrained_model(base, None).named_parameters():
        assert weight.dtype == torch.float32
        assert weight.equal(stored[name].float())


def test_padded_embeddings(base: Path) -> None:
    assert load_start(Base(model=str(base)), 300, 0, 1).model.config.vocab_size == 400
    with pytest.raises(UserError, match=r"ids up to 400, the embedding of .* 400 rows"):
        load_start(Base(model=str(base)), 401, 0, 1)


def test_shards_and_their_index(base: Path) -> None:
    stored = load_file(base / WEIGHTS_FILE)
    shard(base)
    for name, weight in pretrained_model(base).named_parameters():
        assert weight.equal(stored[name])
    assert weight_files(base).numel == sum(t.numel() for t in stored.values())


SECOND = "model-00002-of-00002.safetensors"
ODD_FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing shard": (lambda f: (f / SECOND).unlink(), f"{SECOND} of {INDEX} missing"),
    "no index": (lambda f: (f / INDEX).unlink(), f"without {INDEX}"),
    "unlisted": (
        lambda f: relist(f, lambda m: m.pop("model.norm.weight")),
        f"holds 'model.norm.weight', {INDEX} does not say so",
    ),
    "listed elsewhere": (
        lambda f: relist(f, lambda m: m.update({"lm_head.bias": SECOND})),
        f"says that 'lm_head.bias' is in {SECOND}, it is not",
    ),
    "listed outside": (
        lambda f: relist(f, lambda m: m.update({"lm_head.weight": "../x.safetensors"})),
        "is in no file beside it",
    ),
    "two copies": (
        lambda f: shutil.copy(f / SECOND, f / WEIGHTS_FILE),
        f"two copies of the weights: {WEIGHTS_FILE} and the shards",
    ),
    "cut": (
        lambda f: (f / SECOND).write_bytes((f / SECOND).read_bytes()[:-10]),
        f"{SECOND}: incomplete",
    ),
    "no safetensors": (lambda f: (f / SECOND).write_bytes(b"\xff" * 99), f"{SECOND}: incomplete"),
}


@pytest.mark.parametrize("case", ODD_FILES)
def test_files_that_disagree(case: str, base: Path) -> None:
    shard(base)
    change, message = ODD_FILES[case]
    change(base)
    refused_everywhere(base, message)
    with pytest.raises(UserError, match=re.escape(message)):
        local_model(str(base), None, weights=False)


def test_other_copies_are_passed_over(base: Path) -> None:
    count = weight_files(base).numel
    shutil.copy(base / WEIGHTS_FILE, base / "consolidated.safetensors")
    (base / "pytorch_model.bin").write_bytes(b"not read")
    assert weight_files(base).numel == count
    assert pretrained_model(base)


def test_an_adapter_beside_full_weights_changes_nothing(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers loads one that it sees, where peft is installed; it sees none."""
    stored = load_file(base / WEIGHTS_FILE)
    adapter = {"peft_type": "LORA", "base_model_name_or_path": "some/other"}
    (base / "adapter_config.json").write_text(json.dumps(adapter))
    save_file({"x": torch.ones(1)}, base / "adapter_model.safetensors")
    asked: list[Path] = []
    whole = AutoModelForCausalLM.from_pretrained

    def seen(folder: Path, **options: Any) -> Any:
        asked.extend(folder.iterdir())
        return whole(folder, **options)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", seen)
    for name, weight in pretrained_model(base).named_parameters():
        assert weight.equal(stored[name])
    assert {path.name for path in asked} <= {"config.json", "generation_config.json", WEIGHTS_FILE}


def without_weights(folder: Path, *files: str) -> None:
    (folder / WEIGHTS_FILE).unlink()
    for name in files:
        (folder / name).write_text("{}")


def adapter_alone(folder: Path) -> None:
    (folder / "config.json").unlink()
    without_weights(folder, "adapter_config.json", "adapter_model.safetensors")


def gguf_alone(folder: Path) -> None:
    (folder / "config.json").unlink()
    without_weights(folder, "model-q4.gguf")


def fp8(folder: Path) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    rewrite(folder, lambda w: w.update({name: w[name].to(torch.float8_e4m3fn)}))


def quantised(**said: Any) -> Callable[[Path], Any]:
    return lambda folder: configure(folder, quantization_config=said)


REMOTE = {"AutoModelForCausalLM": "modeling_own.Own"}
UNTRAINABLE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "bitsandbytes": (quantised(load_in_4bit=True), "quantised (bitsandbytes)"),
    "gptq": (quantised(quant_method="gptq", bits=4), "quantised (gptq)"),
    "awq": (quantised(quant_method="awq"), "quantised (awq)"),
    "compressed": (quantised(quant_method="compressed-tensors"), "quantised (compressed-tensors)"),
    "fp8": (quantised(quant_method="fp8"), "quantised (fp8)"),
    "unknown": (lambda f: configure(f, quantization_config=[]), "quantised (quantization_config)"),
    "fp8 in the files alone": (fp8, "'model.layers.0.mlp.up_proj.weight' is F8_E4M3"),
    "gguf": (gguf_alone, "GGUF weights cannot be trained"),
    "gguf and config": (lambda f: without_weights(f, "m.gguf"), "GGUF weights cannot be trained"),
    "adapter": (adapter_alone, "an adapter without its model"),
    "adapter, config": (lambda f: without_weights(f, "adapter_config.json"), "an adapter without"),
    "pickled": (lambda f: without_weights(f, "pytorch_model.bin"), "are pickled"),
    "no weights": (without_weights, "no *.safetensors"),
    "unknown type": (lambda f: configure(f, model_type="lama"), "'lama' is no causal"),
    "encoder": (lambda f: configure(f, model_type="t5"), "'t5' is no causal language model"),
    "remote type": (lambda f: configure(f, model_type="own", auto_map=REMOTE), "(auto_map)"),
    "remote class": (
        lambda f: configure(f, architectures=["OwnForCausalLM"], auto_map=REMOTE),
        "OwnForCausalLM is code in its own folder",
    ),
    "config cut": (lambda f: (f / "config.json").write_text('{"model_type": "ll'), "not JSON"),
    "config a list": (lambda f: (f / "config.json").write_text("[]"), "not a JSON object"),
    "no type": (lambda f: (f / "config.json").write_text("{}"), "no model_type"),
    "no count": (lambda f: configure(f, vocab_size="many"), "vocab_size is 'many'"),
    "text": (lambda f: configure(f, text_config=[1]), "text_config is no object"),
    "generation": (lambda f: (f / "generation_config.json").write_text("{"), "not JSON"),
}


@pytest.mark.parametrize("case", UNTRAINABLE)
def test_what_cannot_be_trained(case: str, base: Path) -> None:
    """Refused as a recipe is planned, and by every loader."""
    change, message = UNTRAINABLE[case]
    change(base)
    with pytest.raises(UserError, match=re.escape(message)) as refused:
        local_model(str(base), None, weights=False)
    assert refused.value.hint
    refused_everywhere(base, message)


def test_plan_and_train_refuse_before_anything_is_built(
    tiny: Path, tmp_path: Path, alloy: Callable[..., Any]
) -> None:
    write_base(tmp_path / "base", vocab_size=400, quantization_config={"quant_method": "awq"})
    tree = tiny_recipe(tiny, tmp_path / "runs", base={"model": str(tmp_path / "base")})
    recipe = write_recipe(tmp_path / "recipe.yaml", tree)
    for verb in ("plan", "build", "train"):
        done = alloy(verb, recipe)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 2
        assert "quantised (awq)" in done.stderr
        assert "hint: " in done.stderr
    assert not (tmp_path / "runs/store").exists()


def test_a_native_class_with_code_beside_it_is_native(base: Path) -> None:
    """As Phi-3's: transformers has the class since."""
    configure(base, auto_map=REMOTE)
    assert pretrained_model(base)


def test_a_gguf_file_is_no_base(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    with pytest.raises(UserError, match="GGUF weights cannot be trained"):
        local_model(str(tmp_path / "m.gguf"), None, weights=False)


def test_the_table_is_that_of_transformers() -> None:
    assert {kind: names[0] for kind, names in causal_classes().items()} == {
        kind: names if isinstance(names, str) else names[0]
        for kind, names in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items()
    }


VALUES = [None, True, -1, 0, 3, 1e300, "", "x", [], [1, "a"], {}, {"x": 1}, 7.5, "float32"]
DESCRIPTIONS = ("config.json", "generation_config.json", "tokenizer_config.json")


def damaged(text: str, rng: random.Random) -> str:
    """One seeded change: a value, a key, a cut, a byte."""
    kind, tree = rng.randrange(5), json.loads(text)
    key = rng.choice(sorted(tree))
    if kind == 0:
        return text[: rng.randrange(len(text))]
    if kind == 1:
        at = rng.randrange(len(text))
        return text[:at] + chr(rng.randrange(1, 256)) + text[at + 1 :]
    if kind == 2:
        return json.dumps({k: v for k, v in tree.items() if k != key})
    return json.dumps(tree | {key: rng.choice(VALUES)})


@pytest.mark.parametrize("cases", [100, pytest.param(2000, marks=pytest.mark.slow)])
def test_damaged_descriptions(cases: int, base: Path) -> None:
    """One line or a model: never anything else that is raised."""
    (base / "tokenizer_config.json").write_text('{"eos_token": "x", "chat_template": "{{ x }}"}')
    whole = {name: (base / name).read_text() for name in DESCRIPTIONS}
    rng, refused = random.Random(5), list[str]()
    data = Data.model_construct(seq_len=32)
    for case in range(cases):
        name = DESCRIPTIONS[case % 3]
        (base / name).write_text(damaged(whole[name], rng))
        try:
            require_rows_fit(Base(model=str(base)), data)
            has_chat_template(base)
            load_start(Base(model=str(base)), 300, 0, 1)
        except UserError as error:
            refused.append(error.message)
        (base / name).write_text(whole[name])
    assert 0.2 * cases < len(refused) < cases
    assert not [message for message in refused if "\n" in message]
