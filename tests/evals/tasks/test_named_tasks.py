"""lm-eval's usual tasks from local files: the built-in configs, whole runs, what is refused."""

import json
import random
from pathlib import Path

import lm_eval
import pytest
from eval_helpers import WORDS, require_data, silent, tiny_model, tiny_tokenizer
from lm_eval.tasks._yaml_loader import load_yaml

from checkpoints import pretrained_model
from configs.errors import UserError
from configs.evals import Evals, LmEvalTask
from evals.evaluate import evaluate_model
from evals.stats.stats import wilson
from evals.summarize import recompute_summary
from evals.tasks.lm_eval_tasks import run_task
from evals.tasks.local_tasks import (
    _IFEVAL,
    as_choices,
    letters_caveat,
    local_config,
    read_rows,
    require_ready,
)
from evals.tasks.task_scores import headline, summarize_task

BUILT_IN = Path(lm_eval.__file__).parent / "tasks"
YAMLS = {"gsm8k": "gsm8k/gsm8k", "ifeval": "ifeval/ifeval"}
YAMLS |= {"arc_easy": "arc/arc_easy", "hellaswag": "hellaswag/hellaswag"}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def choice_rows(n=14):
    rng = random.Random(0)
    return [
        {
            "query": f"Question: {' '.join(rng.choices(WORDS, k=6))}?\nAnswer:",
            "choices": [" ".join(rng.choices(WORDS, k=k)) for k in (1, 2, 3, 4)],
            "gold": rng.randrange(4),
        }
        for _ in range(n)
    ]


@pytest.mark.parametrize("name", YAMLS)
def test_configs_are_the_built_in_ones(name):
    built_in = load_yaml(BUILT_IN / f"{YAMLS[name]}.yaml", resolve_func=False)
    ours = local_config(LmEvalTask(name=name, path="x"), {})
    compared = ["output_type", "generation_kwargs", "filter_list"]
    if name in ("gsm8k", "ifeval"):
        compared += ["doc_to_text", "doc_to_target"]
    if name != "ifeval":
        compared += ["metric_list"]  # ifeval's holds functions
    for field in compared:
        assert ours.get(field) == built_in.get(field), field


def test_published_layouts_become_the_same_prompts():
    arc = {
        "question": "Which?",
        "choices": {"text": ["a", "b", "c"], "label": ["1", "2", "3"]},
        "answerKey": "3",
    }
    expected = {"query": "Question: Which?\nAnswer:", "choices": ["a", "b", "c"], "gold": 2}
    assert as_choices("arc_easy", arc, None) == expected
    swag = {"activity_label": "Cook", "ctx_a": "He [x] cuts.", "ctx_b": "then he"}
    swag |= {"endings": ["[y] eats", "sits"], "label": "1"}
    found = as_choices("hellaswag", swag, lambda text: text.replace("[", "(").upper())
    assert found == {
        "query": "COOK: HE (X] CUTS. THEN HE",
        "choices": ["(Y] EATS", "SITS"],
        "gold": 1,
    }
    given = {"query": "q", "choices": ["a"], "gold": 0, "more": 1}
    assert as_choices("hellaswag", given, None) == {"query": "q", "choices": ["a"], "gold": 0}


@pytest.mark.parametrize("name", ["arc_easy", "hellaswag"])
def test_multiple_choice_from_a_file(tmp_path, name):
    path = write(tmp_path / "test.jsonl", choice_rows())
    task = LmEvalTask(name=name, path=path, shots=2, fewshot_path=path, limit=10)
    model = tiny_model("llama").train()
    records = run_task(model, tiny_tokenizer(), task, 512)
    assert all(module.training for module in model.modules())
    summary = summarize_task(records)
    assert summary["n"] == 10
    rows = [r["metrics"]["acc"] for r in records[:-1]]
    assert summary["results"][name]["acc,none"] == pytest.approx(sum(rows) / 10)
    assert summary["headline"] == "acc,none"
    assert summary["score"] == pytest.approx(sum(rows) / 10)
    assert summary["interval"] == pytest.approx(wilson(round(sum(rows)), 10))


