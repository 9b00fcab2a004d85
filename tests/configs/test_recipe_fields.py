"""No dead knobs: each recipe field, changed from its default, changes a named output.

Every output is computed by the real code: plans from built shards, whole training runs in this
process, evaluations of a tiny model.
"""

import csv
import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from one_rank import joined
from tiny import tiny_recipe, write_base
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from alloy.models import hub
from alloy.planning.planning import plan_recipe
from alloy.runs.building import build_recipe
from alloy.runs.evaluation import measure
from alloy.runs.training import _job, run_folder
from alloy.sweeps.arm import arms
from alloy.sweeps.merge_points import merge_entries
from alloy.sweeps.repetition import repeated_recipes
from alloy.sweeps.sweep import reference_model, sweep_record
from checkpoints.folder import last_good, steps, write_json
from checkpoints.tensors import EXP_AVG, WEIGHTS, read_tensors
from configs import AlloyError, Recipe
from configs.load import parse_recipe
from configs.reference import sections
from evals.exam.mmlu_items import load_exam
from evals.tasks.local_tasks import require_ready
from pretrain.engine.deepspeed_settings import deepspeed_config
from pretrain.launch.launch import environment, prepared
from pretrain.launch.launchers import slurm_script
from pretrain.ranks.assembly import run_job
from pretrain.run_folder import read_metrics

Observer = Callable[[Recipe, Path], Any]
FORWARDS: list[int] = []
"""Tokens of every forward pass of the evaluation in progress."""


def quiet(_: str) -> None:
    pass


def planned(recipe: Recipe, _: Path) -> Any:
    """The plan over what is built."""
    build_recipe(recipe, quiet)
    return plan_recipe(recipe).plan.to_json()


def planned_or_refused(recipe: Recipe, folder: Path) -> Any:
    try:
        return planned(recipe, folder)
    except AlloyError as error:
        return error.message


def built(recipe: Recipe, _: Path) -> Any:
    """What the build reports, but for its time; and the ids of the documents."""
    reports = [asdict(r) for r in build_recipe(recipe, quiet)]
    corpus = plan_recipe(recipe).corpus
    assert corpus is not None
    ids = [corpus.readers[s.name].provenance(0).id for s in recipe.data.sources]
    kept = ("name", "role", "key", "documents_written", "dropped", "shards", "notes")
    return [{k: r[k] for k in kept} for r in reports], ids


def store(recipe: Recipe, folder: Path) -> Any:
    build_recipe(recipe, quiet)
    home = folder / "store"
    return home.is_dir() and sorted(p.name for p in home.iterdir())


def trained(recipe: Recipe, folder: Path) -> Any:
    """A whole run on one rank in this process: losses, rates, weights, moments, checkpoints."""
    try:
        build_recipe(recipe, quiet)
        plan = plan_recipe(recipe)
        run = run_folder(recipe)
        run.mkdir(parents=True)
        write_json(run / "plan.json", plan.plan.to_json())
        run_job(_job(recipe, run, plan), lambda: False)
    except AlloyError as error:
        return error.message.replace(str(folder), "")
    checkpoint, _ = last_good(run / "checkpoints")
    assert checkpoint is not None
    sums = {
        kind: [float(t.double().abs().sum()) for _, t in sorted(read_tensors(checkpoint, kind))]
        for kind in (WEIGHTS, EXP_AVG)
    }
    kept = ("loss", "lr", "grad_norm", "applied")
    rows = [{k: row[k] for k in kept} for row in read_metrics(run / "metrics.jsonl")]
    return rows, sums, steps(run / "checkpoints")


def watched(recipe: Recipe, folder: Path) -> Any:
    """What a run shows beside its losses: measurements, boards, and whether MFU is claimed."""
    trained(recipe, folder)
    run = run_folder(recipe)
    claimed = [row["mfu"] is not None for row in read_metrics(run / "metrics.jsonl")]
    return claimed, read_metrics(run / "heldout.jsonl"), (run / "tensorboard").exists()


