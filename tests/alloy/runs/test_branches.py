"""Branches from a checkpoint of a trunk, and runs whose future is changed."""

import json
import random
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from one_rank import joined, rows_of, train_and_stop, train_here
from tiny import tiny_recipe

from alloy.planning.planning import plan_recipe
from alloy.planning.start_matrix import start_lines, warm_steps_needed, warmup_percent
from alloy.runs.extending import warmup_hint
from alloy.runs.training import prepare_run
from checkpoints.folder import MANIFEST, chosen, step_name, steps
from checkpoints.tensors import WEIGHTS, read_tensors
from configs import Data, Mix, Schedule, UserError
from configs.load import parse_recipe
from mixing.blend.cursors import carried_on, cursors_at
from mixing.blend.phases import bounds_of_steps
from mixing.blend.plan import Plan, PlanSource, compile_plan
from mixing.blend.seek import Order
from pretrain.job import write_job
from pretrain.run_folder import never_trained

STEP_TOKENS = 8 * 32
PEAK = 0.003


@pytest.fixture(scope="module", autouse=True)
def one_rank() -> Iterator[None]:
    with joined():
        yield


def schedule(steps: int, warmup: float = 0.0, anneal: float = 0.0, **keys: Any) -> dict[str, Any]:
    lengths = {"tokens": steps * STEP_TOKENS, "batch_tokens": STEP_TOKENS}
    return {**lengths, "peak_lr": PEAK, "warmup": warmup, "anneal": anneal, **keys}


def trunk_recipe(tiny: Path, home: Path, **sections: Any) -> dict[str, Any]:
    """12 steps, 3 of them warm-up, saved at each third step."""
    train = {"zero": 2, "precision": "fp32", "ranks": 1, "micro_batch_rows": 2}
    train |= {"checkpoint_tokens": 3 * STEP_TOKENS, "keep_last": 9}
    sections = {"schedule": schedule(12, warmup=0.25), "train": train, **sections}
    tree = tiny_recipe(tiny, home, **sections)
    for source in tree["data"]["sources"]:
        source["max_epochs"] = 50
    return {**tree, "name": "trunk"}


def branch_recipe(tiny: Path, home: Path, **base: Any) -> dict[str, Any]:
    start = {"model": str(home / "trunk"), "step": 6, "start": "weights+moments", **base}
    tree = trunk_recipe(tiny, home, base=start, schedule=schedule(5, anneal=1.0))
    return {**tree, "name": "branch", "mix": {"general": 0.5}}


def plan_of(run: Path) -> Plan:
    return Plan.from_json(json.loads((run / "plan.json").read_text()))


def reads(plan: Plan, first: int, count: int) -> Counter[tuple[str, int]]:
    found = Order(plan)
    places = [found.locate(p) for p in range(first, first + count)]
    return Counter((plan.sources[p.source].name, p.row) for p in places)


