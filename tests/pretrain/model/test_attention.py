"""Documents of a row stay apart under every implementation, and windows stay windows."""

import itertools
import json
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from one_rank import joined, rows_of, train_here
from reference import reference_losses
from tiny import tiny_recipe
from torch._dynamo import config as dynamo_config
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    masking_utils,
    modeling_flash_attention_utils,
)
from transformers.integrations import flex_attention as flex_integration

from configs import UserError
from mixing.blend.rows import Row
from pretrain.model.attention import (
    Ability,
    Attention,
    Machine,
    ability,
    choose,
    document_lengths,
    machine,
    use,
)
from pretrain.run_folder import read_metrics
from pretrain.training.batches import collate
from pretrain.training.objective import row_losses

CPU = torch.device("cpu")
SEQ_LEN, WORDS, WINDOW = 48, 61, 6
TOLERANCE = 2e-6
"""On logits in fp32, whose spread is about 0.1."""
STEPS = 6
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": WORDS,
}
HEADS = {"num_key_value_heads": 1, "head_dim": 16}
GEMMA = {**HEADS, "sliding_window": WINDOW, "pad_token_id": 0}
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": 1},
    "qwen3": HEADS,
    "olmo2": {"num_key_value_heads": 1, "pad_token_id": None},
    "gpt_neox": {"rotary_pct": 0.5},
    "mistral": {**HEADS, "sliding_window": WINDOW},
    "gemma2": {**GEMMA, "layer_types": ["sliding_attention", "full_attention"]},
    "gemma3_text": {**GEMMA, "layer_types": ["sliding_attention", "full_attention"]},
}
WINDOWED = ("mistral", "gemma2", "gemma3_text")


def tiny_model(model_type: str, **changed: Any) -> Any:
    torch.manual_seed(1)
    keys = {**SIZES, **SHAPES[model_type], **changed}
    config = AutoConfig.for_model(model_type, **keys)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():  # random weights attend to all alike; what is hidden must be felt
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.mul_(3)
    return model


def row_of(lengths: list[int], seed: int) -> Row:
    """A row of documents, the rest of it padding."""
    filled = sum(lengths)
    pieces = [*lengths, *([SEQ_LEN - filled] if filled < SEQ_LEN else [])]
    rng = np.random.default_rng(seed)
    segments = np.repeat(np.arange(len(pieces), dtype=np.int32), pieces)
    segments[filled:] = -1
    positions = np.concatenate([np.arange(n) for n in pieces])
    ids = rng.integers(1, WORDS, SEQ_LEN)
    return Row(ids, np.full(SEQ_LEN, -100), positions, segments, np.array(lengths), 0)


ROWS = [row_of([20, 1, 17, 10], 0), row_of([30, 9], 1), row_of([SEQ_LEN], 2)]


def logits(model: Any, rows: list[Row | None], lengths: bool = False) -> torch.Tensor:
    inputs = collate(rows, SEQ_LEN, True, 1, CPU, lengths).inputs
    with torch.no_grad():
        return model(**inputs, use_cache=False).logits


def largest_difference_from_documents_alone(model: Any, found: torch.Tensor) -> float:
    """Each document through the model by itself, by the model's own causal masks."""
    worst = 0.0
    for number, row in enumerate(ROWS):
        for segment in range(int(row.segments.max()) + 1):
            inside = torch.from_numpy(row.segments == segment)
            with torch.no_grad():
                alone = model(torch.from_numpy(row.input_ids)[inside][None], use_cache=False).logits
            worst = max(worst, float((found[number][inside] - alone[0]).abs().max()))
    return worst


@pytest.mark.parametrize("model_type", SHAPES)
def test_a_packed_document_has_the_logits_that_it_has_alone(model_type: str) -> None:
    """Documents longer than the window too, which the mask once let models look past."""
    model = tiny_model(model_type)
    found = logits(model, [*ROWS, None])
    assert largest_difference_from_documents_alone(model, found) <= TOLERANCE
    assert float(found.std()) > 0.02, "logits that do not depend on anything"


@pytest.mark.parametrize("model_type", WINDOWED)
def test_nothing_beyond_the_window_counts(model_type: str) -> None:
    """One layer, so that what it sees is the window and nothing further by way of others."""
    changed = {"layer_types": ["sliding_attention"]} if "gemma" in model_type else {}
    model = tiny_model(model_type, num_hidden_layers=1, **changed)
    row = ROWS[1]
    other = row.input_ids.copy()
    place = 3
    other[place] = other[place] % (WORDS - 1) + 1
    moved = logits(model, [row]) - logits(
        model, [Row(other, row.labels, row.position_ids, row.segments, row.document_lengths, 0)]
    )
    change = moved[0].abs().amax(dim=-1)
    assert float(change[:place].max()) == 0
    assert all(float(change[place + i]) > 1e-4 for i in range(WINDOW))
    assert float(change[place + WINDOW :].max()) == 0


