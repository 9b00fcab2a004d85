"""What is erased is nowhere in the store, stays away, and moves nothing else."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from ingest_helpers import a_source, build, built, random_texts, write_jsonl, write_texts
from tiny import tiny_recipe, write_recipe

from alloy.planning.planning import Planned, plan_recipe
from alloy.runs.building import build_recipe
from alloy.runs.erasing import erase_documents
from alloy.runs.evaluation import eval_documents
from alloy.runs.training import corpus_receipt
from configs import Recipe, UserError
from configs.load import parse_recipe
from mixing.building import wipe
from mixing.building.erasing import erase, finish
from mixing.building.wipe import unfinished
from mixing.store import erasures
from mixing.store.erasures import Erasure, add_erasures, hashed_id, load_erasures
from mixing.store.store import SourceReader, open_source, verify_source
from mixing.tokens import encode
from mixing.tokens.tokenizer import Encoder, load_tokenizer

SECRET = "stone river cloud amber window paper signal garden zanzibar-quixotic winter copper"
SECRET_ID = "person-4711"
OTHER_ID = "person-0815"


def quiet(_: str) -> None:
    pass


@pytest.fixture
def tree(tiny: Path, tmp_path: Path) -> dict[str, Any]:
    """The tiny recipe with a secret in its domain source, a copy of it in the general one and in
    the retention text, an eval that quotes it, and bad rows that show its id."""
    made = tiny_recipe(tiny, tmp_path)
    for source in made["data"]["sources"]:
        lines = Path(source["path"]).read_text().splitlines()
        own_id = SECRET_ID if source["name"] == "own" else f"copy-in-{source['name']}"
        lines.insert(7, json.dumps({"id": own_id, "text": SECRET}))
        if source["name"] == "own":
            lines.insert(3, json.dumps({"id": SECRET_ID, "text": None, "note": SECRET}))
            source |= {"max_bad": "5%", "heldout": "10%"}
        path = tmp_path / f"{source['name']}.jsonl"
        path.write_text("\n".join(lines) + "\n")
        source |= {"path": str(path), "max_epochs": 50}
    (tmp_path / "test.jsonl").write_text(json.dumps({"prompt": SECRET, "label": "x"}) + "\n")
    made["evals"] = {"domain": [{"name": "quote", "path": str(tmp_path / "test.jsonl")}]}
    made["data"] |= {"decontaminate": ["quote"], "max_contaminated": "5%"}
    return made


def made(tree: dict[str, Any], *overrides: str) -> tuple[Recipe, Planned]:
    recipe = parse_recipe(tree, overrides)
    build_recipe(recipe, quiet)
    return recipe, plan_recipe(recipe)


def where_found(store: Path, tree: dict[str, Any]) -> set[str]:
    """Files below the store that hold the secret's id or text, as text or as token ids."""
    tokenizer = load_tokenizer(tree["data"]["tokenizer"])
    ids, _ = Encoder(tokenizer, "tokenizers").encode([SECRET])
    wanted = [SECRET.encode(), SECRET_ID.encode(), b"zanzibar", b"copy-in-"]
    wanted += [ids.astype(dtype).tobytes() for dtype in ("<u2", "<u4")]
    found = set()
    for path in store.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            if "ids.zst" in path.name:
                data = zstandard.ZstdDecompressor().stream_reader(
                    data, read_across_frames=True
                ).read()  # fmt: skip
            if any(part in data for part in wanted):
                found.add(path.relative_to(store).as_posix())
    return found


def kinds(found: set[str]) -> set[str]:
    return {path.split("/")[-1].split("-")[0] if "tokens-" in path else path.split("/")[-1]
            for path in found if not path.startswith(".")} | {
            path.split("/")[0] for path in found if path.startswith(".")}  # fmt: skip


def sources_of(store: Path) -> list[SourceReader]:
    return [open_source(store, path.parent.name) for path in store.glob("[!.]*/manifest.json")]


