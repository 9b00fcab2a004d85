"""The exam through lm-eval: its own templates, its own numbers, and parity of the native scorer."""

import importlib.util
import random
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import lm_eval
import numpy as np
import pytest
import torch
import yaml
from eval_helpers import (
    ARCHITECTURES,
    real_tokenizer,
    require_data,
    silent,
    tiny_model,
    tiny_tokenizer,
    write_csv,
    write_exam,
)
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager

from configs.evals import MmluTask
from evals.exam.exam_records import NEAR_TIE, item_records, score_exam, summarize_exam
from evals.exam.exam_run import _answers, generated_fields
from evals.exam.mmlu_items import load_exam
from evals.exam.mmlu_prompts import cloze_prompt, letter_prompt
from evals.exam.mmlu_scorer import native_scorer
from evals.exam.subjects import MMLU_CATEGORIES
from evals.tasks.lm_eval_tasks import BatchedHFLM, _quiet, lm_eval_scorer, task_config

BUILT_IN = Path(lm_eval.__file__).parent / "tasks" / "mmlu"
CLEAR_GAP = 1e-4


def by_lm_eval(model, tokenizer, exam, form, batch_tokens, progress=silent):
    return score_exam(lm_eval_scorer(model, tokenizer, batch_tokens), exam, form, progress)


def by_alloy(model, tokenizer, exam, form, batch_tokens):
    return score_exam(native_scorer(model, tokenizer, batch_tokens), exam, form, silent)


def matrix(scores):
    return np.array([score.logprobs for score in scores])


def assert_parity(native, oracle, tolerance=1e-4):
    """Log-probabilities within the tolerance; the same choice wherever lm-eval's is clear."""
    ours, theirs = matrix(native), matrix(oracle)
    assert np.abs(ours - theirs).max() <= tolerance
    ordered = np.sort(theirs, axis=1)
    clear = ordered[:, -1] - ordered[:, -2] > CLEAR_GAP
    assert (~clear).mean() < 0.001 or (~clear).sum() <= 1
    assert (ours.argmax(1) == theirs.argmax(1))[clear].all()
    assert [(s.subject, s.index, s.truncated) for s in native] == [
        (s.subject, s.index, s.truncated) for s in oracle
    ]


@pytest.mark.parametrize(
    ("form", "template", "suffix"),
    [
        ("letter", "default/_default_template_yaml", ""),
        ("cloze", "continuation/_continuation_template_yaml", "_continuation"),
    ],
)
def test_task_configs_equal_the_built_in_ones(form, template, suffix):
    folder = (BUILT_IN / template).parent
    shared = yaml.safe_load((BUILT_IN / template).read_text())
    exam = load_exam(MmluTask(path=str(require_data("mmlu")), shots=5, limit_per_subject=1))
    for subject in exam.subjects:
        config = task_config(subject, form)
        own = yaml.safe_load((folder / f"mmlu_{subject.name}.yaml").read_text())
        built_in = shared | own
        for ours_only in ("custom_dataset", "num_fewshot"):
            config.pop(ours_only)
        for hub_only in ("dataset_path", "dataset_name", "tag", "include", "task_alias"):
            built_in.pop(hub_only, None)
        assert config == built_in
        assert config["task"].endswith(suffix)