def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    def blocks(*, _compile: bool, **keys: Any) -> Any:
        return create_block_mask(**keys)

    monkeypatch.setattr(masking_utils, "create_block_mask", blocks)
    monkeypatch.setattr(flex_integration, "WrappedFlexAttention", lambda _: lambda: flex_attention)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("model_type", ["llama", "gemma2"])
def test_flex_attention_is_the_block_mask(model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full attention alone, and beside windows and soft-capping."""
    uncompiled(monkeypatch)
    model = tiny_model(model_type)
    expected = logits(model, list(ROWS))
    model.set_attn_implementation("flex_attention")
    assert float((logits(model, list(ROWS)) - expected).abs().max()) <= TOLERANCE


def gradients(model: Any, attention: Attention) -> dict[str, torch.Tensor]:
    """Of the loss of all rows, from their arrays, in training mode."""
    use(model, attention)
    model.train()
    model.zero_grad()
    inputs = collate(list(ROWS), SEQ_LEN, True, 1, CPU).inputs
    labels = torch.from_numpy(np.stack([np.roll(row.input_ids, -1) for row in ROWS]))
    objective, _ = row_losses(model(**inputs, use_cache=False).logits, labels, z_loss=0)
    objective.sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.fixture
def flex_on_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Without the check by which flex attention refuses gradients on a CPU: torch's own dense way
    of computing it has a backward pass there, which compiled code lacks."""
    monkeypatch.setattr(torch.nn.attention.flex_attention, "_validate_device", lambda *_: None)
    with dynamo_config.patch(recompile_limit=8, fail_on_recompile_limit_hit=False):
        yield


@pytest.mark.usefixtures("flex_on_cpu")
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("model_type", ["llama", "gemma2", "gemma3_text"])
def test_flex_attention_has_the_gradients_of_masks(
    model_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packed documents, windows, soft-capping and heads that share keys, through the run's own
    batches; GPUs have compiled kernels of the same."""
    uncompiled(monkeypatch)
    model = tiny_model(model_type)
    masked = "sdpa" if model._supports_sdpa else "eager"
    expected = gradients(model, Attention(masked, masked, ""))
    found = gradients(model, Attention("flex", "flex_attention", ""))
    largest = max(float(g.abs().max()) for g in expected.values())
    worst = max(float((found[name] - g).abs().max()) for name, g in expected.items())
    assert worst <= TOLERANCE * largest
    assert all(float(g.abs().max()) > 0 for g in expected.values())


@pytest.mark.slow
@pytest.mark.usefixtures("flex_on_cpu")
@pytest.mark.filterwarnings("error:flex_attention called without torch.compile")
def test_flex_attention_is_compiled_for_every_pass_of_a_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a model with two kinds of layers, past the eight kinds of calls that torch would compile.
    By the backend that gives dynamo's guards and leaves the rest to torch's dense way."""
    compiled = partial(torch.compile, backend="eager")
    monkeypatch.setattr(flex_integration.torch, "compile", lambda f: compiled(f))
    monkeypatch.setattr(flex_integration.WrappedFlexAttention, "_is_flex_compiled", False)
    torch._dynamo.reset()
    model = tiny_model("gemma3_text")
    use(model, Attention("flex", "flex_attention", ""))
    with torch.no_grad():
        logits(model, ROWS[:2])
        for rows, width in ((1, 40), (3, 33), (9, 20), (30, 7), (60, 3)):
            model(input_ids=torch.ones(rows, width, dtype=torch.int64), use_cache=False)
        logits(model, ROWS[:1])
    gradients(model, Attention("flex", "flex_attention", ""))
    frames = torch._dynamo.utils.counters["frames"]
    assert frames["ok"] == frames["total"] > 2 * 8


@pytest.mark.slow
def test_compiled_flex_attention_is_the_block_mask() -> None:
    """The forward pass only: torch has no backward pass of it on a CPU."""
    model = tiny_model("gemma3_text")
    expected = logits(model, list(ROWS))
    model.set_attn_implementation("flex_attention")
    assert float((logits(model, list(ROWS)) - expected).abs().max()) <= TOLERANCE


def test_a_batch_goes_to_a_gpu_without_waiting_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the copies: each is from pinned memory, and not waited for."""
    pinned: list[torch.Tensor] = []

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        pinned.append(tensor)
        return tensor

    def to(tensor: torch.Tensor, device: torch.device, non_blocking: bool = False) -> torch.Tensor:
        assert (device.type, non_blocking) == ("cuda", True)
        assert any(tensor is other for other in pinned)
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    monkeypatch.setattr(torch.Tensor, "to", to)
    batch = collate([*ROWS, None], SEQ_LEN, True, 2, torch.device("cuda"), True)
    inputs = [t for t in batch.inputs.values() if isinstance(t, torch.Tensor)]
    assert {id(t) for t in (*inputs, batch.labels, batch.of_source)} == {id(t) for t in pinned}
    assert batch.of_source.tolist() == [[True, True, True, False], [False] * 4]
    assert batch.targets.tolist() == [sum(int((r.labels >= 0).sum()) for r in ROWS), 0]


CALLS: list[list[int]] = []


def varlen_in_plain_torch(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
) -> torch.Tensor:
    """flash-attn's contract, document by document: (tokens, heads, head_dim) in and out."""
    assert causal
    assert cu_seqlens_q.dtype == torch.int32
    assert cu_seqlens_q.equal(cu_seqlens_k)
    bounds = cu_seqlens_q.tolist()
    CALLS.append(bounds)
    assert max_seqlen_q == max_seqlen_k == max(np.diff(bounds))
    k, v = (t.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for t in (k, v))
    parts = []
    for begin, end in itertools.pairwise(bounds):
        scores = torch.einsum("qhd,khd->hqk", q[begin:end], k[begin:end])
        scores = scores * (q.shape[-1] ** -0.5 if softmax_scale is None else softmax_scale)
        if softcap:
            scores = softcap * torch.tanh(scores / softcap)
        back = torch.arange(end - begin)[:, None] - torch.arange(end - begin)
        hidden = (back < 0) | ((back > window_size[0]) if window_size[0] >= 0 else back < 0)
        weights = scores.masked_fill(hidden, float("-inf")).softmax(dim=-1)
        parts.append(torch.einsum("hqk,khd->qhd", weights, v[begin:end]))
    return torch.cat(parts)


@pytest.mark.parametrize("model_type", SHAPES)
def test_what_flash_attention_is_told(model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers' own code up to the kernel, which alone is exchanged."""
    kernels = (None, varlen_in_plain_torch, None, None, None)
    utilities = modeling_flash_attention_utils
    monkeypatch.setattr(utilities, "_lazy_imports", lambda *_, **__: kernels)
    monkeypatch.setattr(utilities, "_loaded_implementation", None)
    CALLS.clear()
    model = tiny_model(model_type)
    expected = logits(model, list(ROWS))
    model.config._attn_implementation_internal = "flash_attention_2"
    found = logits(model, list(ROWS), lengths=True)
    assert float((found - expected).abs().max()) <= TOLERANCE
    bounds = [0, 20, 21, 38, 48, 78, 87, 96, 144]
    assert [bounds] * 2 == CALLS, "documents and padding of three rows, in both layers"


@pytest.mark.parametrize("seed", range(20))
def test_lengths_of_documents(seed: int) -> None:
    rng = random.Random(seed)
    rows, expected = [], [0]
    for _ in range(rng.randint(1, 4)):
        cuts = sorted(rng.sample(range(1, SEQ_LEN), rng.randint(0, 6)))
        for begin, end in zip([0, *cuts], [*cuts, SEQ_LEN], strict=True):
            expected.append(expected[-1] + end - begin)
        pieces = np.diff([0, *cuts, SEQ_LEN])
        rows.append(np.concatenate([np.arange(n) for n in pieces]))
    bounds, longest = document_lengths(np.stack(rows))
    assert bounds.tolist() == expected
    assert (bounds.dtype, longest) == (np.int32, max(np.diff(expected)))


ALL = Ability("M", sdpa=True, flex=True, flash=True, dropout=0.0)
DROPS = Ability("M", sdpa=True, flex=True, flash=True, dropout=0.1)
GPU = Machine("cuda", "bf16", "flash_attention_2")


@pytest.mark.parametrize(
    ("asked", "documents", "where", "model", "expected"),
    [
        ("auto", True, GPU, ALL, "flash_attention_2"),
        ("auto", True, Machine("cuda", "bf16", None), ALL, "flex_attention"),
        ("auto", True, Machine("cuda", "fp32", "flash_attention_2"), ALL, "flex_attention"),
        ("auto", False, Machine("cuda", "bf16", None), ALL, "sdpa"),
        ("auto", True, Machine("cpu", "bf16", None), ALL, "sdpa"),
        ("auto", True, Machine("cpu", "fp32", None), Ability("M", False, True, True, 0), "eager"),
        ("auto", True, GPU, Ability("M", True, True, False, 0.1), "sdpa"),
        ("flex", True, GPU, ALL, "flex_attention"),
        ("sdpa", True, GPU, ALL, "sdpa"),
        ("eager", True, GPU, ALL, "eager"),
        ("flash", False, GPU, DROPS, "flash_attention_2"),
    ],
)
def test_choice(asked: str, documents: bool, where: Machine, model: Ability, expected: str) -> None:
    assert choose(asked, documents, where, model).implementation == expected


@pytest.mark.parametrize(
    ("asked", "where", "model", "part"),
    [
        ("flex", Machine("cpu", "fp32", None), ALL, "no backward pass"),
        ("flash", Machine("cpu", "bf16", "flash_attention_2"), ALL, "on the CPU there is none"),
        ("flash", Machine("cuda", "bf16", None), ALL, "flash-attn is not installed"),
        ("flash", Machine("cuda", "fp32", "flash_attention_2"), ALL, "bf16 only"),
        ("flash", GPU, Ability("M", True, True, False, 0), "M does not support it"),
        (
            "flash",
            Machine("cuda", "bf16", "flash_attention_3"),
            DROPS,
            "drops",
        ),
        ("flex", GPU, DROPS, "drops no attention"),
        ("sdpa", GPU, Ability("M", False, True, True, 0), "M does not support it"),
    ],
)
def test_what_cannot_be_had_is_refused(
    asked: str, where: Machine, model: Ability, part: str
) -> None:
    with pytest.raises(UserError, match=part) as refused:
        choose(asked, True, where, model)
    assert "eager" in (refused.value.hint or "")


def test_what_models_say_of_themselves() -> None:
    assert ability(tiny_model("gemma2")) == Ability("Gemma2ForCausalLM", False, True, True, 0.0)
    assert ability(tiny_model("llama", attention_dropout=0.2)).dropout == 0.2
    assert machine(CPU, "fp32") == Machine("cpu", "fp32", None)


@pytest.fixture(scope="module")
def one_rank() -> Iterator[None]:
    with joined():
        yield


def recipe(tiny: Path, home: Path, name: str, architecture: Any, **train: Any) -> dict[str, Any]:
    keys = {"zero": 2, "precision": "fp32", "ranks": 1, "micro_batch_rows": 2, **train}
    tree = tiny_recipe(tiny, home, train=keys, base={"architecture": architecture})
    tree["schedule"]["tokens"] = STEPS * 8 * 32
    return {**tree, "name": name}


def architecture(model_type: str) -> dict[str, Any]:
    sizes = {k: v for k, v in SIZES.items() if k != "vocab_size"}
    return {"model_type": model_type, **sizes, **SHAPES[model_type]}


@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize(("model_type", "used"), [("gemma2", "eager"), ("mistral", "sdpa")])
def test_windowed_models_train(
    model_type: str, used: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of 32 over a window of 6; the first loss is that of every document by itself."""
    tree = recipe(tiny, tmp_path, model_type, architecture(model_type))
    run = train_here(tree, monkeypatch)
    expected, *_ = reference_losses(run)
    assert rows_of(run, "loss") == pytest.approx(expected, abs=1e-5)
    assert json.loads((run / "lineage.json").read_text())["attention"] == used
    assert "attn_implementation" not in (run / "export/config.json").read_text()


@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize(
    "architecture",
    [
        {"model_type": "mamba", "state_size": 4},
        {"model_type": "opt", "ffn_dim": 24, "num_attention_heads": 2, "word_embed_proj_dim": 16},
    ],
)
def test_models_that_look_across_documents_are_refused(
    architecture: dict[str, Any], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recurrent layers carry a state over the border, and old models' masks know no packed rows;
    without documents they may."""
    architecture = {**architecture, "hidden_size": 16, "num_hidden_layers": 1}
    with pytest.raises(UserError, match="looks across documents"):
        train_here(recipe(tiny, tmp_path, "across", architecture), monkeypatch)
    tree = recipe(tiny, tmp_path, "without", architecture)
    tree["data"]["document_mask"] = False
    assert len(read_metrics(train_here(tree, monkeypatch) / "metrics.jsonl")) == STEPS


@pytest.mark.usefixtures("one_rank")
def test_asked_attention_is_used_or_refused(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = {}
    for asked in ("auto", "eager"):
        tree = recipe(tiny, tmp_path, asked, architecture("llama"), attention=asked)
        run = train_here(tree, monkeypatch)
        losses[json.loads((run / "lineage.json").read_text())["attention"]] = rows_of(run, "loss")
    assert losses["sdpa"] == pytest.approx(losses["eager"], abs=1e-5)
    tree = recipe(tiny, tmp_path, "flex", architecture("llama"), attention="flex")
    with pytest.raises(UserError, match="flex: on the CPU it has no backward"):
        train_here(tree, monkeypatch)


def test_an_implementation_that_is_not_taken_is_said() -> None:
    model = tiny_model("llama")
    chosen = choose("sdpa", True, Machine("cpu", "fp32", None), ALL)
    model.set_attn_implementation = lambda _: None
    model.config._attn_implementation_internal = "eager"
    with pytest.raises(UserError, match="LlamaForCausalLM computes with eager"):
        use(model, chosen)