def test_nothing_of_it_is_left_anywhere_in_the_store(tree: dict[str, Any], tmp_path: Path) -> None:
    store = tmp_path / "store"
    made(tree)
    recipe, _ = made(tree, "data.shard_tokens=500")
    refused = parse_recipe(tree, ["data.sources.own.max_bad=0"])
    with pytest.raises(UserError, match="rows are bad"):
        build_recipe(refused, quiet)
    before = kinds(where_found(store, tree))
    assert before >= {"tokens", "ids.zst", "quarantine.jsonl", ".decontaminated", ".refused"}
    wiped = erase_documents(recipe, [SECRET_ID], quiet)
    assert sorted(part.source for part in wiped) == ["own", "own", "web", "web", "wiki", "wiki"]
    assert where_found(store, tree) == set()
    readers = sources_of(store)
    assert len(readers) == 6
    for reader in readers:
        assert verify_source(store, reader.key) == unfinished(store, reader.key) == []
    assert erase_documents(recipe, [SECRET_ID], quiet) == []


def test_it_does_not_come_back(tree: dict[str, Any], tmp_path: Path) -> None:
    store = tmp_path / "store"
    recipe, before = made(tree)
    erase_documents(recipe, [SECRET_ID], quiet)
    for reader in sources_of(store):
        shutil.rmtree(reader.folder)
    _, again = made(tree)
    assert where_found(store, tree) == set()
    assert again.plan.hash == before.plan.hash
    made(tree, "data.append_eos=false")  # another key of the same input
    assert where_found(store, tree) == set()
    for reader in sources_of(store):
        assert verify_source(store, reader.key) == unfinished(store, reader.key) == []


def test_every_other_token_keeps_its_position(tree: dict[str, Any]) -> None:
    # Without the eval, or the secret would not be trained on in the first place.
    changes = ["data.decontaminate=[]", "data.sources.own.heldout=0", "schedule.tokens=100K"]
    recipe, before = made(tree, *changes)
    old = [before.rows().row(position) for position in range(before.plan.rows)]
    assert before.corpus is not None
    document = before.corpus.readers["own"].find_id(SECRET_ID)[0]
    erase_documents(recipe, [SECRET_ID], quiet)
    after = plan_recipe(recipe)
    assert after.plan == before.plan
    assert after.corpus is not None
    reader, hidden = after.rows(), 0
    pad = after.tokenizer.eos_id
    for position, row in enumerate(old):
        new = reader.row(position)
        gone = (new.segments == -1) & (row.segments != -1)
        hidden += int(gone.sum())
        assert (new.input_ids[gone] == pad).all()
        assert (new.labels[gone] == -100).all()
        for name in ("input_ids", "labels", "segments", "position_ids"):
            assert np.array_equal(getattr(new, name)[~gone], getattr(row, name)[~gone]), name
    length = int(after.corpus.readers["own"].lengths[document])
    assert hidden > 0
    assert hidden % length == 0
    found = corpus_receipt(after)
    assert found["ok"], found["problems"]
    assert found["erased_documents"] == {"own": 1, "web": 1, "wiki": 1}
    ledgers = found["packing"]
    assert {name: ledger["balanced"] for name, ledger in ledgers.items()} == dict.fromkeys(
        ledgers, True
    )
    assert ledgers["own"]["documents"]["erased"] == 1
    assert ledgers["own"]["tokens"]["erased"] == length


@pytest.mark.parametrize("source", ["own", "wiki"])
def test_held_out_and_retention_text_is_not_measured_on(source: str, tree: dict[str, Any]) -> None:
    recipe, before = made(tree)
    old = list(eval_documents(before, 10**6))
    victim = next(d for d in old if d.source == source and d.id != "copy-in-wiki")
    erase_documents(recipe, [victim.id], quiet)
    new = list(eval_documents(plan_recipe(recipe), 10**6))
    assert [(d.source, d.id) for d in new] == [
        (d.source, d.id) for d in old if (d.source, d.id) != (source, victim.id)
    ]