def test_an_anneal_branch_carries_everything_on(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trunk = train_here(trunk_recipe(tiny, tmp_path), monkeypatch)
    tree = branch_recipe(tiny, tmp_path, data="continued")
    tree["schedule"]["peak_lr"] = "continued"
    branch = train_here(tree, monkeypatch)
    # LR: that of the trunk's sixth step, falling linearly, at every step the closed form.
    assert rows_of(branch, "lr") == pytest.approx(
        [PEAK * (1 - (step + 0.5) / 5) for step in range(5)], rel=1e-12
    )
    # Data: together no row of a source is read a second time before all others were read once.
    plans = plan_of(trunk), plan_of(branch)
    both = reads(plans[0], 0, 6 * 8) + reads(plans[1], 0, 5 * 8)
    for source in plans[1].sources:
        counts = [both[source.name, row] for row in range(source.rows)]
        assert max(counts) - min(counts) <= 1
        assert source.first_use == sum(
            n for (name, _), n in reads(plans[0], 0, 48).items() if name == source.name
        )
    lineage = json.loads((branch / "lineage.json").read_text())
    parent = lineage["parent"]
    assert (parent["step"], parent["phase"], parent["lr"]) == (6, "stable", PEAK)
    assert parent["run"] == str(trunk)
    assert len(parent["manifest_sha256"]) == 64
    assert lineage["tokens_before"] == parent["tokens"] == 6 * STEP_TOKENS
    assert lineage["annealed"]
    receipt = json.loads((branch / "receipt.json").read_text())
    assert receipt["ok"], receipt["problems"]


def test_fresh_data_begins_anew(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trunk = train_here(trunk_recipe(tiny, tmp_path), monkeypatch)
    tree = {**branch_recipe(tiny, tmp_path), "mix": {"general": 0.25}}
    branch = train_here(tree, monkeypatch)
    same = min(plan_of(trunk).phases[0].rows, 40)
    assert reads(plan_of(trunk), 0, same) == reads(plan_of(branch), 0, same)
    assert json.loads((branch / "lineage.json").read_text())["tokens_before"] == 0


def test_a_branch_keeps_its_checkpoint_when_the_trunk_grows(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_here(trunk_recipe(tiny, tmp_path), monkeypatch)
    tree = branch_recipe(tiny, tmp_path, step=None, data="continued")
    branch = train_here(tree, monkeypatch)
    before = (branch / "plan.json").read_text()
    train_here({**trunk_recipe(tiny, tmp_path), "schedule": schedule(15, warmup=0.2)}, monkeypatch)
    train_here(tree, monkeypatch)
    assert (branch / "plan.json").read_text() == before
    assert json.loads((branch / "lineage.json").read_text())["parent"]["step"] == 12


def test_a_grandchild_carries_on_what_its_parent_did_not_read() -> None:
    own, web = source("own", "domain", 50), source("web", "general", 40)
    data, first = compiled([own, web], steps=10, general=0.5)
    cursors = cursors_at(first, Order(first), 40, None)
    child = compile_plan(carried_on([own], cursors, data), data, Mix(general=0), plan_schedule(10))
    after = cursors_at(child, Order(child), 20, cursors)
    read = {name: known["rows_read"] for name, known in after["sources"].items()}
    assert read == {"own": 20 + 20, "web": 20}


def source(name: str, role: str, rows: int, content: str = "") -> PlanSource:
    return PlanSource(name, role, rows, rows * 8, rows * 7, 1000.0, content or name, f"p{rows}")


def plan_schedule(steps: int) -> Schedule:
    return Schedule(tokens=steps * 32, batch_tokens=32, peak_lr=PEAK, warmup=0, anneal=0)


def compiled(sources: list[PlanSource], steps: int, general: float) -> tuple[Data, Plan]:
    listed = [{"name": s.name, "role": s.role, "path": "x"} for s in sources]
    data = Data.model_validate({"seq_len": 8, "sources": listed})
    return data, compile_plan(sources, data, Mix(general=general), plan_schedule(steps))


@pytest.mark.parametrize("seed", range(20))
def test_a_carried_on_source_reads_the_rows_of_a_run_that_never_stopped(seed: int) -> None:
    rng = random.Random(seed)
    sources = [source("own", "domain", rng.randint(1, 60)), source("web", "general", 30)]
    data, whole = compiled(sources, 40, 0.0)
    data, trunk = compiled(sources, 20, 0.0)
    stopped = rng.randint(0, trunk.rows)
    cursors = cursors_at(trunk, Order(trunk), stopped, None)
    branch = compile_plan(
        carried_on(sources, cursors, data), data, Mix(general=0), plan_schedule(15)
    )
    long, short = Order(whole), Order(branch)
    for position in range(branch.rows):
        there, here = long.locate(stopped + position), short.locate(position)
        assert (there.row, there.epoch) == (here.row, here.epoch)
        assert position in short.positions_of(here.source, here.row)
    counts = Counter(long.locate(p).row for p in range(stopped))
    assert short.read_before(0).tolist() == [counts[row] for row in range(sources[0].rows)]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"seed": 1}, "data.seed is 1, the parent was read with 0"),
        ({"seq_len": 16}, "data.seq_len"),
        ({"content": "other text"}, "is not what the parent read"),
        ({"name": "mine"}, "is what the parent read as 'own'"),
        ({"max_epochs": 1.0}, "over its max_epochs"),
    ],
)
def test_what_cannot_be_carried_on_is_refused(change: dict[str, Any], part: str) -> None:
    data, trunk = compiled([source("own", "domain", 50)], 10, 0.0)
    cursors = cursors_at(trunk, Order(trunk), 40, None)
    keys = {"name": "own", "content": "own", **change}
    most = keys.pop("max_epochs", 1000.0)
    known = source(keys["name"], "domain", 50, keys["content"])
    branch = PlanSource(**{**known.__dict__, "max_epochs": most})
    updated = data.model_copy(update={k: v for k, v in change.items() if k in ("seed", "seq_len")})
    with pytest.raises(UserError, match=part):
        compile_plan(
            carried_on([branch], cursors, updated), updated, Mix(general=0), plan_schedule(3)
        )