def recomputed(recipe: Recipe, folder: Path) -> int:
    """Matrix products of the model's forward passes."""
    calls = 0
    original = torch.nn.Linear.forward

    def forward(self: torch.nn.Linear, values: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return original(self, values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.Linear, "forward", forward)
        trained(recipe, folder)
    return calls


def patient(recipe: Recipe, folder: Path) -> Any:
    build_recipe(recipe, quiet)
    return _job(recipe, folder, plan_recipe(recipe)).patience


def surroundings(recipe: Recipe, _: Path) -> Any:
    return environment({}, recipe.train)


def launched(recipe: Recipe, folder: Path) -> Any:
    return slurm_script("x", folder, recipe.train)


def hosted(recipe: Recipe, folder: Path) -> Any:
    """The launcher's command, but for its port; or the host that does not answer."""
    build_recipe(recipe, quiet)
    job = _job(recipe, folder, plan_recipe(recipe))
    try:
        words = prepared(job)[0]
        return [word for word in words if word != job.hash and not word.isdigit()]
    except AlloyError as error:
        return error.message


def measured(recipe: Recipe, folder: Path) -> Any:
    """Summary and records of a tiny model, and the sizes of its forward passes."""
    build_recipe(recipe, quiet)
    FORWARDS.clear()
    model = folder.parent / "model"
    summary = measure(recipe, plan_recipe(recipe), model, folder / "out", "m", quiet)
    records = {p.name: p.read_text() for p in sorted((folder / "out").glob("*.jsonl"))}
    return {k: summary[k] for k in ("exam", "domain", "lm_eval", "bpb")}, records, list(FORWARDS)


def exam_asked(recipe: Recipe, _: Path) -> Any:
    """The questions, or why there are none."""
    assert recipe.evals.mmlu is not None
    try:
        return load_exam(recipe.evals.mmlu)
    except AlloyError as error:
        return error.message


def sentences_asked(recipe: Recipe, _: Path) -> Any:
    """Where ifeval looks for what it needs, which is in none of these places."""
    with mock.patch("nltk.data.path", []), pytest.raises(AlloyError) as error:
        require_ready(recipe.evals.lm_eval[0])
    return error.value.message


def engine_json(recipe: Recipe, _: Path) -> Any:
    return deepspeed_config(recipe.train, rows=1, accumulation=1)


def named_folder(recipe: Recipe, _: Path) -> Any:
    return str(run_folder(recipe)).replace(str(recipe_home(recipe)), "")


def recipe_home(recipe: Recipe) -> Path:
    return Path(recipe.data.store).parent


def swept(recipe: Recipe, _: Path) -> Any:
    return sweep_record(recipe, [], 0.0).to_json(), [asdict(arm) for arm in arms(recipe)]


def merged(recipe: Recipe, _: Path) -> Any:
    assert recipe.sweep is not None
    return merge_entries(recipe.sweep, arms(recipe)[0], tokens=0, failed="")


def repeated(recipe: Recipe, _: Path) -> Any:
    build_recipe(recipe, quiet)
    return [own.data.subset for own, _ in repeated_recipes(recipe, arms(recipe))]


def referred(recipe: Recipe, _: Path) -> Any:
    return str(reference_model(recipe))


@pytest.fixture(scope="module", autouse=True)
def one_rank() -> Any:
    with joined():
        yield


@pytest.fixture
def folder(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An exam, a domain test, a damaged source and a model beside the tiny corpus; the folder
    itself is a base by its config."""
    write_base(tmp_path)
    for split, rows in (("test", 6), ("dev", 5)):
        (tmp_path / "exam" / split).mkdir(parents=True)
        for subject in ("rivers", "stones"):
            path = tmp_path / "exam" / split / f"{subject}_{split}.csv"
            with path.open("w", newline="") as file:
                for i in range(rows):
                    row = [f"Which {i}?", "amber", "river", "cloud", "stone", "ABCD"[i % 4]]
                    csv.writer(file).writerow(row)
    items = [
        {"subject": s, "index": i, "replayed": True} for s in ("rivers", "stones") for i in range(6)
    ]
    write_rows(tmp_path / "items.jsonl", items)
    (tmp_path / "hosts").write_text("one slots=1\n")
    choice = [{"query": f"Q{n}:", "choices": ["a", "bc"], "gold": n % 2} for n in range(6)]
    write_rows(tmp_path / "choice.jsonl", choice)
    write_rows(tmp_path / "choice2.jsonl", choice[::-1])
    (tmp_path / "labels.txt").write_text("\n".join(f"label {n}" for n in range(9)))
    test = [
        {"prompt": f"stone {i}", "label": "a > b", "other": "river", "more": "c"} for i in range(6)
    ]
    write_rows(tmp_path / "test.jsonl", test)
    write_rows(tmp_path / "test2.jsonl", test[:3])
    rows = [json.loads(line) for line in (tiny / "domain.jsonl").read_text().splitlines()]
    leak = [{"prompt": row["text"], "label": "stone"} for row in rows[:60]]
    write_rows(tmp_path / "leak.jsonl", leak)
    alternative = [
        {**r, "text2": r["text"][::-1], "id2": f"x{i}", "prompt": "amber", "response": r["text"]}
        for i, r in enumerate(rows)
    ]
    write_rows(tmp_path / "domain.jsonl", alternative)
    for name in ("hub", "hub2"):
        (tmp_path / name).mkdir()
        write_rows(tmp_path / name / "train.jsonl", alternative[len(name) :])
        write_rows(tmp_path / name / "test.jsonl", alternative[:50])
        (tmp_path / name / "README.md").write_text(CONFIGS)
    (tmp_path / "bad.jsonl").write_text((tmp_path / "domain.jsonl").read_text() + "{bad\n")
    tokenizer = json.loads((tiny / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append({**tokenizer["added_tokens"][0], "id": 400, "content": "<x>"})
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    count_forwards(monkeypatch)
    monkeypatch.setattr(hub, "snapshot_download", partial(fetched, tmp_path))
    return tmp_path


def fetched(cache: Path, model: str, revision: str | None, **_: Any) -> str:
    """A model of the hub, in a cache."""
    write_base(cache / f"{model}@{revision}")
    return str(cache / f"{model}@{revision}")


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))


def count_forwards(monkeypatch: pytest.MonkeyPatch) -> None:
    original = torch.nn.Embedding.forward

    def forward(self: torch.nn.Embedding, ids: torch.Tensor) -> torch.Tensor:
        FORWARDS.append(int(ids.numel()))
        return original(self, ids)

    monkeypatch.setattr(torch.nn.Embedding, "forward", forward)


EXAM = {"path": "{folder}/exam", "shots": 0}
TASK = {"name": "labels", "path": "{folder}/test.jsonl", "max_new_tokens": 4}
LEAK = {"name": "labels", "path": "{folder}/leak.jsonl"}
CHOICE = {"name": "arc_easy", "path": "{folder}/choice.jsonl"}
NAMED = {"evals.lm_eval": [CHOICE]}
EVALS = {"mmlu": EXAM, "domain": [TASK], "bootstrap": 50}
SWEEP = {"sweep": {"general": [0.5]}, "base": {"model": "{folder}"}}
ARCHITECTURE = {"model_type": "llama", "hidden_size": 16, "intermediate_size": 24}
ARCHITECTURE |= {"num_hidden_layers": 1, "num_attention_heads": 2}
TWO_GENERAL = [
    {"name": "own", "role": "domain", "path": "{folder}/domain.jsonl", "max_epochs": 50},
    {"name": "web", "role": "general", "path": "{tiny}/general.jsonl", "max_epochs": 50},
    {"name": "wiki", "role": "general", "path": "{tiny}/retention.jsonl", "max_epochs": 50},
]
SOURCE = "data.sources.own"
CONFIGS = """---
configs:
- config_name: default
  data_files: [{split: train, path: train.jsonl}, {split: test, path: test.jsonl}]
- config_name: small
  data_files: test.jsonl
---
"""
HUB = {f"{SOURCE}.path": [], f"{SOURCE}.hub": "{folder}/hub"}
CHAT = {
    f"{SOURCE}.format": "prompt_response",
    "schedule.batch_tokens": 1024,
    "data.seq_len": 512,
}
CASES: dict[str, tuple[Observer, dict[str, Any], str]] = {
    # field: (what is observed, sections beside the tiny recipe's, the change)
    "name": (named_folder, {}, "name=other"),
    "run_dir": (named_folder, {}, "run_dir=elsewhere"),
    "note": (swept, SWEEP, "note=a tiny world"),
    "base.model": (referred, SWEEP, "base.model={tiny}"),
    "base.revision": (referred, {"base": {"model": "a/b"}}, "base.revision=step1"),
    "base.architecture": (trained, {}, f"base.architecture={ARCHITECTURE}"),
    "base.embedding_std": (trained, {}, "base.embedding_std=0.2"),
    "base.residual_scale": (trained, {}, "base.residual_scale=0.5"),
    "base.start": (trained, {"base": {"model": "{folder}/start"}}, "base.start=weights+moments"),
    "base.step": (trained, {"base": {"model": "{folder}/start"}}, "base.step=9"),
    "base.data": (planned, {"base": {"model": "{folder}/start"}}, "base.data=continued"),
    "base.compare_with": (referred, SWEEP, "base.compare_with={tiny}"),
    "base.compare_with_revision": (
        referred,
        {"base": {"model": "{folder}", "compare_with": "a/b"}},
        "base.compare_with_revision=step1",
    ),
    "data.tokenizer": (planned, {}, "data.tokenizer={folder}/tokenizer.json"),
    "data.store": (store, {}, "data.store={folder}/another"),
    "data.seq_len": (planned, {}, "data.seq_len=64"),
    "data.packing": (planned, {}, "data.packing=concat"),
    "data.document_mask": (trained, {}, "data.document_mask=false"),
    "data.append_eos": (planned, {}, "data.append_eos=false"),
    "data.shard_tokens": (built, {}, "data.shard_tokens=500"),
    "data.decontaminate": (
        planned,
        {"evals.domain": [LEAK], "data.max_contaminated": 1.0},
        "data.decontaminate=labels",
    ),
    "data.max_contaminated": (
        trained,
        {"evals.domain": [LEAK], "data.decontaminate": ["labels"]},
        "data.max_contaminated=100%",
    ),
    "data.seed": (planned, {}, "data.seed=1"),
    "data.subset": (planned, {}, "data.subset=50%"),
    "data.sources[].name": (planned, {}, f"{SOURCE}.name=mine"),
    "data.sources[].role": (planned, {}, "data.sources.wiki.role=general"),
    "data.sources[].path": (planned, {}, f"{SOURCE}.path={{tiny}}/retention.jsonl"),
    "data.sources[].hub": (planned, HUB, f"{SOURCE}.hub={{folder}}/hub2"),
    "data.sources[].config": (planned, HUB, f"{SOURCE}.config=small"),
    "data.sources[].split": (planned, HUB, f"{SOURCE}.split=test"),
    "data.sources[].revision": (planned_or_refused, HUB, f"{SOURCE}.revision=main"),
    "data.sources[].take": (planned, {}, f"{SOURCE}.take=2000"),
    "data.sources[].format": (planned, {}, f"{SOURCE}.format=prompt_response"),
    "data.sources[].prompt_column": (built, CHAT, f"{SOURCE}.prompt_column=text2"),
    "data.sources[].response_column": (built, CHAT, f"{SOURCE}.response_column=text2"),
    "data.sources[].system_column": (built, CHAT, f"{SOURCE}.system_column=text2"),
    "data.sources[].text_column": (planned, {}, f"{SOURCE}.text_column=text2"),
    "data.sources[].id_column": (built, {}, f"{SOURCE}.id_column=id2"),
    "data.sources[].max_epochs": (trained, {}, f"{SOURCE}.max_epochs=0.1"),
    "data.sources[].heldout": (planned, {}, f"{SOURCE}.heldout=20%"),
    "data.sources[].max_bad": (
        trained,
        {"data.sources.own.path": "{folder}/bad.jsonl"},
        f"{SOURCE}.max_bad=5%",
    ),
    "data.sources[].max_doc_bytes": (
        built,
        {"data.sources.own.max_bad": 1.0},
        f"{SOURCE}.max_doc_bytes=380",
    ),
    "mix.unit": (planned, {}, "mix.unit=tokens"),
    "mix.general": (planned, {}, "mix.general=0.5"),
    "mix.weights": (planned, {"data.sources": TWO_GENERAL}, "mix.weights={web: 1, wiki: 9}"),
    "schedule.tokens": (planned, {}, "schedule.tokens=2560"),
    "schedule.tokens_of": (planned, {"schedule.tokens": 2048}, "schedule.tokens_of=domain"),
    "schedule.batch_tokens": (planned, {}, "schedule.batch_tokens=512"),
    "schedule.peak_lr": (trained, {}, "schedule.peak_lr=0.001"),
    "schedule.warmup": (trained, {}, "schedule.warmup=0.5"),
    "schedule.anneal": (trained, {}, "schedule.anneal=0.5"),
    "schedule.anneal_shape": (trained, {}, "schedule.anneal_shape=cosine"),
    "schedule.final_lr_ratio": (trained, {}, "schedule.final_lr_ratio=0.1"),
    "schedule.phases.*.token_fraction": (
        planned,
        {"schedule.phases": {"late": {"token_fraction": 0.25, "general": 0.75}}},
        "schedule.phases.late.token_fraction=0.5",
    ),
    "schedule.phases.*.general": (planned, {}, "schedule.phases={anneal: {general: 0.75}}"),
    "schedule.phases.*.weights": (
        planned,
        {"data.sources": TWO_GENERAL},
        "schedule.phases={anneal: {weights: {web: 1, wiki: 9}}}",
    ),
    "train.zero": (trained, {"train.grad_clip": 0.01}, "train.zero=0"),
    "train.precision": (trained, {}, "train.precision=bf16"),
    "train.ranks": (launched, {}, "train.ranks=3"),
    "train.nodes": (launched, {}, "train.nodes=2"),
    "train.hostfile": (hosted, {}, "train.hostfile={folder}/hosts"),
    "train.micro_batch_rows": (trained, {}, "train.micro_batch_rows=8"),
    "train.weight_decay": (trained, {}, "train.weight_decay=0.5"),
    "train.beta1": (trained, {}, "train.beta1=0.5"),
    "train.beta2": (trained, {}, "train.beta2=0.5"),
    "train.eps": (trained, {}, "train.eps=0.01"),
    "train.grad_clip": (trained, {}, "train.grad_clip=0.01"),
    "train.z_loss": (trained, {}, "train.z_loss=0.01"),
    "train.seed": (trained, {}, "train.seed=1"),
    "train.checkpoint_tokens": (trained, {}, "train.checkpoint_tokens=512"),
    "train.keep_last": (trained, {"train.checkpoint_tokens": 512}, "train.keep_last=1"),
    "train.eval_tokens": (watched, {}, "train.eval_tokens=1024"),
    "train.attention": (trained, {}, "train.attention=flex"),
    "train.cross_entropy": (recomputed, {}, "train.cross_entropy=chunked"),
    "train.activation_checkpointing": (recomputed, {}, "train.activation_checkpointing=true"),
    "train.offload_optimizer": (engine_json, {}, "train.offload_optimizer=true"),
    "train.compile": (surroundings, {}, "train.compile=true"),
    "train.tensorboard": (watched, {}, "train.tensorboard=true"),
    "train.peak_tflops": (watched, {}, "train.peak_tflops=0.001"),
    "train.timeout_minutes": (patient, {}, "train.timeout_minutes=1"),
    "train.device": (launched, {}, "train.device=cpu"),
    "train.stop_minutes": (launched, {}, "train.stop_minutes=5"),
    "train.max_skipped_steps": (
        trained,
        {"base": {"model": "{folder}/broken"}},
        "train.max_skipped_steps=3",
    ),
    "train.deepspeed": (engine_json, {}, "train.deepspeed={wall_clock_breakdown: true}"),
    "evals.batch_tokens": (measured, {}, "evals.batch_tokens=64"),
    "evals.bpb_tokens": (measured, {}, "evals.bpb_tokens=10"),
    "evals.bootstrap": (measured, {}, "evals.bootstrap=60"),
    "evals.mmlu.path": (measured, {"evals.mmlu": None}, f"evals.mmlu={EXAM}"),
    "evals.mmlu.hub": (exam_asked, {"evals.mmlu.hub": "{folder}"}, "evals.mmlu.hub={tiny}"),
    "evals.mmlu.revision": (exam_asked, {"evals.mmlu.hub": "{folder}"}, "evals.mmlu.revision=v1"),
    "evals.mmlu.shots": (measured, {}, "evals.mmlu.shots=1"),
    "evals.mmlu.limit_per_subject": (measured, {}, "evals.mmlu.limit_per_subject=2"),
    "evals.mmlu.scorer": (measured, {}, "evals.mmlu.scorer=lm_eval"),
    "evals.mmlu.generative": (measured, {}, "evals.mmlu.generative=true"),
    "evals.mmlu.items": (measured, {}, "evals.mmlu.items={folder}/items.jsonl"),
    "evals.domain[].name": (measured, {}, "evals.domain.labels.name=other"),
    "evals.domain[].path": (measured, {}, "evals.domain.labels.path={folder}/test2.jsonl"),
    "evals.domain[].prompt_column": (measured, {}, "evals.domain.labels.prompt_column=other"),
    "evals.domain[].label_column": (measured, {}, "evals.domain.labels.label_column=more"),
    "evals.domain[].template": (measured, {}, "evals.domain.labels.template='{other} is'"),
    "evals.domain[].labels": (
        measured,
        {"evals.domain": [TASK | {"likelihood": True}]},
        "evals.domain.labels.labels={folder}/labels.txt",
    ),
    "evals.domain[].likelihood": (measured, {}, "evals.domain.labels.likelihood=true"),
    "evals.domain[].stop": (measured, {}, "evals.domain.labels.stop=end"),
    "evals.domain[].fixed_precision": (measured, {}, "evals.domain.labels.fixed_precision=0.5"),
    "evals.domain[].metric": (measured, {}, "evals.domain.labels.metric=label_path"),
    "evals.domain[].max_new_tokens": (measured, {}, "evals.domain.labels.max_new_tokens=2"),
    "evals.domain[].limit": (measured, {}, "evals.domain.labels.limit=2"),
    "evals.lm_eval[].name": (measured, NAMED, "evals.lm_eval.arc_easy.name=hellaswag"),
    "evals.lm_eval[].path": (measured, NAMED, "evals.lm_eval.arc_easy.path={folder}/choice2.jsonl"),
    "evals.lm_eval[].fewshot_path": (
        measured,
        {"evals.lm_eval": [CHOICE | {"shots": 2, "fewshot_path": "{folder}/choice.jsonl"}]},
        "evals.lm_eval.arc_easy.fewshot_path={folder}/choice2.jsonl",
    ),
    "evals.lm_eval[].shots": (
        measured,
        {"evals.lm_eval": [CHOICE | {"shots": 2, "fewshot_path": "{folder}/choice.jsonl"}]},
        "evals.lm_eval.arc_easy.shots=1",
    ),
    "evals.lm_eval[].nltk_data": (
        sentences_asked,
        {"evals.lm_eval": [{"name": "ifeval"}]},
        "evals.lm_eval.ifeval.nltk_data={folder}",
    ),
    "evals.lm_eval[].limit": (measured, NAMED, "evals.lm_eval.arc_easy.limit=2"),
    "budget.mmlu_points": (swept, SWEEP | {"evals.mmlu.path": "{folder}"}, "budget.mmlu_points=1"),
    "budget.tasks": (swept, SWEEP | {"evals.domain": [TASK]}, "budget.tasks={labels: 5}"),
    "budget.domain_f1": (swept, SWEEP | {"evals.domain": [TASK]}, "budget.domain_f1=0.05"),
    "budget.retention_bpb": (swept, SWEEP, "budget.retention_bpb=0.1"),
    "sweep.general": (swept, SWEEP, "sweep.general=[0, 0.5]"),
    "sweep.seeds": (swept, SWEEP, "sweep.seeds=[0, 1]"),
    "sweep.over": (swept, SWEEP, "sweep.over={schedule.peak_lr: [0.001, 0.002]}"),
    "sweep.budgets": (swept, SWEEP, "sweep.budgets=[1, 0.5]"),
    "sweep.full_tokens": (repeated, SWEEP, "sweep.full_tokens=10K"),
    "sweep.average": (merged, SWEEP, "sweep.average=[2, 3]"),
    "sweep.merge": (merged, SWEEP, "sweep.merge=[0.25, 0.5]"),
    "sweep.saturation": (swept, SWEEP, "sweep.saturation=0.75"),
}


def leaves() -> set[str]:
    """Every key of a recipe that is no section."""
    found = {
        f"{path}.{name}".lstrip(".")
        for path, model in sections(Recipe, "")
        for name in model.model_fields
    }
    inside = {path for path, _ in sections(Recipe, "")}
    holders = {path.split("[")[0].removesuffix(".*") for path in inside}
    return found - inside - holders


def test_every_field_has_a_case() -> None:
    assert leaves() == set(CASES)


@pytest.mark.parametrize("field", CASES)
def test_field_changes_what_it_should(field: str, tiny: Path, folder: Path) -> None:
    observe, extra, change = CASES[field]
    places = {"{tiny}": str(tiny), "{folder}": str(folder)}
    overrides = [filled(f"{key}={json.dumps(value)}", places) for key, value in extra.items()]
    if observe is measured:
        save_model(tiny, folder)
        overrides = [filled(f"evals={json.dumps(EVALS)}", places), *overrides]
    if any(name in json.dumps(extra) for name in ("/start", "/broken")):
        save_start(tiny, folder)
    before = observe(recipe(tiny, folder, "before", overrides), folder / "before")
    overrides.append(filled(change, places))
    assert before != observe(recipe(tiny, folder, "after", overrides), folder / "after")


def filled(text: str, places: dict[str, str]) -> str:
    for mark, path in places.items():
        text = text.replace(mark, path)
    return text


def recipe(tiny: Path, folder: Path, which: str, overrides: list[str]) -> Recipe:
    (folder / which).mkdir()
    train = {"zero": 2, "precision": "fp32", "ranks": 1, "micro_batch_rows": 2}
    tree = tiny_recipe(tiny, folder / which, train=train)
    tree["data"]["sources"][0]["path"] = str(folder / "domain.jsonl")
    return parse_recipe(tree, overrides)


def save_model(tiny: Path, folder: Path) -> None:
    config = AutoConfig.for_model(**ARCHITECTURE, vocab_size=401, eos_token_id=0, bos_token_id=None)
    torch.manual_seed(0)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(tiny / "tokenizer.json"), eos_token="<|endoftext|>"
    )
    model: Any = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():  # line breaks often win
        model.lm_head.weight[tokenizer.encode("\n")[0]] *= -4
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")


def save_start(tiny: Path, folder: Path) -> None:
    """A finished run to start from, and its export with weights that are not numbers."""
    start = recipe(tiny, folder, "start_run", [])
    trained(start, folder)
    run_folder(start).rename(folder / "start")
    export = folder / "start/export"
    model = AutoModelForCausalLM.from_pretrained(export)
    with torch.no_grad():
        next(model.parameters())[:] = float("nan")
    model.save_pretrained(folder / "broken")
    AutoTokenizer.from_pretrained(export).save_pretrained(folder / "broken")