def test_the_list_alone_keeps_it_from_being_trained_on(
    tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed right after the list was written, or before or after the manifest is replaced."""
    store = tmp_path / "store"
    recipe, before = made(tree)
    with monkeypatch.context() as patch:
        patch.setattr("mixing.building.erasing.finish", lambda *_: [])
        erase_documents(recipe, [SECRET_ID], quiet)
    assert where_found(store, tree)
    waiting = plan_recipe(recipe)
    assert waiting.plan.hash == before.plan.hash
    assert waiting.corpus is not None
    assert waiting.corpus.erased == {"own": 1, "web": 1, "wiki": 1}
    assert [len(unfinished(store, r.key)) for r in sources_of(store)] == [1, 1, 1]
    for stage in (f"{wipe.__name__}.replace_file", f"{wipe.__name__}._remove_superseded"):
        with monkeypatch.context() as patch:
            patch.setattr(stage, killed_on_second_call(getattr(wipe, stage.split(".")[-1])))
            with pytest.raises(KeyboardInterrupt):
                finish(store, load_erasures(store), quiet)
        for reader in sources_of(store):  # each opens, and holds what its manifest says
            assert all("not part of" in line for line in verify_source(store, reader.key))
    told = build_recipe(recipe, quiet)
    assert all(report.reused for report in told)
    assert where_found(store, tree) == set()
    assert all(verify_source(store, reader.key) == [] for reader in sources_of(store))


def killed_on_second_call(function: Callable[..., Any]) -> Callable[..., Any]:
    calls = []

    def wrapped(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return function(*arguments)

    return wrapped


def test_an_id_that_is_nowhere_erases_nothing(tree: dict[str, Any], tmp_path: Path) -> None:
    recipe, _ = made(tree)
    with pytest.raises(UserError, match=f"no document has the id '{OTHER_ID}'; nothing"):
        erase_documents(recipe, [SECRET_ID, OTHER_ID], quiet)
    assert not load_erasures(tmp_path / "store")
    assert where_found(tmp_path / "store", tree)


def test_the_list_holds_no_id_and_no_text(tree: dict[str, Any], tmp_path: Path) -> None:
    recipe, _ = made(tree)
    erase_documents(recipe, [SECRET_ID], quiet)
    text = (tmp_path / "store" / erasures.LIST).read_text()
    assert SECRET_ID not in text
    assert "zanzibar" not in text
    assert hashed_id(SECRET_ID) in text


def test_a_row_that_was_only_quarantined_stays_away(tmp_path: Path) -> None:
    store = tmp_path / "store"
    rows = [{"id": 1, "text": "the court"}, {"id": 12, "text": "the court may order costs"}]
    source = a_source(write_jsonl(tmp_path / "a.jsonl", rows), max_doc_bytes=12, max_bad=1.0)
    reader = built(store, source)
    assert b"may order" in reader.path("quarantine.jsonl").read_bytes()
    with pytest.raises(UserError, match="'2'"):
        erase(store, [(source, reader)], ["2"], quiet)
    erase(store, [(source, reader)], ["12"], quiet)
    assert not [p for p in store.rglob("*") if p.is_file() and b"may order" in p.read_bytes()]
    larger = built(store, a_source(tmp_path / "a.jsonl"))
    assert load_erasures(store).documents(larger).tolist() == [1]
    assert not larger.tokens(1).any()
    assert larger.tokens(0).any()


QUARANTINED = {
    "a.csv": (b"text,id,more\nfine,d0,x\nzanzibar,d1,x,y\nzan\xff,d2,x\n,d3,zanzibar\n", "d"),
    "a.tsv": (b"id\ttext\nd0\tfine\nd1\tzanzibar\ty\nd2\tzan\xff\nd3\t\n", "d"),
    "a.jsonl": (
        b'{"id": 100, "text": "fine"}\n{"text": null, "more": "zanzibar%s", "id": 101}\n'
        b'{"text": "", "id": 102}\n{"id": 103, "text": 4, "more": "zanzibar"}\n' % (b"x" * 300),
        "10",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", QUARANTINED)
def test_quarantined_rows_are_erased_by_id_in_every_format(name: str, tmp_path: Path) -> None:
    content, prefix = QUARANTINED[name]
    (tmp_path / name).write_bytes(content)
    store, source = tmp_path / "store", a_source(tmp_path / name, max_bad=1.0)
    reader = built(store, source)
    rows = [json.loads(line) for line in reader.path("quarantine.jsonl").read_text().splitlines()]
    assert [row.get("id") for row in rows] == [f"{prefix}{i}" for i in (1, 2, 3)]
    erase(store, [(source, reader)], [f"{prefix}{i}" for i in (1, 2, 3)], quiet)
    assert [entry.line for entry in load_erasures(store).entries] == [row["line"] for row in rows]
    after = open_source(store, reader.key).path("quarantine.jsonl").read_text()
    assert not any(sign in after for sign in ("zan", f'{prefix}1"', f'{prefix}2"', f'{prefix}3"'))
    anew = built(tmp_path / "store", source, shard_tokens=99)  # a new build reads the rows again
    again = [json.loads(line) for line in anew.path("quarantine.jsonl").read_text().splitlines()]
    assert all(row["excerpt"] == "" and "id" not in row for row in again)


@pytest.mark.parametrize("seed", range(6))
def test_wiping_and_building_anew_end_with_the_same_source(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over many frames of ids and many shards, in several erasures."""
    monkeypatch.setattr(encode, "IDS_PER_FRAME", 7)
    rng = random.Random(seed)
    texts = [f"{text} {i}" for i, text in enumerate(random_texts(seed, 60))]
    path = write_texts(tmp_path / "a.jsonl", texts)
    source, options = a_source(path), {"shard_tokens": 200}
    whole = built(tmp_path / "one", source, **options)
    victims = sorted(rng.sample(range(60), rng.choice([1, 5, 20])))
    for part in (victims[::2], victims[1::2]):
        ids = [f"d{i}" for i in part]
        if ids:
            reader = open_source(tmp_path / "one", whole.key)
            erase(tmp_path / "one", [(source, reader)], ids, quiet)
    wiped = open_source(tmp_path / "one", whole.key)
    add_erasures(tmp_path / "two", load_erasures(tmp_path / "one").entries)
    anew = built(tmp_path / "two", source, **options)
    original = built(tmp_path / "three", source, **options)
    for reader in (wiped, anew):
        assert reader.manifest["erased"] == victims
        assert verify_source(reader.folder.parent, reader.key) == []
        for i in range(60):
            if i in victims:
                assert not reader.tokens(i).any()
                assert reader.provenance(i).id == f"a.jsonl:{i + 1}"
                assert reader.find_id(f"d{i}") == []
            else:
                assert np.array_equal(reader.tokens(i), original.tokens(i))
                assert reader.provenance(i).id == f"d{i}"
                assert reader.find_id(f"d{i}") == [i]
    assert build(tmp_path / "one", source, **options).reused


def test_a_reader_from_before_says_what_happened(tmp_path: Path) -> None:
    source = a_source(write_texts(tmp_path / "a.jsonl", random_texts(1, 20)))
    reader = built(tmp_path / "store", source)
    erase(tmp_path / "store", [(source, reader)], ["d3"], quiet)
    with pytest.raises(UserError, match="erasure"):
        reader.tokens(0)


def test_a_damaged_list_stops_everything(tmp_path: Path) -> None:
    source = a_source(write_texts(tmp_path / "a.jsonl", random_texts(1, 20)))
    add_erasures(tmp_path / "store", [Erasure("x", 1, 2, "y", 3)])
    (tmp_path / "store" / erasures.LIST).write_text("{")
    with pytest.raises(UserError, match=r"\.erased\.json: cannot be read"):
        build(tmp_path / "store", source)


def test_the_command(tree: dict[str, Any], tmp_path: Path, alloy: Callable[..., Any]) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", tree)
    assert alloy("corpus", "erase", recipe, "--doc", SECRET_ID).returncode == 2
    assert alloy("build", recipe).returncode == 0
    done = alloy("corpus", "erase", recipe, "--doc", SECRET_ID, "--doc", "general-3", "--json")
    assert done.returncode == 0, done.stderr
    counts = {part["source"]: part["documents"] for part in json.loads(done.stdout)["erased"]}
    assert counts == {"own": 1, "web": 2, "wiki": 1}
    assert where_found(tmp_path / "store", tree) == set()
    verified = alloy("corpus", "verify", recipe, "--deep")
    assert verified.returncode == 0, verified.stderr
    assert "web: 2 erased" in verified.stdout
    traced = alloy("corpus", "trace", recipe, "--doc", SECRET_ID)
    assert traced.returncode == 2
    assert "was erased" in traced.stderr
