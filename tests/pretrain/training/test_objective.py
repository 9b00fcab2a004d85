"""The loss against its closed form: z-loss, and cross-entropy computed in chunks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from one_rank import joined, rows_of, train_here
from tiny import tiny_recipe
from transformers import AutoConfig, AutoModelForCausalLM

from checkpoints.folder import chosen
from checkpoints.tensors import EXP_AVG, WEIGHTS, read_tensors
from configs import UserError
from configs.load import parse_recipe
from pretrain.engine.engine import Engine
from pretrain.ranks import prepare
from pretrain.training.objective import Objective, chunked_head, require_plain_logits, row_losses

ROWS, SEQ_LEN, WORDS = 2, 9, 23
GRADIENT_TOLERANCE = 1e-6
"""Between float32 and its closed form in float64, and between whole and chunked."""


@pytest.fixture(scope="module", autouse=True)
def one_rank() -> Iterator[None]:
    with joined():
        yield


def batch(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, WORDS, (ROWS, SEQ_LEN), generator=draw)
    labels = torch.randint(0, WORDS, (ROWS, SEQ_LEN), generator=draw)
    labels[torch.rand(labels.shape, generator=draw) < 0.4] = -100
    return ids, labels


@pytest.mark.parametrize("z_loss", [0.0, 1e-4, 0.3])
@pytest.mark.parametrize("seed", range(5))
def test_z_loss_by_its_closed_form(seed: int, z_loss: float) -> None:
    """Loss and gradient in float64: softmax (1 + 2 z log Z) - one-hot, where there is a target."""
    _, labels = batch(seed)
    draw = torch.Generator().manual_seed(seed)
    logits = (3 * torch.randn(ROWS, SEQ_LEN, WORDS, generator=draw)).requires_grad_()
    objective, nll = row_losses(logits, labels, z_loss)
    objective.sum().backward()
    exact = logits.detach().double()
    log_z = exact.exp().sum(-1).log()
    there = (labels != -100).double()
    hot = torch.nn.functional.one_hot(labels.clamp(min=0), WORDS).double()
    plain = (log_z - (exact * hot).sum(-1)) * there
    assert torch.allclose(nll.double(), plain.sum(1), rtol=1e-6)
    expected = (plain + z_loss * log_z.square() * there).sum(1)
    assert torch.allclose(objective.detach().double(), expected, rtol=1e-6)
    share = (exact - log_z[..., None]).exp()
    slope = (share * (1 + 2 * z_loss * log_z)[..., None] - hot) * there[..., None]
    assert logits.grad is not None
    assert torch.allclose(logits.grad.double(), slope, atol=GRADIENT_TOLERANCE)


def tiny_model(model_type: str = "llama", **changed: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    config = AutoConfig.for_model(
        model_type, **sizes, num_attention_heads=2, vocab_size=WORDS, pad_token_id=0, **changed
    )
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def forward_of(model: Any) -> Any:
    return lambda **inputs: model(**inputs, use_cache=False).logits


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    ("z_loss", "positions", "fused"),
    [*((z, n, False) for z in (0.0, 0.01) for n in (1, 5, 100)), (0.0, 100, True)],
)
def test_chunks_change_neither_loss_nor_gradients(
    tied: bool, z_loss: float, positions: int, fused: bool
) -> None:
    ids, labels = batch(0)
    found = []
    for chunked in (False, True):
        model = tiny_model(tie_word_embeddings=tied)
        head = chunked_head(model, z_loss, positions * WORDS, fused) if chunked else None
        objective = Objective(z_loss, head)
        loss, nll = objective(forward_of(model), {"input_ids": ids}, labels)
        (loss * torch.tensor([1.0, 0.5])).sum().backward()
        gradients = {n: p.grad for n, p in model.named_parameters()}
        found.append((loss, nll, gradients, list(model.state_dict())))
    (loss, nll, gradients, names), (other, other_nll, found_gradients, found_names) = found
    assert names == found_names
    assert torch.allclose(other, loss, rtol=1e-6)
    assert torch.allclose(other_nll, nll, rtol=1e-6)
    for name, gradient in gradients.items():
        assert torch.allclose(found_gradients[name], gradient, atol=GRADIENT_TOLERANCE), name


def test_no_chunk_holds_all_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    plain = torch.nn.functional.cross_entropy

    def watched(logits: torch.Tensor, *arguments: Any, **keys: Any) -> torch.Tensor:
        sizes.append(logits.shape[0])
        return plain(logits, *arguments, **keys)

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", watched)
    model, (ids, labels) = tiny_model(), batch(1)
    objective = Objective(0.0, chunked_head(model, 0.0, 4 * WORDS))
    objective(forward_of(model), {"input_ids": ids}, labels)[0].sum().backward()
    assert sizes == [4, 4, 4, 4, 2, 2, 4, 4, 4, 4], "forward, and again from the last one"


def test_labels_do_not_outlive_their_pass() -> None:
    model, (ids, labels) = tiny_model(), batch(1)
    objective = Objective(0.0, chunked_head(model, 0.0))
    objective(forward_of(model), {"input_ids": ids}, labels)
    assert model(ids).logits.shape == (ROWS, SEQ_LEN, WORDS)

    def fails(**_: Any) -> torch.Tensor:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        objective(fails, {}, labels)
    assert objective.head is not None
    assert objective.head.labels is None


def test_heads_whose_logits_are_changed_afterwards_are_refused() -> None:
    capped = tiny_model("gemma2", num_key_value_heads=1, head_dim=8, final_logit_softcapping=1.0)
    with pytest.raises(UserError, match="changes its logits after the head"):
        require_plain_logits(forward_of(capped), capped, chunked_head(capped, 0.0))
    plain = tiny_model()
    require_plain_logits(forward_of(plain), plain, chunked_head(plain, 0.0))
    headless = tiny_model()
    headless.set_output_embeddings(torch.nn.Sequential())
    with pytest.raises(UserError, match="is Sequential, not a linear layer"):
        chunked_head(headless, 0.0)


BALANCING = 0.5
EXPERTS = {
    "model_type": "mixtral",
    "num_hidden_layers": 2,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "router_aux_loss_coef": BALANCING,
}
STEPS = f"schedule.tokens={6 * 8 * 32}"


def recipe(tiny: Path, home: Path, name: str, **train: Any) -> dict[str, Any]:
    keys = {"precision": "fp32", "ranks": 1, "micro_batch_rows": 2, "z_loss": 0.01, **train}
    raw = {"zero_optimization": {"stage3_param_persistence_threshold": 0}}
    keys["deepspeed"] = raw if train["zero"] == 3 else {}
    return {**tiny_recipe(tiny, home, train=keys), "name": name}


def test_runs_in_chunks(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole runs, with a tied head that ZeRO 3 gathers, activations recomputed around it."""

    def small_chunks(*of: Any, fused: bool) -> Any:
        return chunked_head(*of, chunk_logits=401 * 7, fused=fused)

    monkeypatch.setattr(prepare, "chunked_head", small_chunks)
    whole = train_here(recipe(tiny, tmp_path, "whole", zero=2), monkeypatch, STEPS)
    widths: list[int] = []
    forward = Engine.forward

    def seen(self: Engine, **inputs: Any) -> torch.Tensor:
        found = forward(self, **inputs)
        widths.append(found.numel() // max(1, inputs["input_ids"].numel()))
        return found

    monkeypatch.setattr(Engine, "forward", seen)
    monkeypatch.setattr(prepare, "require_plain_logits", lambda *_: None)
    monkeypatch.setattr(prepare, "require_documents_apart", lambda *_: None)
    for zero in (0, 2, 3):
        keys = {"zero": zero, "cross_entropy": "chunked", "activation_checkpointing": True}
        chunked = train_here(recipe(tiny, tmp_path, f"{zero}", **keys), monkeypatch, STEPS)
        assert rows_of(chunked, "loss") == pytest.approx(rows_of(whole, "loss"), abs=1e-6), zero
        for kind, tolerance in ((WEIGHTS, 1e-4), (EXP_AVG, 1e-6)):  # AdamW divides by small moments
            found = dict(read_tensors(chosen(chunked), kind))
            for name, tensor in read_tensors(chosen(whole), kind):
                assert torch.allclose(found[name], tensor, atol=tolerance), (zero, name)
    # Nowhere logits of all words: neither in training nor where a stored batch is run again.
    assert set(widths) == {2}  # cross-entropy and log-partition


def test_experts_are_balanced_as_the_model_itself_does(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first step's gradient of a whole batch, beside transformers' own loss with labels."""
    gradients: dict[str, torch.Tensor] = {}
    models: list[Any] = []
    batches: list[tuple[Any, torch.Tensor]] = []
    backward, call = Engine.backward, Objective.__call__

    def kept(self: Objective, forward: Any, inputs: Any, labels: torch.Tensor) -> Any:
        batches.append((inputs, labels))
        return call(self, forward, inputs, labels)

    def seen(self: Engine, loss_share: torch.Tensor) -> None:
        backward(self, loss_share)
        gradients.update({n: p.grad.clone() for n, p in self.names.items() if p.grad is not None})
        models.append(self.module)

    monkeypatch.setattr(Objective, "__call__", kept)
    monkeypatch.setattr(Engine, "backward", seen)
    tree = recipe(tiny, tmp_path, "run", zero=0, z_loss=0.0, micro_batch_rows=8)
    tree["data"]["document_mask"] = False
    tree["base"]["architecture"] |= EXPERTS
    tree["schedule"]["peak_lr"] = 1e-30  # the model stays what it was
    train_here(tree, monkeypatch, f"schedule.tokens={8 * 32}")
    inputs, labels = batches[0]
    gates = [name for name in gradients if name.endswith("gate.weight")]
    assert len(gates) == EXPERTS["num_hidden_layers"]
    for weight, same in ((BALANCING, True), (0.0, False)):
        model: Any = models[0]
        model.train()
        model.zero_grad()
        model.router_aux_loss_coef = weight
        told = {"labels": labels, "shift_labels": labels, "output_router_logits": True}
        model(**inputs, **told).loss.backward()
        own = dict(model.named_parameters())
        for name in gates:
            assert torch.allclose(gradients[name], own[name].grad, rtol=1e-4, atol=1e-7) == same


def test_a_fused_run_is_the_plain_one(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"zero": 2, "z_loss": 0.0}
    whole = train_here(recipe(tiny, tmp_path, "whole", **keys), monkeypatch, STEPS)
    tree = recipe(tiny, tmp_path, "fused", cross_entropy="fused", **keys)
    fused = train_here(tree, monkeypatch, STEPS)
    assert rows_of(fused, "loss") == pytest.approx(rows_of(whole, "loss"), abs=1e-6)


def test_a_torch_without_the_fused_loss_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first step, of a torch before 2.13."""
    monkeypatch.delattr(torch.nn, "LinearCrossEntropyOptions")
    monkeypatch.delattr(torch.nn.functional, "linear_cross_entropy")
    with pytest.raises(UserError, match=r"fused: torch .* has no linear_cross_entropy"):
        chunked_head(tiny_model(), z_loss=0.0, fused=True)
    chunked_head(tiny_model(), z_loss=0.0)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"compile": True, "cross_entropy": "chunked"}, r"train\.compile goes with"),
        ({"compile": True, "cross_entropy": "fused", "z_loss": 0}, r"train\.compile goes with"),
        ({"cross_entropy": "fused"}, r"train\.z_loss goes with"),
    ],
)
def test_what_does_not_go_together_is_refused(
    tiny: Path, tmp_path: Path, keys: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        parse_recipe(recipe(tiny, tmp_path, "x", zero=2, **keys))
