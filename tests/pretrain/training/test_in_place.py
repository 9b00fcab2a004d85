"""Measuring the live model, and what a run shows while it goes."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from one_rank import joined, rows_of, train_here
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import tiny_recipe, write_recipe
from transformers import AutoModelForCausalLM

from alloy.planning.planning import plan_recipe
from alloy.runs.evaluation import eval_documents
from checkpoints.folder import chosen, steps
from checkpoints.tensors import WEIGHTS, read_tensors
from configs import UserError
from configs.load import parse_recipe
from evals.scoring.bpb import Window, score_documents
from pretrain.engine.engine import Engine
from pretrain.job import read_job
from pretrain.model.flops import flops_per_token, mfu, peak_flops
from pretrain.ranks import assembly
from pretrain.ranks.assembly import run_job
from pretrain.run_folder import read_metrics
from pretrain.training.heldout import Measurement, dealt

STEP_TOKENS = 8 * 32
TOLERANCE = 1e-6


@pytest.fixture(scope="module", autouse=True)
def one_rank() -> Iterator[None]:
    with joined():
        yield


def recipe(tiny: Path, home: Path, name: str, **train: Any) -> dict[str, Any]:
    keys = {"zero": 2, "precision": "fp32", "ranks": 1, "micro_batch_rows": 2, **train}
    tree = tiny_recipe(tiny, home, train=keys)
    tree["base"]["architecture"] |= {"attention_dropout": 0.1, "max_position_embeddings": 64}
    for source in tree["data"]["sources"]:
        source["heldout"] = 0.1
    return {**tree, "name": name, "evals": {"batch_tokens": 128}}


def weights(run: Path) -> dict[str, torch.Tensor]:
    return dict(read_tensors(chosen(run), WEIGHTS))


@pytest.mark.parametrize("seed", range(20))
def test_ranks_make_the_same_number_of_passes(seed: int) -> None:
    rng = random.Random(seed)
    ids = np.zeros(1, np.int64)
    batches = [[Window(i, ids, ids)] for i in range(rng.randint(0, 30))]
    ranks = rng.randint(1, 7)
    parts = [list(dealt(batches, rank, ranks)) for rank in range(ranks)]
    assert len({len(part) for part in parts}) == 1
    counted = [batch[0].document for part in parts for batch, counts in part if counts]
    assert sorted(counted) == list(range(len(batches)))


def test_nothing_to_measure_is_refused(tiny: Path, tmp_path: Path, monkeypatch: Any) -> None:
    tree = recipe(tiny, tmp_path, "run", eval_tokens=STEP_TOKENS)
    trained = [s for s in tree["data"]["sources"] if s["role"] != "retention"]
    tree["data"]["sources"] = [{**source, "heldout": 0.0} for source in trained]
    with pytest.raises(UserError, match=r"eval_tokens: no source has held-out"):
        train_here(tree, monkeypatch)


@pytest.mark.parametrize("zero", [0, 2, 3])
def test_measuring_leaves_no_trace(
    zero: int, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random states, modes and gradients as if nothing had happened, with dropout at work."""
    plain = train_here(recipe(tiny, tmp_path, "plain", zero=zero), monkeypatch)
    seen = train_here(
        recipe(tiny, tmp_path, "seen", zero=zero, eval_tokens=STEP_TOKENS), monkeypatch
    )
    assert rows_of(seen, "loss") == rows_of(plain, "loss")
    for name, tensor in weights(seen).items():
        assert tensor.equal(weights(plain)[name]), name
    assert [row["step"] for row in read_metrics(seen / "heldout.jsonl")] == list(range(13))