def test_an_extended_run_equals_one_that_was_long_from_the_start(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = trunk_recipe(tiny, tmp_path)
    tree["train"]["keep_last"] = 1
    run = train_here(tree, monkeypatch)
    longer = {**tree, "schedule": schedule(20, warmup=0.15, anneal=0.25)}
    train_here(longer, monkeypatch)
    whole = train_here({**longer, "name": "whole"}, monkeypatch)
    assert rows_of(run, "loss") == rows_of(whole, "loss")
    ramp = [PEAK * (step + 0.5) / 3 for step in range(3)]
    fall = [PEAK * (1 - (step + 0.5) / 5) for step in range(5)]
    assert rows_of(run, "lr") == pytest.approx([*ramp, *[PEAK] * 12, *fall], rel=1e-12)
    for name, tensor in newest_weights(run).items():
        assert tensor.equal(newest_weights(whole)[name]), name
    # The former end of the run stays: branches may start there.
    assert steps(run / "checkpoints") == [12, 15, 18, 20]
    (extension,) = json.loads((run / "lineage.json").read_text())["extensions"]
    assert extension["at_step"] == 12
    assert extension["changed"]["schedule.tokens"] == [12 * STEP_TOKENS, 20 * STEP_TOKENS]


def contents(run: Path) -> dict[str, bytes]:
    """What the files of a run say; the lock may come and go."""
    return {p.name: p.read_bytes() for p in run.iterdir() if p.is_file() and p.name != ".lock"}


def test_what_a_run_is_compared_with_may_change(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = trunk_recipe(tiny, tmp_path)
    run = train_here(tree, monkeypatch)
    stored = json.loads((run / "recipe.json").read_text())
    for compared in ("runs/other", None):
        stored["base"]["compare_with"] = compared  # as it was stored once
        (run / "recipe.json").write_text(json.dumps(stored))
        tree["base"] |= {"compare_with": "runs/base", "compare_with_revision": "main"}
        assert prepare_run(parse_recipe(tree), print) is None


def newest_weights(run: Path) -> dict[str, Any]:
    return dict(read_tensors(chosen(run), WEIGHTS))


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("schedule.batch_tokens=512", ("new lineage", "schedule.batch_tokens", "step: 12")),
        ("schedule.peak_lr=0.001", ("learning rate", "schedule.peak_lr", "set these back")),
        ("schedule.tokens=5120", ("learning rate", "schedule.warmup 0.15 keeps")),
        ("schedule.tokens=1280", ("has trained 12 steps", "schedule.tokens")),
        ("mix.general=0.5", ("mix.general", "from row 0 on")),
        ("train.weight_decay=0.5", ("other settings", "train.weight_decay")),
        ("data.seed=1", ("other settings", "data.seed")),
    ],
)
def test_another_past_is_refused_with_its_keys(
    override: str,
    parts: tuple[str, ...],
    trunk: Path,
    tiny: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = contents(trunk)
    with pytest.raises(UserError) as refused:
        train_here(trunk_recipe(tiny, trunk.parent), monkeypatch, override)
    told = f"{refused.value.message} {refused.value.hint}"
    assert all(part in told for part in parts), told
    assert contents(trunk) == kept


def test_a_run_that_has_annealed_is_gone_on_from_by_following_the_hint(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = {"zero": 2, "precision": "fp32", "ranks": 1, "micro_batch_rows": 2}
    tree = trunk_recipe(tiny, tmp_path, train=train, schedule=schedule(8, 0.25, anneal=0.25))
    train_here(tree, monkeypatch)
    with pytest.raises(UserError, match=r"step 1 .*learning rate") as refused:
        train_here({**tree, "schedule": schedule(16, 0.25, anneal=0.25)}, monkeypatch)
    assert refused.value.hint.startswith("it began to anneal after step 6")
    base = yaml.safe_load(refused.value.hint.partition("base: ")[2])
    rate = {"peak_lr": "continued", "anneal": 0.25}
    branch = {**tree, "name": "longer", "base": base, "schedule": schedule(10) | rate}
    start = plan_recipe(parse_recipe(branch)).start
    assert start.parent is not None
    assert (start.parent["step"], start.schedule.peak_lr) == (6, PEAK)


def test_a_run_without_warm_up_is_made_longer_by_following_the_hints(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its warm-up was long enough for 12 steps; 60 that begin anew would need one."""
    tree = {**trunk_recipe(tiny, tmp_path), "schedule": schedule(12)}
    run = train_here(tree, monkeypatch)
    assert warm_steps_needed(60) == 1
    kept = contents(run)
    warmed = {**tree, "schedule": schedule(60, warmup=0.02)}
    with pytest.raises(UserError, match="learning rate") as refused:
        train_here(warmed, monkeypatch)
    assert contents(run) == kept
    asked = re.search(r"schedule\.warmup ([\d.e-]+)", str(refused.value.hint))
    assert asked is not None, refused.value.hint
    longer = {**tree, "schedule": schedule(60, warmup=float(asked[1]))}
    recipe = parse_recipe(longer)
    assert start_lines(plan_recipe(recipe), chosen(run))
    train_here(longer, monkeypatch)
    assert rows_of(run, "lr") == [PEAK] * 60
    anew = parse_recipe({**longer, "name": "anew"})
    with pytest.raises(UserError, match="0 steps of warm-up"):
        prepare_run(anew, print)


def test_the_hints_of_the_warm_up_give_the_steps_that_they_name() -> None:
    rng = random.Random(0)
    for _ in range(500):
        steps = rng.randint(50, 3_000_000)
        stable = rng.randint(0, min(steps, 5000))
        needed = warm_steps_needed(steps)
        assert warm_steps(float(warmup_hint(stable, steps)), steps) == stable, (steps, stable)
        assert warm_steps(float(warmup_percent(steps)) / 100, steps) >= needed, steps


def warm_steps(warmup: float, steps: int) -> int:
    asked = Schedule(tokens=1, batch_tokens=1, peak_lr=PEAK, warmup=warmup, anneal=0)
    return {name: length for name, _, length in bounds_of_steps(asked, steps)}.get("warmup", 0)


@pytest.mark.parametrize("name", ["recipe.json", "extensions.json", "plan.json", "lineage.json"])
def test_a_file_that_was_cut_off_is_named(
    name: str, trunk: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By somebody else: what Alloy writes there is whole."""
    run = Path(shutil.copytree(trunk, tmp_path / "trunk"))
    (run / name).write_text('{"tokens": 12')
    longer = {**trunk_recipe(tiny, tmp_path), "schedule": schedule(20, warmup=0.15, anneal=0.25)}
    longer["data"]["store"] = str(trunk.parent / "store")
    with pytest.raises(UserError, match=f"trunk/{name}: not JSON"):
        train_here(longer, monkeypatch)


def test_a_refused_extension_writes_nothing(trunk: Path, tiny: Path, monkeypatch: Any) -> None:
    """Refused by the matrix of starts, after all that is asked about the past was found good."""
    tree = trunk_recipe(tiny, trunk.parent)
    kept = contents(trunk)
    tree["schedule"] = schedule(24, warmup=0.125)
    monkeypatch.setattr("alloy.runs.training.start_lines", refuse)
    with pytest.raises(UserError, match="not this"):
        prepare_run(parse_recipe(tree), print)
    assert contents(trunk) == kept


def refuse(*_: Any) -> None:
    raise UserError("not this", "another")


def test_a_run_that_never_trained_may_be_taken_by_any_settings(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hint of a start that ended before its first step is followed under the same name."""
    tree = {**trunk_recipe(tiny, tmp_path), "schedule": schedule(60)}
    with pytest.raises(UserError, match="0 steps of warm-up"):
        prepare_run(parse_recipe(tree), print)
    run = tmp_path / "trunk"
    assert never_trained(run)
    tree["schedule"] = schedule(4)
    with pytest.MonkeyPatch.context() as patch:  # the ranks refuse, after the folder was taken
        patch.setattr("alloy.runs.training.run_ranks", refuse)
        patch.setattr("one_rank.run_job", refuse)
        with pytest.raises(UserError, match="not this"):
            train_here(tree, patch)
    assert (run / "recipe.json").is_file()
    tree["data"]["seed"] = 5
    train_here(tree, monkeypatch)
    assert json.loads((run / "recipe.json").read_text())["data"]["seed"] == 5
    assert not (run / "extensions.json").exists()
    tree["data"]["seed"] = 6
    with pytest.raises(UserError, match=r"other settings: data\.seed"):
        train_here(tree, monkeypatch)


def test_what_was_trained_once_stays_protected(tmp_path: Path) -> None:
    assert never_trained(tmp_path)
    (tmp_path / "metrics.jsonl").touch()
    (tmp_path / "checkpoints").mkdir()
    assert never_trained(tmp_path)
    for name in ("step_000000003", "step_000000003.incomplete"):
        (tmp_path / "checkpoints" / name).mkdir()
        assert not never_trained(tmp_path)
        (tmp_path / "checkpoints" / name).rmdir()
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    assert not never_trained(tmp_path)


@pytest.fixture(scope="module")
def trunk(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished trunk that tests only read."""
    with pytest.MonkeyPatch.context() as patch:
        yield train_here(trunk_recipe(tiny, tmp_path_factory.mktemp("trunk")), patch)


@pytest.mark.parametrize(
    ("base", "part"),
    [
        ({"step": 7}, "there are: 3, 6, 9, 12"),
        ({"model": "{export}", "step": 3}, "is no Alloy run"),
        ({"model": "{export}", "data": "continued"}, "is no Alloy run"),
        ({"model": "{export}"}, "is no Alloy run"),
    ],
)
def test_bases_that_cannot_be_branched_from(
    base: dict[str, Any],
    part: str,
    trunk: Path,
    tiny: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = {"step": None, **base}
    asked["model"] = str(trunk / "export") if "model" in base else str(trunk)
    tree = branch_recipe(tiny, trunk.parent, **asked)
    with pytest.raises(UserError) as refused:
        train_here(tree, monkeypatch)
    assert part in f"{refused.value.message} {refused.value.hint}"


def test_a_damaged_checkpoint_that_was_asked_for_is_refused_by_name(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train_here(trunk_recipe(tiny, tmp_path), monkeypatch)
    victim = flip(run, 6)
    with pytest.raises(UserError, match=victim.name):
        train_here(branch_recipe(tiny, tmp_path), monkeypatch)
    (victim.parent / MANIFEST).write_text("{")
    with pytest.raises(UserError, match=MANIFEST):
        train_here(branch_recipe(tiny, tmp_path), monkeypatch)


def flip(run: Path, step: int) -> Path:
    """Change one bit of a checkpoint; the file."""
    victim = run / "checkpoints" / step_name(step) / "tensors_00000.safetensors"
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(bytes(data))
    return victim


@pytest.mark.parametrize("gone", ["trunk/checkpoints/step_000000006", "trunk/checkpoints", "trunk"])
def test_a_branch_goes_on_without_its_parent(
    gone: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_and_stop(trunk_recipe(tiny, tmp_path), monkeypatch, after=7)
    tree = branch_recipe(tiny, tmp_path, data="continued")
    tree["schedule"]["peak_lr"] = "continued"
    tree["data"]["tokenizer"] = None
    whole = train_here({**tree, "name": "whole"}, monkeypatch)
    train_and_stop(tree, monkeypatch, after=2)
    shutil.rmtree(tmp_path / gone)
    branch = train_here(tree, monkeypatch)
    assert rows_of(branch, "loss") == rows_of(whole, "loss")
    assert (branch / "plan.json").read_text() == (whole / "plan.json").read_text()
    told = [json.loads((run / "lineage.json").read_text()) for run in (branch, whole)]
    assert told[0] == told[1]
    # And on: a longer schedule is planned from the same cursors.
    longer = {**tree, "schedule": {**schedule(8), "peak_lr": "continued"}}
    with pytest.raises(UserError, match="learning rate"):
        train_here(longer, monkeypatch)


@pytest.mark.parametrize(
    ("gone", "step", "part"),
    [
        ("step_000000006", 6, "there are: 3, 7"),
        ("step_000000007", None, "no checkpoint of step 7; there are: 3, 6"),
        (".", 6, "there are: none"),
    ],
)
def test_a_branch_that_saved_nothing_is_refused_with_what_there_is(
    gone: str,
    step: int | None,
    part: str,
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train_and_stop(trunk_recipe(tiny, tmp_path), monkeypatch, after=7)
    tree = branch_recipe(tiny, tmp_path, step=step)
    job = prepare_run(parse_recipe(tree), lambda _: None)
    assert job is not None
    write_job(job)
    shutil.rmtree(tmp_path / "trunk/checkpoints" / gone)
    with pytest.raises(UserError) as refused:
        train_here(tree, monkeypatch)
    assert part in f"{refused.value.message}; {refused.value.hint}"


@pytest.mark.parametrize("model", ["trunk", "trunk/checkpoints/step_000000006"])
def test_an_unfinished_trunk_gives_its_tokenizer(
    model: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_and_stop(trunk_recipe(tiny, tmp_path), monkeypatch, after=6)
    tree = branch_recipe(tiny, tmp_path, model=str(tmp_path / model))
    tree["data"]["tokenizer"] = None
    branch = train_here(tree, monkeypatch)
    assert (branch / "export/tokenizer.json").is_file()
    # Another tokenizer is refused before anything is tokenized with it.
    other = json.loads((tiny / "tokenizer.json").read_text())
    first, second = list(other["model"]["vocab"])[:2]
    vocab = other["model"]["vocab"]
    vocab[first], vocab[second] = vocab[second], vocab[first]
    (tmp_path / "tokenizer.json").write_text(json.dumps(other))
    tree = {**tree, "name": "other"}
    tree["data"]["tokenizer"] = str(tmp_path / "tokenizer.json")
    with pytest.raises(UserError, match="is not that of the base"):
        prepare_run(parse_recipe(tree), lambda _: None)


def test_a_base_without_a_step_is_the_last_good_one(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train_here(trunk_recipe(tiny, tmp_path), monkeypatch)
    victims = [flip(run, 12), flip(run, 9)]
    tree = branch_recipe(tiny, tmp_path, step=None)
    said: list[str] = []
    job = prepare_run(parse_recipe(tree), said.append)
    assert job is not None
    assert job.base.step == 6
    warnings = [line for line in said if "warning: passed over" in line]
    assert len(warnings) == 2
    assert all(str(v) in line for v, line in zip(victims, warnings, strict=True))
    branch = train_here(tree, monkeypatch)
    assert json.loads((branch / "lineage.json").read_text())["parent"]["step"] == 6


def test_a_trunk_keeps_what_a_branch_is_to_start_from(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trunk = trunk_recipe(tiny, tmp_path)
    trunk["train"]["keep_last"] = 1
    root = train_and_stop(trunk, monkeypatch, after=7)
    assert steps(root) == [7]
    tree = branch_recipe(tiny, tmp_path, step=None)
    job = prepare_run(parse_recipe(tree), lambda _: None)
    assert job is not None
    write_job(job)
    gone = {**branch_recipe(tiny, tmp_path, step=None, start="weights"), "name": "gone"}
    gone["schedule"] = schedule(5, warmup=0.2)
    prepare_run(parse_recipe(gone), lambda _: None)
    train_and_stop(trunk, monkeypatch, after=2)
    assert steps(root) == [7, 9]
    # The one has checkpoints of its own now, the other was given up.
    branch = train_here(tree, monkeypatch)
    assert json.loads((branch / "lineage.json").read_text())["parent"]["step"] == 7
    shutil.rmtree(tmp_path / "gone")
    train_here(trunk, monkeypatch)
    assert steps(root) == [9, 12]


def test_a_trunk_of_others_that_cannot_be_written_to(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_and_stop(trunk_recipe(tiny, tmp_path), monkeypatch, after=3)
    (tmp_path / "trunk/branches").write_text("in the way, as root may write anywhere")
    said: list[str] = []
    tree = branch_recipe(tiny, tmp_path, step=3)
    assert prepare_run(parse_recipe(tree), said.append) is not None
    (told,) = [line for line in said if "branches" in line]
    assert "warning: " in told
    assert "step 3 may be removed" in told
