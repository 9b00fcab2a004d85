"""What DeepSpeed is told and gives back: types of gradients, their norm, refused keys, devices."""

import datetime
import math
from collections.abc import Iterator
from typing import Any

import deepspeed
import pytest
import torch
from deepspeed.utils import safe_get_full_grad
from one_rank import joined
from transformers import AutoConfig, AutoModelForCausalLM

from configs import Train, UserError
from pretrain.engine import engine as engine_file
from pretrain.engine.deepspeed_settings import deepspeed_config, sums_gradients_in
from pretrain.engine.engine import Engine, join_ranks

SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}
WORDS = 400
PATIENCE = datetime.timedelta(minutes=1)
ONE_PASS_ERROR = 0.008
"""Relative error of bf16 gradients of a single pass, 0.006 as measured, with some room."""


@pytest.fixture(scope="module", autouse=True)
def one_rank() -> Iterator[None]:
    with joined():
        yield


def accumulated(micro_batches: int, precision: str, zero: int, **raw: Any) -> Engine:
    """An engine that holds the gradients of so many rows, one at a time."""
    torch.manual_seed(0)
    config = AutoConfig.for_model("llama", vocab_size=WORDS, **SHAPE)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    train = Train.model_validate({"zero": zero, "precision": precision, "deepspeed": raw})
    engine = Engine(model, train, 1, micro_batches, PATIENCE)
    rng = torch.Generator().manual_seed(1)
    for index in range(micro_batches):
        ids = torch.randint(0, WORDS, (1, 32), generator=rng)
        logits = engine.forward(input_ids=ids).float()
        nll = torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:])
        engine.backward(nll / micro_batches)
        if index + 1 < micro_batches:
            engine.advance()
    return engine


def gradient(engine: Engine) -> torch.Tensor:
    found = [safe_get_full_grad(p) for p in engine.names.values()]
    return torch.cat([g.float().flatten() for g in found if g is not None])


@pytest.fixture(scope="module")
def exact() -> torch.Tensor:
    return gradient(accumulated(128, "fp32", 2))


@pytest.mark.parametrize("zero", [2, 3])
def test_many_micro_batches_add_no_error_to_bf16(zero: int, exact: torch.Tensor) -> None:
    found = gradient(accumulated(128, "bf16", zero))
    assert float((found - exact).norm() / exact.norm()) < ONE_PASS_ERROR


def test_sums_in_bf16_would_be_seen(exact: torch.Tensor) -> None:
    """The figure that the test above relies on; ZeRO 1 has no other."""
    types = {"grad_accum_dtype": "bf16"}
    found = gradient(accumulated(128, "bf16", 2, data_types=types))
    assert float((found - exact).norm() / exact.norm()) > 1.3 * ONE_PASS_ERROR
    assert sums_gradients_in(Train(zero=1, precision="bf16")) == "bf16"
    assert sums_gradients_in(Train(zero=1, precision="fp32")) == "fp32"
    assert sums_gradients_in(Train(zero=2, deepspeed={"data_types": types})) == "bf16"


@pytest.mark.parametrize("zero", [0, 1, 2, 3])
def test_the_gradient_norm_is_that_of_the_whole_gradient(zero: int) -> None:
    engine = accumulated(4, "fp32", zero)
    expected = float(gradient(engine).norm())
    assert engine.step(0.001)
    assert engine.grad_norm() == pytest.approx(expected, rel=1e-5)
    assert math.isfinite(expected)


@pytest.mark.parametrize(
    "raw",
    [
        {"gradient_clipping": 2.0},
        {"tensor_parallel": {"autotp_size": 2}},
        {"sequence_parallel_size": 2},
        {"zero_optimization": {"stage": 1}},
        {"zero_optimization": {"mics_shard_size": 2}},
        {"zero_optimization": {"round_robin_gradients": True}},
        {"zero_optimization": {"zero_quantized_weights": True}},
        {"progressive_layer_drop": {"enabled": True}},
        {"zero_optimization": {"offload_optimizer": {"device": "nvme", "nvme_path": "/x"}}},
        {"torch_autocast": {"enabled": True}},
        {"zero_force_ds_cpu_optimizer": True},
    ],
)
def test_raw_keys_that_would_change_what_a_rank_holds_are_refused(raw: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"train\.deepspeed"):
        deepspeed_config(Train(deepspeed=raw), 1, 1)