def test_written_numbers_from_a_file(tmp_path):
    rows = [{"question": f"{n} plus one?", "answer": f"So #### {n + 1}"} for n in range(5)]
    task = LmEvalTask(name="gsm8k", path=write(tmp_path / "t.jsonl", rows))
    records = run_task(tiny_model("llama"), tiny_tokenizer(), task, 2048)
    summary = summarize_task(records)
    assert summary["n"] == 5
    assert {r["filter"] for r in records[:-1]} == {"strict-match", "flexible-extract"}
    assert set(summary["results"]["gsm8k"]) >= {
        "exact_match,strict-match", "exact_match,flexible-extract",
    }  # fmt: skip
    assert summary["headline"] == "exact_match,strict-match"
    with pytest.raises(UserError, match="leave no room"):
        run_task(tiny_model("llama", context=256), tiny_tokenizer(), task, 2048)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"name": "arc_easy", "path": "{}/gone.jsonl"}, r"gone\.jsonl: no such file"),
        ({"name": "arc_easy", "path": "{}/half.jsonl"}, r"half\.jsonl:2: no 'choices'"),
        ({"name": "gsm8k", "path": "{}/half.jsonl"}, r"half\.jsonl:1: no 'question'"),
        ({"name": "hellaswag", "path": "{}/broken.jsonl"}, r"broken\.jsonl:1: not JSON"),
        ({"name": "piqa", "path": "{}/half.jsonl"}, "'piqa' cannot be read from a file"),
        ({"name": "arc_esay"}, "no task 'arc_esay'"),
    ],
)
def test_what_cannot_be_run_is_refused_by_name(tmp_path, task, words):
    write(tmp_path / "half.jsonl", [*choice_rows(1), {"query": "q"}])
    (tmp_path / "broken.jsonl").write_text("{\n")
    filled = {key: value.format(tmp_path) for key, value in task.items()}
    with pytest.raises(UserError, match=words):
        run_task(tiny_model("llama"), tiny_tokenizer(), LmEvalTask(**filled), 512)


def test_named_tasks_are_part_of_an_evaluation(tmp_path):
    tiny_model("llama").save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    path = write(tmp_path / "test.jsonl", choice_rows())
    evals = Evals(lm_eval=(LmEvalTask(name="arc_easy", path=path),), bootstrap=10)

    def run(told=silent):
        return evaluate_model(
            tmp_path / "model", evals, [], tmp_path / "out", "m", told, pretrained_model
        )

    summary = run()
    assert summary["lm_eval"]["arc_easy"]["n"] == 14
    assert summary["caveats"] == [
        "arc_easy: no record that its items were kept out of the training text"
    ]
    assert recompute_summary(tmp_path / "out") == summary
    told = []
    run(told.append)
    assert told == ["m: already evaluated"]
    write(tmp_path / "test.jsonl", choice_rows()[::-1])  # other rows at the same path
    run(told.append)
    assert told[1:] != ["m: already evaluated"]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("gsm8k", "gsm8k/test.jsonl"),
        ("ifeval", "ifeval/input_data.jsonl"),
        ("arc_easy", "arc_easy/test.jsonl"),
        ("hellaswag", "hellaswag/validation_1000.jsonl"),
    ],
)
def test_real_files_are_read(name, file):
    rows = read_rows(name, require_data("tasks", *file.split("/")))
    assert len(rows) == {"gsm8k": 1319, "ifeval": 541, "arc_easy": 2376, "hellaswag": 1000}[name]


def test_real_questions_run():
    path = require_data("tasks", "arc_easy", "test.jsonl")
    task = LmEvalTask(name="arc_easy", path=str(path), limit=12)
    summary = summarize_task(run_task(tiny_model("neox"), tiny_tokenizer(), task, 2048))
    assert summary["n"] == 12
    assert 0 <= summary["results"]["arc_easy"]["acc,none"] <= 1


