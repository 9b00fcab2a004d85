"""Scoring a model in the middle of its training, in place, under each ZeRO stage."""

import copy
import datetime
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from eval_helpers import silent, tiny_model, tiny_tokenizer, write_exam
from one_rank import joined

from checkpoints import pretrained_model
from configs import Train
from configs.evals import MmluTask
from evals.exam.exam_records import score_exam
from evals.exam.mmlu_items import load_exam
from evals.exam.mmlu_scorer import native_scorer
from evals.scoring.generate import answer_all
from evals.scoring.model_state import load_folder
from pretrain.engine.engine import Engine

IDS = torch.randint(1, 400, (2, 24), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", autouse=True)
def one_rank() -> Iterator[None]:
    with joined():
        yield


def loss_of(engine: Engine) -> torch.Tensor:
    logits = engine.forward(input_ids=IDS)
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), IDS[:, 1:].flatten())


@pytest.mark.parametrize("zero", [0, 1, 2])
def test_scores_between_two_steps_change_nothing(tmp_path, zero):
    exam = load_exam(MmluTask(path=str(write_exam(tmp_path, {"a": 6})), shots=2))
    tokenizer = tiny_tokenizer()
    runs = []
    for scored in (False, True):
        model = tiny_model("llama", attention_dropout=0.1).train()
        train = Train(zero=zero, precision="fp32")
        engine = Engine(model, train, 2, 2, datetime.timedelta(minutes=1))
        torch.manual_seed(3)
        losses = []
        for _ in range(3):
            for micro in range(2):  # scored between two micro batches: gradients are pending
                loss = loss_of(engine)
                losses.append(float(loss.detach()))
                engine.backward(loss / 2)
                if micro == 0:
                    engine.advance()
                    if scored:
                        assert_equal_to_a_copy(engine.module, tokenizer, exam)
            engine.step(1e-3)
        runs.append(losses)
        assert engine.module.training
    assert runs[0] == runs[1]
    assert runs[0][-1] < runs[0][0]


def test_a_folder_scores_as_the_live_model(tmp_path):
    exam = load_exam(MmluTask(path=str(write_exam(tmp_path / "exam", {"a": 6})), shots=2))
    live, tokenizer = tiny_model("qwen3", attention_dropout=0.1).train(), tiny_tokenizer()
    live.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    loaded, its_tokenizer = load_folder(tmp_path / "model", pretrained_model)
    live = live.to(device=loaded.device, dtype=loaded.dtype)
    for form in ("letter", "cloze"):
        ours, theirs = (
            [s.logprobs for s in score_exam(native_scorer(m, t, 512), exam, form, silent)]
            for m, t in ((live, tokenizer), (loaded, its_tokenizer))
        )
        np.testing.assert_array_equal(ours, theirs)
    assert live.training
    assert not loaded.training


def assert_equal_to_a_copy(live, tokenizer, exam):
    still = copy.deepcopy(live).eval()
    for form in ("letter", "cloze"):
        ours, theirs = (
            [s.logprobs for s in score_exam(native_scorer(m, tokenizer, 512), exam, form, silent)]
            for m in (live, still)
        )
        np.testing.assert_array_equal(ours, theirs)
    prompts = ["river stone", "seven lamps"]
    assert answer_all(live, tokenizer, prompts, 4, 512, silent) == answer_all(
        still, tokenizer, prompts, 4, 512, silent
    )