@pytest.mark.parametrize("zero", [0, 3])
@pytest.mark.parametrize("of", ["measurement", "replayed batch"])
def test_the_live_model_is_handed_back_as_it_was(
    of: str, zero: int, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a forward pass draws, and whichever parts of a model are in evaluation mode."""
    passes: list[tuple[bool, bool]] = []
    owner, name = {
        "measurement": (Measurement, "measure"),
        "replayed batch": (assembly, "replayed"),
    }[of]
    guarded, forward = getattr(owner, name), Engine.forward

    def watched(*arguments: Any) -> Any:
        engine = next(a for a in arguments if isinstance(a, Engine))
        next(engine.module.children()).eval()
        before = random_states(), modes(engine)
        with monkeypatch.context() as patch:
            patch.setattr(Engine, "forward", drawing)
            found = guarded(*arguments)
        assert (random_states(), modes(engine)) == before
        engine.module.train()
        return found

    def drawing(self: Engine, **inputs: Any) -> torch.Tensor:
        passes.append((self.module.training, torch.is_grad_enabled()))
        random.random(), np.random.rand(), torch.rand(1)
        return forward(self, **inputs)

    monkeypatch.setattr(owner, name, watched)
    every = {"eval_tokens": 4 * STEP_TOKENS, "checkpoint_tokens": 4 * STEP_TOKENS}
    train_here(recipe(tiny, tmp_path, "seen", zero=zero, **every), monkeypatch)
    assert set(passes) == {(False, False)}


def random_states() -> list[Any]:
    name, keys, *more = np.random.get_state()
    return [random.getstate(), name, keys.tolist(), more, torch.get_rng_state().tolist()]


def modes(engine: Engine) -> list[bool]:
    return [module.training for module in engine.module.modules()]


def test_figures_are_those_of_the_export(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = recipe(tiny, tmp_path, "seen", eval_tokens=6 * STEP_TOKENS)
    run = train_here(tree, monkeypatch)
    checked = parse_recipe(tree)
    documents = list(eval_documents(plan_recipe(checked), checked.evals.bpb_tokens))
    model = AutoModelForCausalLM.from_pretrained(run / "export", dtype=torch.float32)
    scored = score_documents(model, documents, 128, lambda _: None, seq_len=32, start_id=0)
    rows = read_metrics(run / "heldout.jsonl")
    assert [row["step"] for row in rows] == [0, 6, 12]
    assert {part["split"] for part in rows[-1]["sources"].values()} == {"heldout", "retention"}
    for name, part in rows[-1]["sources"].items():
        mine = [record for record in scored if record["source"] == name]
        expected = sum(r["bits"] for r in mine) / sum(r["bytes"] for r in mine)
        assert part["bpb"] == pytest.approx(expected, abs=TOLERANCE)
        assert part["documents"] == len(mine)


@pytest.mark.slow
def test_two_ranks_at_zero_3_measure_what_one_does(
    tiny: Path, tmp_path: Path, alloy: Callable[..., Any]
) -> None:
    """An odd number of batches, so that one rank repeats one: it must neither hang nor count."""
    found = []
    for ranks in (1, 2):
        keys = {"zero": 3, "ranks": ranks, "eval_tokens": 12 * STEP_TOKENS}
        keys["deepspeed"] = {"zero_optimization": {"stage3_max_live_parameters": 0}}
        tree = recipe(tiny, tmp_path, f"ranks{ranks}", **keys)
        tree["base"]["architecture"].pop("attention_dropout")  # a function of the rank
        done = alloy("train", write_recipe(tmp_path / f"{ranks}.yaml", tree))
        assert done.returncode == 0, done.stderr
        assert "bits per byte: own" in done.stderr
        found.append(read_metrics(tmp_path / f"ranks{ranks}/heldout.jsonl"))
    for one, two in zip(*found, strict=True):
        for name, part in one["sources"].items():
            assert two["sources"][name]["bpb"] == pytest.approx(part["bpb"], abs=1e-4)
    first, again = (rows[0]["sources"] for rows in found)
    assert all(again[n]["bpb"] == pytest.approx(p["bpb"], abs=TOLERANCE) for n, p in first.items())


def test_a_signal_ends_a_measurement_and_the_run_goes_on_later(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_here(recipe(tiny, tmp_path, "whole"), monkeypatch)
    tree = recipe(tiny, tmp_path, "cut", eval_tokens=4 * STEP_TOKENS)
    run = train_here(tree, monkeypatch)
    job = read_job(run / "job.json")
    for path in (run / "checkpoints").iterdir():
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    asked = 0
    inside = False
    original = Measurement.measure

    def measure(self: Measurement, *arguments: Any) -> Any:
        nonlocal inside, asked
        inside, asked = True, asked + 1
        found = original(self, *arguments)
        inside = False
        return found

    monkeypatch.setattr(Measurement, "measure", measure)
    complete = run_job(job, lambda: inside and asked == 3)
    assert not complete
    assert steps(run / "checkpoints") == [8]
    assert [row["step"] for row in read_metrics(run / "heldout.jsonl")] == [0, 4]
    asked = 1
    assert not run_job(job, lambda: inside and asked == 3)  # the last measurement of all
    assert [row["step"] for row in read_metrics(run / "heldout.jsonl")] == [0, 4, 8]
    assert steps(run / "checkpoints")[-1] == 12
    assert run_job(job, lambda: False)
    assert [row["step"] for row in read_metrics(run / "heldout.jsonl")] == [0, 4, 8, 12]
    assert rows_of(run, "loss") == rows_of(whole, "loss")
    asked = 0
    (run / "lineage.json").unlink()
    exported: list[bool] = []
    assert run_job(job, lambda: False, lambda: exported.append((run / "lineage.json").exists()))
    assert asked == 0  # what was measured is not measured again
    assert exported == [False]  # ranks part before the export, which the first one makes alone
    assert (run / "lineage.json").is_file()


def test_a_broken_budget_warns_and_never_stops(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = recipe(tiny, tmp_path, "seen", eval_tokens=6 * STEP_TOKENS, z_loss=0.0)
    tree["schedule"] |= {"peak_lr": 0.5, "warmup": 0.0}  # ruins the model
    run = train_here({**tree, "budget": {"retention_bpb": 0.01}}, monkeypatch)
    rows = read_metrics(run / "heldout.jsonl")
    rises = [row["sources"]["wiki"]["bpb"] - rows[0]["sources"]["wiki"]["bpb"] for row in rows]
    assert [row["warning"] is not None for row in rows] == [rise > 0.01 for rise in rises]
    assert rises[1] > 0.01
    assert f"risen by {rises[1]:.4f}" in rows[1]["warning"]
    assert "not annealed yet" in rows[1]["warning"]
    assert "warning: step 6: retention text has risen by" in capsys.readouterr().out
    assert len(rows_of(run, "loss")) == 12


@pytest.mark.parametrize(
    ("rise", "annealed", "parts"),
    [
        (0.02, True, ("risen by 0.0200", "the budget is 0.01")),
        (0.02, False, ("not annealed yet",)),
        (0.005, True, None),
    ],
)
def test_what_warns(rise: float, annealed: bool, parts: tuple[str, ...] | None) -> None:
    """Retention text alone counts, and an annealed end has no excuse."""
    plan = Measurement([], [], 0.01)
    first = {"web": {"split": "heldout", "bpb": 1.0}, "wiki": {"split": "retention", "bpb": 1.0}}
    now = {"web": {"split": "heldout", "bpb": 9.0}}
    now["wiki"] = {"split": "retention", "bpb": 1.0 + rise}
    told = plan.warning(first, now, annealed)
    assert (told is None) is (parts is None)
    assert all(part in (told or "") for part in parts or ())
    assert not annealed or "not annealed" not in (told or "")
    assert Measurement([], [], None).warning(first, now, annealed) is None


def test_shares_so_far_are_those_of_the_rows(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = recipe(tiny, tmp_path, "shares")
    run = train_here(tree, monkeypatch)
    reader = plan_recipe(parse_recipe(tree)).rows()
    for step, shares in enumerate(rows_of(run, "realised_shares"), 1):
        where = reader.order.locate_many(np.arange(step * reader.plan.batch_rows))
        held = reader.held(where)[1]
        roles = np.array([source.role for source in reader.plan.sources])[where.source]
        by_role = {role: int(held[roles == role].sum()) for role in ("domain", "general")}
        total = sum(by_role.values())
        assert shares == pytest.approx({role: n / total for role, n in by_role.items()})


def test_flops_by_hand() -> None:
    """Llama of 2 layers, hidden 32, MLP 48, 2 heads of 16, head over 401 words."""
    layer = 4 * 32 * 32 + 3 * 32 * 48
    norms = 5 * 32
    found = flops_per_token(2 * layer + norms + 401 * 32, 2, 32, 64)
    assert found == 6 * (2 * layer + norms + 401 * 32) + 12 * 2 * 32 * 64
    assert peak_flops(None, None) is None
    assert peak_flops("NVIDIA H200", None) == 989e12
    assert peak_flops("NVIDIA H100 PCIe", None) == 756e12
    assert peak_flops("a device of tomorrow", None) is None
    assert mfu(1e4, 6e9, 989e12, 2) == pytest.approx(1e4 * 6e9 / (2 * 989e12))
    assert mfu(1e4, 6e9, None, 2) is None


def test_mfu_in_a_run(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = train_here(recipe(tiny, tmp_path, "given", peak_tflops=0.5), monkeypatch)
    model = AutoModelForCausalLM.from_pretrained(run / "export")
    token = flops_per_token(model.num_parameters(), 2, 32, 32)  # tied: the table is the head
    for row in read_metrics(run / "metrics.jsonl"):
        assert row["mfu"] == pytest.approx(row["tokens_per_second"] * token / 0.5e12)


@pytest.mark.parametrize("option", ["activation_checkpointing", "offload_optimizer"])
@pytest.mark.parametrize("zero", [2, 3])
def test_memory_options_change_nothing(
    option: str, zero: int, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = train_here(recipe(tiny, tmp_path, "plain", zero=zero), monkeypatch)
    other = train_here(recipe(tiny, tmp_path, "other", zero=zero, **{option: True}), monkeypatch)
    assert rows_of(other, "loss") == pytest.approx(rows_of(plain, "loss"), abs=1e-6)
    found, expected = (dict(read_tensors(chosen(run), "exp_avg_sq")) for run in (other, plain))
    for name, tensor in found.items():
        assert torch.allclose(tensor, expected[name], atol=1e-7), name


@pytest.mark.slow
def test_compiled_losses_are_close(tiny: Path, tmp_path: Path, alloy: Callable[..., Any]) -> None:
    found = []
    for compiled in (False, True):
        tree = recipe(tiny, tmp_path, f"compiled{compiled}", compile=compiled)
        tree["base"]["architecture"].pop("attention_dropout")  # its random numbers differ
        done = alloy("train", write_recipe(tmp_path / f"{compiled}.yaml", tree))
        assert done.returncode == 0, done.stderr
        found.append(rows_of(tmp_path / f"compiled{compiled}", "loss"))
    assert found[1] == pytest.approx(found[0], abs=1e-4)
    assert found[1] != found[0], "the same to the bit: nothing was compiled"


def test_tensorboard_holds_the_metrics(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train_here(
        recipe(tiny, tmp_path, "seen", tensorboard=True, eval_tokens=STEP_TOKENS * 6), monkeypatch
    )
    board = EventAccumulator(str(run / "tensorboard")).Reload()
    losses = [event.value for event in board.Scalars("loss")]
    assert losses == pytest.approx(rows_of(run, "loss"), rel=1e-6)
    assert {"lr", "loss/own", "loss/web", "bpb/wiki"} <= set(board.Tags()["scalars"])
    assert json.loads((run / "lineage.json").read_text())["steps"] == 12