def write_punkt(folder, abbreviations="dr\n"):
    """Parameters of nltk's sentence splitter, in the layout of its punkt_tab."""
    english = folder / "tokenizers/punkt_tab/english"
    english.mkdir(parents=True)
    for name, text in (("abbrev_types.txt", abbreviations), ("sent_starters.txt", "he\n")):
        (english / name).write_text(text)
    (english / "collocations.tab").write_text("##number##\tpm\n")
    (english / "ortho_context.tab").write_text("he\t46\n")
    return str(folder)


IFEVAL = {"key": 1, "prompt": "Say it.", "instruction_id_list": ["punctuation:no_comma"]}
IFEVAL |= {"kwargs": [{}]}


def test_ifeval_runs_from_a_folder_of_nltk_or_is_refused_before_a_model_is_loaded(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("nltk.data.path", [])
    rows = [IFEVAL, IFEVAL | {"key": 2, "instruction_id_list": ["length_constraints:number_words"]}]
    rows[1]["kwargs"] = [{"relation": "at least", "num_words": 5000}]
    task = LmEvalTask(name="ifeval", path=write(tmp_path / "rows.jsonl", rows))
    with pytest.raises(UserError, match="nltk's punkt_tab, which is not in any folder") as error:
        evaluate_model(
            tmp_path / "none", Evals(lm_eval=(task,)), [], tmp_path, "m", silent, pretrained_model
        )
    assert "evals.lm_eval[].nltk_data" in (error.value.hint or "")
    away = task.model_copy(update={"nltk_data": str(tmp_path / "away")})
    with pytest.raises(UserError, match=r"which is not in .*/away or any folder"):
        require_ready(away)
    ready = task.model_copy(update={"nltk_data": write_punkt(tmp_path / "nltk")})
    with monkeypatch.context() as short:  # of 1,280 tokens an answer
        short.setitem(_IFEVAL, "generation_kwargs", _IFEVAL["generation_kwargs"] | SHORT)
        records = run_task(tiny_model("llama"), tiny_tokenizer(), ready, 2048)
    summary = summarize_task(records)
    assert summary["headline"] == "prompt_level_strict_acc,none"
    assert headline(records)[1][("ifeval", 1)] == 0.0  # 5,000 words were asked
    assert summary["results"]["ifeval"]["inst_level_loose_acc,none"] <= 0.5


SHORT = {"max_gen_toks": 6}


def test_letters_in_a_file_are_told_from_the_published_task(tmp_path):
    lettered = [{"query": "Q\n A. x\n B. y\nAnswer:", "choices": ["A", "B"], "gold": 1}]
    path = write(tmp_path / "letters.jsonl", lettered)
    [line] = letters_caveat(LmEvalTask(name="hellaswag", path=path))
    assert "not comparable with published scores" in line
    assert (
        letters_caveat(LmEvalTask(name="arc_easy", path=write(tmp_path / "t", choice_rows()))) == []
    )
    assert letters_caveat(LmEvalTask(name="hellaswag")) == []


def test_a_headline_is_a_number_of_every_row():
    rows = [
        {"task": "t", "id": i, "filter": f, "truncated": False, "metrics": {"f1": value}}
        for i, right in enumerate((0.5, 1.0, 0.0))
        for f, value in (("b", right), ("a", 0.25))
    ]
    records = [*rows, {"results": {"t": {"n": 3, "f1,b": 0.5}}}]
    assert headline(records) == ("f1,b", {("t", 0): 0.5, ("t", 1): 1.0, ("t", 2): 0.0})
    low, high = summarize_task(records)["interval"]
    assert 0.0 <= low < 0.5 < high <= 1.0
    for changed in ({"metrics": {"f1": [1, 2]}}, {"metrics": {}}):
        assert headline([rows[0] | changed | {"filter": "b"}, records[-1]]) == (None, {})
    nothing = summarize_task([*rows, {"results": {"t": {"n": 3}}}])
    assert (nothing["headline"], nothing["score"], nothing["interval"]) == (None, None, None)