def test_categories_are_lm_evals():
    spec = importlib.util.spec_from_file_location("generate", BUILT_IN / "_generate_configs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert dict(MMLU_CATEGORIES) == module.SUBJECTS


def test_what_lm_eval_prints_is_not_lost_and_goes_to_stderr(capsys):
    with _quiet():
        print("a warning | with a bar")
        print("Tokenizing: 100%|####| 3/3 [00:00<00:00, 9it/s]", file=sys.stderr)
        print("\r 50%|##  | 1/2 [00:00<00:00]\r100%|####| 2/2", file=sys.stderr)
    assert capsys.readouterr() == ("", "a warning | with a bar\n")


@pytest.fixture
def exam(tmp_path):
    write_exam(tmp_path, {"first_subject": 14, "second": 6})
    path = tmp_path / "test" / "second_test.csv"
    rows = [["  spaces around \n", " lead", "trail ", "caf\u00e9 \u4e2d", "7", "C"]]
    rows += [
        ["{{question}} {% if %}", "{{x}}", "'", '"', "\\n", "D"],
        ["7", "1", "2", "3", "4", "A"],
    ]
    write_csv(path, rows)
    return load_exam(MmluTask(path=str(tmp_path), shots=3))


@pytest.mark.parametrize("form", ["letter", "cloze"])
def test_prompts_are_lm_evals_string_for_string(exam, form):
    for subject in exam.subjects:
        config = task_config(subject, form)
        task = TaskManager(include_defaults=False).load([config])["tasks"][config["task"]]
        task.build_all_requests()
        rendered = [instance.args for instance in task.instances]
        expected = [
            (letter_prompt(subject, item), f" {letter}")
            if form == "letter"
            else (cloze_prompt(subject, item), f" {choice}")
            for item in subject.test
            for letter, choice in zip("ABCD", item.choices, strict=True)
        ]
        assert rendered == expected


@pytest.mark.parametrize("form", ["letter", "cloze"])
def test_records_give_lm_evals_own_metrics(exam, form):
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    scores = by_lm_eval(model, tokenizer, exam, form, 512)
    records = item_records(exam, scores, scores)
    for subject in exam.subjects:
        config = task_config(subject, form)
        names = ("acc", "acc_bytes") if form == "cloze" else ("acc",)
        config["metric_list"] = [
            {"metric": n, "aggregation": "mean", "higher_is_better": True} for n in names
        ]
        loaded = TaskManager(include_defaults=False).load([config])
        results: Any = evaluate(BatchedHFLM(model, tokenizer, 512), loaded, bootstrap_iters=0)
        theirs = results["results"][config["task"]]
        ours = [r for r in records if r["subject"] == subject.name]
        correct = "correct" if form == "letter" else "cloze_correct"
        assert np.mean([r[correct] for r in ours]) == pytest.approx(theirs["acc,none"])
        if form == "cloze":
            by_byte = np.mean([r["cloze_correct_norm"] for r in ours])
            assert by_byte == pytest.approx(theirs["acc_bytes,none"])


def test_written_letters_are_lm_evals(tmp_path):
    """Against the built-in mmlu_generative: prompts, stop, filters and exact match."""
    exam = load_exam(MmluTask(path=str(write_exam(tmp_path, {"a_b": 40})), shots=2))
    [subject] = exam.subjects
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    letters = [tokenizer.encode(f" {letter}")[0] for letter in "ABCD"]
    with torch.no_grad():  # letters and line breaks often win
        model.lm_head.weight[letters] *= 2.5
        model.lm_head.weight[tokenizer.encode("\n")[0]] *= 2.5
    answers = _answers(model, tokenizer, subject, 512)
    built_in = yaml.load(
        (BUILT_IN / "generative" / "_default_template_yaml").read_text(), yaml.SafeLoader
    )
    config = task_config(subject, "letter") | {
        key: built_in[key]
        for key in ("output_type", "generation_kwargs", "metric_list", "filter_list")
    }
    config |= {"doc_to_target": "{{['A', 'B', 'C', 'D'][answer]}}", "doc_to_choice": None}
    config["generation_kwargs"]["max_gen_toks"] = 8
    results: Any = evaluate(
        BatchedHFLM(model, tokenizer, 512),
        TaskManager(include_defaults=False).load([config]),
        bootstrap_iters=0,
        log_samples=True,
    )
    samples = sorted(results["samples"][config["task"]], key=lambda sample: sample["doc_id"])
    ours = [generated_fields(i, a) for i, a in zip(subject.test, answers, strict=True)]
    assert [a.text for a in answers] == [sample["resps"][0][0] for sample in samples]
    correct = [bool(sample["exact_match"]) for sample in samples]
    assert [fields["generated_correct"] for fields in ours] == correct
    assert 0 < sum(correct) < 40


def test_cloze_equals_plain_forward_passes(exam):
    model, tokenizer = tiny_model("qwen3"), tiny_tokenizer()
    scores = by_lm_eval(model, tokenizer, exam, "cloze", 256)
    subject = exam.subjects[0]
    context = "".join(
        f"Question: {s.question.strip()}\nAnswer: {s.choices[s.answer]}\n\n" for s in subject.shots
    )
    context = "The following are questions (with answers) about first subject.\n\n" + context
    for item, score in zip(subject.test, scores, strict=False):
        prompt = context + f"Question: {item.question.strip()}\nAnswer:"
        start = len(tokenizer.encode(prompt))
        for choice, logprob in zip(item.choices, score.logprobs, strict=True):
            ids = torch.tensor(tokenizer.encode(f"{prompt} {choice}"))
            with torch.no_grad():
                table = model(ids[None]).logits[0].log_softmax(-1)
            expected = table[range(start - 1, len(ids) - 1), ids[start:]].sum()
            assert logprob == pytest.approx(float(expected), abs=2e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("shots", [0, 3])
@pytest.mark.parametrize("form", ["letter", "cloze"])
def test_native_scorer_equals_lm_eval(tmp_path, architecture, shots, form):
    folder = write_exam(tmp_path, {"a": 25, "b_c": 15})
    exam = load_exam(MmluTask(path=str(folder), shots=shots))
    model, tokenizer = tiny_model(architecture), tiny_tokenizer()
    oracle = by_lm_eval(model, tokenizer, exam, form, 1024)
    assert_parity(by_alloy(model, tokenizer, exam, form, 300), oracle)
    assert matrix(oracle).std(axis=0).max() > 0.05


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_in_bf16_only_near_ties_may_turn(tmp_path, architecture):
    """Batches differ, so roundings do: choices may differ inside the band, which is counted."""
    exam = load_exam(MmluTask(path=str(write_exam(tmp_path, {"a": 60, "b": 60})), shots=2))
    model, tokenizer = tiny_model(architecture).bfloat16(), tiny_tokenizer()
    oracle = matrix(by_lm_eval(model, tokenizer, exam, "letter", 1024))
    scores = by_alloy(model, tokenizer, exam, "letter", 300)
    native = matrix(scores)
    ordered = np.sort(native, axis=1)
    ties = ordered[:, -1] - ordered[:, -2] < NEAR_TIE["bfloat16"]
    turned = native.argmax(1) != oracle.argmax(1)
    print(f"{architecture}: {ties.sum()} near ties of {len(ties)}, {turned.sum()} choices turned")
    assert not (turned & ~ties).any()
    assert ties.mean() < 0.5
    summary = summarize_exam(item_records(exam, scores, scores), 2, "bfloat16")
    assert summary["near_ties"] == ties.sum()


def test_truncated_prompts_are_counted_and_scored_alike(tmp_path):
    exam = load_exam(MmluTask(path=str(write_exam(tmp_path, {"a": 30})), shots=1))
    tokenizer = tiny_tokenizer()
    prompts = [letter_prompt(exam.subjects[0], item) for item in exam.items()]
    lengths = [len(tokenizer.encode(prompt)) for prompt in prompts]
    model = tiny_model("neox", context=int(np.median(lengths)))
    oracle = by_lm_eval(model, tokenizer, exam, "letter", 1024)
    assert [s.truncated for s in oracle] == [n > np.median(lengths) for n in lengths]
    assert 5 < sum(score.truncated for score in oracle) < 25
    assert_parity(by_alloy(model, tokenizer, exam, "letter", 300), oracle)
    records = item_records(exam, oracle, oracle)
    assert summarize_exam(records, 1)["truncated_prompts"] == sum(s.truncated for s in oracle)


def test_a_tokenizer_that_prepends_its_start_token(tmp_path):
    from tokenizers import processors

    exam = load_exam(MmluTask(path=str(write_exam(tmp_path, {"a": 8})), shots=2))
    tokenizer = tiny_tokenizer().__class__(
        tokenizer_object=tiny_tokenizer().backend_tokenizer, eos_token="<|endoftext|>"
    )
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    assert tokenizer.encode("x")[0] == tokenizer.bos_token_id
    model = tiny_model("llama")
    oracle = by_lm_eval(model, tokenizer, exam, "letter", 1024)
    assert_parity(by_alloy(model, tokenizer, exam, "letter", 300), oracle)


def test_no_network_no_stdout_and_the_model_as_it_was(exam, monkeypatch, capfd):
    def refuse(*_arguments):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    model, tokenizer = tiny_model("llama").train(), tiny_tokenizer()
    tokens = len(tokenizer)
    random.seed(5)
    np.random.seed(6)
    torch.manual_seed(7)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[union-attr]
    told = []
    by_lm_eval(model, tokenizer, exam, "letter", 512, told.append)
    by_lm_eval(model, tokenizer, exam, "cloze", 512, told.append)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[union-attr]
    assert torch.equal(torch.get_rng_state(), before[2])
    assert all(module.training for module in model.modules())
    assert len(tokenizer) == tokens
    assert tokenizer.pad_token is None
    assert len(told) == 4
    out, err = capfd.readouterr()
    assert out == ""
    assert "it/s" not in err


def test_parity_on_real_questions():
    folder, tokenizer = require_data("mmlu"), real_tokenizer("gpt2")
    exam = load_exam(MmluTask(path=str(folder), shots=2, limit_per_subject=8))
    wanted = ("abstract_algebra", "global_facts", "moral_scenarios")
    exam = replace(exam, subjects=tuple(s for s in exam.subjects if s.name in wanted))
    model = tiny_model("qwen3", vocab=50_304, context=2048)
    oracle = by_lm_eval(model, tokenizer, exam, "letter", 2048)
    assert_parity(by_alloy(model, tokenizer, exam, "letter", 512), oracle)
