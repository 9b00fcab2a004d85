"""An evaluation from end to end: summary, records, what is reused and what is not."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from eval_helpers import make_documents, silent, tiny_model, tiny_tokenizer, write_exam

from checkpoints import pretrained_model
from configs.errors import CheckFailed, UserError
from configs.evals import DomainTask, Evals, MmluTask
from evals.evaluate import evaluate_model
from evals.exam import exam_run
from evals.records import (
    EvalKey,
    cached,
    read_records,
    task_hash,
    weights_hash,
    write_records,
    write_summary,
)
from evals.summarize import recompute_summary


@pytest.fixture
def model_folder(tmp_path):
    folder = tmp_path / "model"
    tiny_model("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def evals(tmp_path):
    folder = write_exam(tmp_path / "exam", {"anatomy": 8, "seas": 6})
    sidecar = [
        {"subject": subject, "index": index, "replayed": index < 3}
        for subject, n in (("anatomy", 8), ("seas", 6))
        for index in range(n)
    ]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sidecar))
    rows = [{"prompt": f"comment {n}: ", "label": f"a > b > {n % 3}"} for n in range(9)]
    (tmp_path / "paths.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Evals(
        mmlu=MmluTask(path=str(folder), shots=1, items=str(tmp_path / "items.jsonl")),
        domain=(
            DomainTask(
                name="paths",
                path=str(tmp_path / "paths.jsonl"),
                metric="label_path",
                max_new_tokens=4,
            ),
        ),
        bootstrap=50,
    )


def run(model_folder, evals, out, documents=None, **options):
    documents = make_documents([4, 20]) if documents is None else documents
    return evaluate_model(
        model_folder, evals, documents, out, "base", silent, pretrained_model, **options
    )


def test_summary_has_the_documented_keys(model_folder, evals, tmp_path):
    out = tmp_path / "out"
    summary = run(model_folder, evals, out)
    assert summary == json.loads((out / "summary.json").read_text())
    assert summary["name"] == "base"
    assert summary["dtype"] == ("bfloat16" if torch.cuda.is_available() else "float32")
    exam = summary["exam"]
    assert (exam["n"], exam["n_replayed"], exam["n_unreplayed"], exam["shots"]) == (14, 6, 8, 1)
    whole = (6 * exam["accuracy_replayed"] + 8 * exam["accuracy_unreplayed"]) / 14
    assert exam["accuracy"] == pytest.approx(whole)
    assert set(exam["by_category"]) == {"stem", "other"}
    assert summary["domain"]["paths"]["n"] == 9
    assert len(summary["domain"]["paths"]["per_level_f1"]) == 3
    assert summary["bpb"]["web"]["documents"] == 2
    assert set(summary["seconds"]) == {"exam", "domain_paths", "bpb"}
    assert sorted(p.name for p in out.iterdir()) == [
        "bpb.jsonl", "domain_paths.jsonl", "exam.jsonl", "summary.json",
    ]  # fmt: skip
    record = read_records(out / "domain_paths.jsonl")[0]
    assert {"id", "gold", "prediction", "correct", "valid", "prompt_hash"} <= set(record)


def test_recomputing_from_the_records_gives_every_number(model_folder, evals, tmp_path):
    out = tmp_path / "out"
    summary = run(model_folder, evals, out)
    assert recompute_summary(out) == summary
    records = read_records(out / "exam.jsonl")
    records[0]["correct"] = not records[0]["correct"]
    write_records(out / "exam.jsonl", records)
    changed = recompute_summary(out)
    assert changed["exam"]["accuracy"] != summary["exam"]["accuracy"]
    assert changed["bpb"] == summary["bpb"]


def test_both_scorers_give_the_same_records_and_summary(model_folder, evals, tmp_path):
    assert evals.mmlu.scorer == "native"
    native = run(model_folder, evals, tmp_path / "a")
    mmlu = evals.mmlu.model_copy(update={"scorer": "lm_eval"})
    oracle = run(model_folder, evals.model_copy(update={"mmlu": mmlu}), tmp_path / "b")
    assert oracle["task_hash"] != native["task_hash"]
    gold_bpb = oracle["exam"].pop("gold_bpb")
    assert native["exam"].pop("gold_bpb") == pytest.approx(gold_bpb, abs=1e-5)
    assert native["exam"] == oracle["exam"]
    for ours, theirs in zip(
        read_records(tmp_path / "a" / "exam.jsonl"),
        read_records(tmp_path / "b" / "exam.jsonl"),
        strict=True,
    ):
        for key in ("logprobs", "cloze_logprobs"):
            np.testing.assert_allclose(ours.pop(key), theirs.pop(key), atol=1e-4)
        assert ours.pop("gold_bits") == pytest.approx(theirs.pop("gold_bits"), abs=2e-4)
        assert ours == theirs


def test_the_native_scorer_does_not_load_lm_eval():
    code = (
        "import sys, evals.evaluate\n"
        "heavy = {'lm_eval', 'datasets'} & set(sys.modules)\nassert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def stopped_after(monkeypatch, count):
    """Interrupt the evaluation after ``count`` scored subjects."""
    original, scored = exam_run.item_records, []

    def interrupted(*arguments):
        if len(scored) == count:
            raise KeyboardInterrupt
        scored.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(exam_run, "item_records", interrupted)
    return scored


def test_an_interrupted_evaluation_goes_on_after_the_last_subject(
    model_folder, evals, tmp_path, monkeypatch
):
    whole = run(model_folder, evals, tmp_path / "whole")
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        assert stopped_after(patched, 1) == []
        with pytest.raises(KeyboardInterrupt):
            run(model_folder, evals, out)
    assert [p.name for p in out.glob(".parts-*/*")] == ["exam-anatomy.jsonl"]
    with monkeypatch.context() as patched:
        scored = stopped_after(patched, 10)
        resumed = run(model_folder, evals, out)
    assert [exam.subjects[0].name for exam, *_ in scored] == ["seas"]
    assert (whole["parts_reused"], resumed["parts_reused"]) == (0, 1)
    varying = {"seconds": None, "parts_reused": None}
    assert resumed | varying == whole | varying
    for name in ("exam.jsonl", "domain_paths.jsonl", "bpb.jsonl"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not list(out.glob(".parts-*"))


def test_parts_of_another_model_or_exam_are_not_taken(model_folder, evals, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        stopped_after(patched, 1)
        with pytest.raises(KeyboardInterrupt):
            run(model_folder, evals, out)
    other = evals.model_copy(update={"mmlu": evals.mmlu.model_copy(update={"shots": 0})})
    assert run(model_folder, other, out)["parts_reused"] == 0
    assert not list(out.glob(".parts-*"))


def test_written_answers_and_the_likeliest_letter(model_folder, evals, tmp_path):
    plain = run(model_folder, evals, tmp_path / "plain")["exam"]
    assert plain["generative_accuracy"] is None
    assert plain["format_collapse"] is None
    mmlu = evals.mmlu.model_copy(update={"generative": True})
    asked = run(model_folder, evals.model_copy(update={"mmlu": mmlu}), tmp_path / "asked")["exam"]
    assert set(plain) == set(asked)
    assert asked["accuracy"] == plain["accuracy"]
    assert asked["generative_invalid_rate"] > 0.5  # random weights write no letters
    assert asked["generative_gap"]["gap"] == pytest.approx(
        asked["accuracy"] - asked["generative_accuracy"]
    )


def test_what_is_not_known_to_be_clean_is_a_caveat(model_folder, evals, tmp_path):
    out = tmp_path / "out"
    record = {"hash": "abc", "documents_removed": 2}
    summary = run(model_folder, evals, out, decontaminated={"mmlu": record, "paths": None})
    assert summary["decontaminated"] == {"mmlu": record, "paths": None}
    assert summary["caveats"] == [
        "paths: no record that its items were kept out of the training text"
    ]
    # The numbers are the same; what is known of the corpus is not.
    again = run(model_folder, evals, out, caveats=["one more"])
    assert [c.split(":")[0] for c in again["caveats"]] == ["one more", "mmlu", "paths"]
    assert json.loads((out / "summary.json").read_text())["caveats"] == again["caveats"]
    assert again["exam"] == summary["exam"]


def test_a_finished_evaluation_is_reused_wherever_the_model_lies(model_folder, evals, tmp_path):
    out, told = tmp_path / "out", []
    first = run(model_folder, evals, out)
    stamp = (out / "exam.jsonl").stat().st_mtime_ns
    moved = model_folder.rename(tmp_path / "elsewhere")
    second = evaluate_model(
        moved, evals, make_documents([4, 20]), out, "again", told.append, pretrained_model
    )
    assert told == ["again: already evaluated"]
    assert second == first | {"name": "again", "model": str(moved)}
    assert (out / "exam.jsonl").stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    "change", ["weights", "tokenizer", "item", "shots", "answer_key", "document", "record", "file"]
)
def test_anything_that_decides_a_number_redoes_it(model_folder, evals, tmp_path, change):
    out = tmp_path / "out"
    evals = evals.model_copy(update={"domain": ()})
    documents = make_documents([4, 20])
    run(model_folder, evals, out, documents)
    match change:
        case "weights":
            model = tiny_model("llama")
            torch.nn.init.zeros_(model.lm_head.weight)
            model.save_pretrained(model_folder)
        case "tokenizer":
            path = model_folder / "tokenizer_config.json"
            path.write_text(path.read_text() + " ")
        case "item" | "answer_key":
            path = tmp_path / "exam" / "test" / "seas_test.csv"
            lines = path.read_text().splitlines()
            if change == "item":
                lines[2] = lines[2].replace("Which", "What")
            else:
                lines[2] = lines[2][:-1] + {"A": "B"}.get(lines[2][-1], "A")
            path.write_text("\n".join(lines))
        case "shots":
            mmlu = evals.mmlu.model_copy(update={"shots": 2})
            evals = evals.model_copy(update={"mmlu": mmlu})
        case "document":
            reordered = documents[1].token_ids[::-1]
            documents = [documents[0], replace(documents[1], token_ids=reordered)]
        case "record":
            path = out / "exam.jsonl"
            path.write_text(path.read_text().replace("anatomy", "anatomx", 1))
        case "file":
            (out / "bpb.jsonl").unlink()
    told = []
    evaluate_model(model_folder, evals, documents, out, "base", told.append, pretrained_model)
    assert "base: already evaluated" not in told
    assert told


def test_a_broken_off_evaluation_never_counts(model_folder, evals, tmp_path, monkeypatch):
    out = tmp_path / "out"
    summary = run(model_folder, evals, out)
    key = EvalKey(summary["weights_hash"], summary["task_hash"])
    assert cached(out, key) == summary

    def fail(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("evals.evaluate.score_documents", fail)
    with pytest.raises(KeyboardInterrupt):
        run(model_folder, evals, out, make_documents([5]))
    assert cached(out, key) is None
    assert not (out / "summary.json").exists()
    with pytest.raises(UserError, match="no finished evaluation"):
        recompute_summary(out)


def test_cached_asks_for_all_three_parts_of_the_key(tmp_path):
    write_records(tmp_path / "bpb.jsonl", [{"bits": 1.5}])
    write_summary(
        tmp_path, {"weights_hash": "w", "task_hash": "t", "scorer_version": 1}, ["bpb.jsonl"]
    )
    assert cached(tmp_path, EvalKey("w", "t", 1)) is not None
    assert cached(tmp_path, EvalKey("x", "t", 1)) is None
    assert cached(tmp_path, EvalKey("w", "x", 1)) is None
    assert cached(tmp_path, EvalKey("w", "t", 2)) is None
    assert cached(tmp_path / "nowhere", EvalKey("w", "t", 1)) is None


def test_hashes(tmp_path, model_folder):
    digest = weights_hash(model_folder)
    copy = shutil.copytree(model_folder, tmp_path / "copy")
    (copy / "notes.txt").write_text("not part of the model")
    assert weights_hash(copy) == digest
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "model.safetensors").write_bytes(data)
    assert weights_hash(copy) != digest
    (copy / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"no \*\.safetensors"):
        weights_hash(copy)
    assert task_hash({"a": 1, "b": [2]}) == task_hash({"b": [2], "a": 1})
    assert task_hash({"a": 1}) != task_hash({"a": 2})


def test_models_and_inputs_that_cannot_be_scored(model_folder, evals, tmp_path):
    model = tiny_model("llama")
    with torch.no_grad():
        model.lm_head.weight[3, 3] = float("nan")
    model.save_pretrained(model_folder)
    for part in (evals, evals.model_copy(update={"mmlu": None}), Evals()):
        with pytest.raises(CheckFailed, match="not finite"):
            run(model_folder, part, tmp_path / "nan")
    assert not (tmp_path / "nan" / "summary.json").exists()
    with pytest.raises(UserError, match=r"no \*\.safetensors"):
        run(tmp_path / "nowhere", evals, tmp_path / "out")
    hollow = [replace(doc, text_bytes=0) for doc in make_documents([3])]
    with pytest.raises(UserError, match="web: no held-out text"):
        run(model_folder, evals, tmp_path / "out", hollow)


def test_two_tasks_of_one_name_are_refused(model_folder, evals, tmp_path):
    evals = evals.model_copy(update={"domain": evals.domain * 2})
    with pytest.raises(UserError, match="two domain tasks are called 'paths'"):
        run(model_folder, evals, tmp_path / "out")


def test_nothing_asked_is_nothing_scored(model_folder, tmp_path):
    summary = run(model_folder, Evals(bootstrap=50), tmp_path / "out", [])
    assert (summary["exam"], summary["domain"], summary["bpb"]) == (None, {}, {})
    assert recompute_summary(tmp_path / "out") == summary