@pytest.mark.parametrize(
    ("raw", "hint"),
    [
        ({"wall_clock_brakdown": True}, "did you mean wall_clock_breakdown?"),
        ({"zero_optimization": {"reduce_bucket_sise": 5}}, "did you mean reduce_bucket_size?"),
        ({"data_types": {"grad_accum_dtpe": "fp32"}}, "did you mean grad_accum_dtype?"),
        ({"data_types": {"grad_accum_dtype": "fp16"}}, "set it to fp32 or bf16"),
        ({"communication_data_type": "fp17"}, "set it to fp32 or bf16"),
        ({"zero_optimization": None}, "give its keys"),
        ({"zero_optimization": {"offload_param": "cpu"}}, "give its keys"),
    ],
)
def test_what_a_raw_key_should_have_been_is_said(raw: dict[str, Any], hint: str) -> None:
    """DeepSpeed would pass over a misspelt one."""
    with pytest.raises(UserError) as refused:
        deepspeed_config(Train(deepspeed=raw), 1, 1)
    assert refused.value.hint == hint


def test_a_value_that_deepspeed_does_not_take_is_told_in_a_line() -> None:
    raw = {"zero_optimization": {"reduce_bucket_size": -1}}
    with pytest.raises(UserError, match=r"reduce_bucket_size: Input should be greater than 0"):
        accumulated(1, "fp32", 2, **raw)


def test_ranks_add_gradients_up_in_fp32_unless_asked() -> None:
    assert deepspeed_config(Train(), 1, 1)["communication_data_type"] == "fp32"
    raw = {"communication_data_type": "bf16"}
    assert deepspeed_config(Train(deepspeed=raw), 1, 1)["communication_data_type"] == "bf16"


@pytest.mark.parametrize("zero", [0, 1, 2])
def test_steps_do_not_wait_for_the_device(zero: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """DeepSpeed's timers would make each pass wait for the one before, from the third step on."""
    waited: list[None] = []
    accelerator = type(deepspeed.get_accelerator())
    monkeypatch.setattr(accelerator, "synchronize", lambda *_: waited.append(None))
    engine = accumulated(2, "fp32", zero)
    for _ in range(4):
        engine.step(0.001)
        ids = torch.zeros(1, 32, dtype=torch.int64)
        for last in (False, True):
            engine.backward(engine.forward(input_ids=ids).float().logsumexp(-1).sum())
            if not last:
                engine.advance()
    assert not waited


def test_a_rank_takes_its_own_device_before_it_joins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in: collectives of NCCL go through the current device. A rank without one says so."""
    done: list[Any] = []

    class Accelerator:
        def device_name(self) -> str:
            return "cuda"

        def device_count(self) -> int:
            return 4

        def set_device(self, index: int) -> None:
            done.append(index)

        def communication_backend_name(self) -> str:
            return "nccl"

    monkeypatch.setattr(engine_file, "_accelerator", Accelerator)
    monkeypatch.setattr(
        engine_file.deepspeed, "init_distributed", lambda **_: done.append("joined")
    )
    monkeypatch.setenv("LOCAL_RANK", "3")
    join_ranks(PATIENCE)
    assert done == [3, "joined"]
    monkeypatch.setenv("LOCAL_RANK", "4")
    with pytest.raises(UserError, match=r"rank 4 of .* finds 4 GPUs") as refused:
        join_ranks(PATIENCE)
    assert refused.value.hint == "set train.ranks: 4"
    assert len(done) == 2


def test_a_cpu_has_no_name_beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a run on the CPU of a machine with GPUs: no MFU against a GPU that is not used."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    assert engine_file.device_name() is None
