"""Conversations from files to rows: ledgers, masks in the store, whole in a row, in every count."""

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chat_helpers import CHATML, chat_tokenizer, conversation
from ingest_helpers import a_data, a_source, write_jsonl
from real_corpora import medquad
from tokenizers import Tokenizer

from configs import Data, Mix, Schedule, Source, UserError
from mixing.audit.receipts import receipt
from mixing.blend.plan import Plan, compile_plan, plan_source
from mixing.blend.rows import RowReader
from mixing.building.build import SourceReport, build_source, find_source
from mixing.corpus import Corpus, open_corpus
from mixing.store.store import SourceReader, open_source, verify_source
from mixing.tokens.tokenizer_file import TokenizerFile, load_tokenizer

BAD_MESSAGES: list[tuple[Any, str]] = [
    ({"id": "a"}, "no_messages"),
    ({"messages": "hello"}, "messages_not_a_list"),
    ({"messages": []}, "no_supervised_tokens"),
    ({"messages": ["hello"]}, "message_not_an_object"),
    ({"messages": [{"content": "x"}]}, "unknown_role"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "unknown_role"),
    ({"messages": [{"role": "user", "content": None}]}, "content_not_text"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "content_not_text"),
    ({"messages": [{"role": "user", "content": " \n"}]}, "empty_content"),
    ({"messages": [{"role": "user", "content": "x"}]}, "no_supervised_tokens"),
    (
        {"messages": [{"role": "assistant", "content": "x", "tool_calls": [{"id": "1"}]}]},
        "content_not_text",
    ),
    ({"messages": [{"role": "assistant", "content": "x", "weight": 2}]}, "bad_weight"),
    ({"messages": [{"role": "assistant", "content": "x", "weight": 0}]}, "no_supervised_tokens"),
    (
        {
            "messages": [
                {"role": "user", "content": "\ud800"},
                {"role": "assistant", "content": "x"},
            ]
        },
        "lone_surrogate",
    ),
    (
        {
            "messages": [
                {"role": "user", "content": "x" * 999},
                {"role": "assistant", "content": "x"},
            ]
        },
        "over_max_doc_bytes",
    ),
    (["messages"], "not_an_object"),
    (b'{"messages": [', "bad_json"),
    (b'{"messages": "\xff"}', "bad_utf8"),
]


def build(store: Path, source: Source, tokenizer: TokenizerFile, **data: Any) -> SourceReport:
    return build_source(source, a_data(store, source, **data), tokenizer, 1, lambda _: None)


def supervised_texts(reader: SourceReader, document: int, backend: Tokenizer) -> list[str]:
    flags, ids = reader.supervised(document), reader.tokens(document)
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False)).reshape(-1, 2)
    return [backend.decode(ids[a:b].tolist(), skip_special_tokens=False) for a, b in edges.tolist()]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("seed", [0, 1])
def test_torture_rows_balance(seed: int, workers: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    good = [{"id": f"g{i}", "messages": conversation(rng, odd=True)} for i in range(60)]
    bad = rng.choices(BAD_MESSAGES, k=80)
    rows = [(row, None) for row in good] + bad
    rng.shuffle(rows)
    path = write_jsonl(tmp_path / "chat.jsonl", [row for row, _ in rows])
    source = a_source(path, format="messages", max_bad=1.0, max_doc_bytes=990)
    tokenizer = chat_tokenizer(CHATML)
    data = a_data(tmp_path / "store", source)
    report = build_source(source, data, tokenizer, workers, lambda _: None)
    assert report.ledger_balanced
    assert report.documents_in == 140
    assert report.documents_written == 60
    assert report.dropped == Counter(reason for _, reason in bad)
    reader = open_source(tmp_path / "store", report.key)
    listed = (reader.folder / "quarantine.jsonl").read_text().splitlines()
    where = {row["line"]: row["reason"] for row in map(json.loads, listed)}
    assert where == {i: reason for i, (_, reason) in enumerate(rows, 1) if reason}
    kept = [row for row, reason in rows if reason is None]
    backend = Tokenizer.from_str(tokenizer.json_text)
    assert isinstance(kept[0], dict)
    for document, row in enumerate(kept):
        answers = [m["content"] for m in row["messages"] if m["role"] == "assistant"]
        assert supervised_texts(reader, document, backend) == [a + "<|im_end|>" for a in answers]
        assert reader.provenance(document).id == row["id"]
    assert verify_source(tmp_path / "store", report.key) == []


def test_the_three_schemas_say_the_same(tmp_path: Path) -> None:
    plain = [
        {"system": "Be kind.", "prompt": "Who pays?", "response": "The court."},
        {"system": None, "prompt": "When?", "response": "In time."},
    ]
    turns = [
        [
            *([{"role": "system", "content": r["system"]}] if r["system"] else []),
            {"role": "user", "content": r["prompt"]},
            {"role": "assistant", "content": r["response"]},
        ]
        for r in plain
    ]
    converse = [
        {
            "schemaVersion": "bedrock-conversation-2024",
            "system": [{"text": r["system"]}] if r["system"] else [],
            "messages": [
                {"role": "user", "content": [{"text": r["prompt"]}]},
                {"role": "assistant", "content": [{"text": r["response"]}]},
            ],
        }
        for r in plain
    ]
    files = {
        "prompt_response": write_jsonl(tmp_path / "a.jsonl", plain),
        "messages": write_jsonl(tmp_path / "b.jsonl", [{"messages": t} for t in turns]),
        "converse": write_jsonl(tmp_path / "c.jsonl", converse),
    }
    tokenizer = chat_tokenizer(CHATML)
    found = []
    for name, path in files.items():
        options = {"system_column": "system"} if name == "prompt_response" else {}
        source = a_source(path, name, format=name, **options)
        report = build(tmp_path / "store", source, tokenizer)
        reader = open_source(tmp_path / "store", report.key)
        found.append([(reader.tokens(d).tolist(), reader.supervised(d).tolist()) for d in (0, 1)])
    assert found[0] == found[1] == found[2]


def test_a_plain_source_has_no_masks_and_its_key_knows_no_template(tmp_path: Path) -> None:
    path = write_jsonl(
        tmp_path / "t.jsonl", [{"text": "the court", "prompt": "a", "response": "b"}]
    )
    plain, chat = a_source(path), a_source(path, format="prompt_response")
    keys = {
        (source.format, template): build(tmp_path / "store", source, chat_tokenizer(template)).key
        for source in (plain, chat)
        for template in (None, CHATML)
    }
    assert keys["text", None] == keys["text", CHATML]
    assert len(set(keys.values())) == 3
    reader = open_source(tmp_path / "store", keys["text", None])
    assert not reader.masked
    assert not list(reader.folder.glob("masks.*"))
    assert reader.supervised(0).all()
    with_eos = a_data(tmp_path / "store", chat, append_eos=False)
    assert find_source(chat, with_eos, chat_tokenizer(CHATML)) == keys["prompt_response", CHATML]


def test_a_flipped_mask_is_found(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "t.jsonl", [{"prompt": "a", "response": "b"}])
    report = build(tmp_path / "store", a_source(path, format="prompt_response"), chat_tokenizer())
    runs = tmp_path / "store" / report.key / "masks.runs"
    content = bytearray(runs.read_bytes())
    content[0] ^= 1
    runs.write_bytes(content)
    (problem,) = verify_source(tmp_path / "store", report.key)
    assert "masks.runs" in problem


def chat_corpus(folder: Path, seq_len: int = 64, **options: Any) -> tuple[Data, Corpus, Plan]:
    """Conversations as the domain, one of ten longer than a row, and plain text beside them."""
    rng = random.Random(5)
    turns = [conversation(rng, turns=9 if i % 10 == 0 else 1) for i in range(300)]
    chat = write_jsonl(folder / "chat.jsonl", [{"messages": t} for t in turns])
    texts = [{"text": " ".join(rng.choices(["court", "law", "costs"], k=90))} for _ in range(200)]
    web = write_jsonl(folder / "web.jsonl", texts)
    sources = (
        a_source(chat, "chat", format="messages"),
        a_source(web, "web", role="general"),
    )
    data = a_data(folder / "store", *sources, seq_len=seq_len, **options)
    tokenizer = chat_tokenizer(CHATML)
    keys = {s.name: build_source(s, data, tokenizer, 1, lambda _: None).key for s in sources}
    corpus = open_corpus(data, keys)
    planned = [
        plan_source(n, corpus.sources[n].role, 1e9, keys[n], p) for n, p in corpus.packed.items()
    ]
    schedule = Schedule(tokens=seq_len * 4000, batch_tokens=seq_len * 10, peak_lr=1e-3)
    return data, corpus, compile_plan(planned, data, Mix(general=0.5), schedule)


@pytest.mark.parametrize("packing", ["best_fit", "concat"])
def test_conversations_lie_whole_in_rows_and_only_answers_are_labels(
    packing: str, tmp_path: Path
) -> None:
    _, corpus, plan = chat_corpus(tmp_path, packing=packing)
    packed, reader = corpus.packed["chat"], corpus.readers["chat"]
    assert (packed.start == 0).all()
    assert np.array_equal(packed.length, reader.lengths[packed.document])
    assert np.unique(packed.document).size == packed.document.size
    rows = RowReader(plan, corpus.readers, corpus.packed, pad_id=0)
    chat = [s.name for s in plan.sources].index("chat")
    seen = 0
    for number in range(packed.rows):
        row = rows.read(chat, number)
        naive: list[int] = []
        for piece in range(packed.row_starts[number], packed.row_starts[number + 1]):
            document = int(packed.document[piece])
            ids, flags = reader.tokens(document).tolist(), reader.supervised(document).tolist()
            naive += [i if f else -100 for i, f in zip(ids[1:], flags[1:], strict=True)] + [-100]
        assert row.labels.tolist() == naive + [-100] * (plan.seq_len - len(naive))
        assert int((row.labels >= 0).sum()) == packed.supervised_per_row[number]
        seen += int((row.labels >= 0).sum())
    assert seen == packed.supervised_tokens == int(reader.targets[packed.document].sum())
    some = np.arange(0, packed.rows, 3)
    assert packed.held(some)[1].tolist() == packed.supervised_per_row[some].tolist()


def test_too_long_conversations_are_counted(tmp_path: Path) -> None:
    data, corpus, plan = chat_corpus(tmp_path)
    ledger, lengths = corpus.ledgers["chat"], corpus.readers["chat"].lengths
    assert ledger.balanced
    assert ledger.documents["too_long"] > 10
    assert sum(ledger.documents.values()) == 300
    assert sum(ledger.tokens.values()) == int(lengths.sum())
    assert ledger.tokens["packed"] == corpus.packed["chat"].tokens
    assert ledger.rows * data.seq_len == ledger.tokens["packed"] + ledger.padding
    assert corpus.ledgers["web"].documents["too_long"] == 0  # plain text is cut instead
    rows = RowReader(plan, corpus.readers, corpus.packed, pad_id=0)
    account = receipt(plan, rows, 1000, read_rows=None, ledgers=corpus.ledgers)
    assert account["ok"], account["problems"]
    assert account["packing"]["chat"]["documents"] == ledger.documents
    broken = {"chat": replace(ledger, balanced=False)}
    assert not receipt(plan, rows, 1000, read_rows=0, ledgers=broken)["ok"]
    with pytest.raises(UserError, match="none of its conversations fits into a row of 8"):
        open_corpus(data.model_copy(update={"seq_len": 8}), keys_of(corpus))


def keys_of(corpus: Corpus) -> dict[str, str]:
    return {name: reader.key for name, reader in corpus.readers.items()}


def test_shares_count_supervised_tokens(tmp_path: Path) -> None:
    _, corpus, plan = chat_corpus(tmp_path)
    rows = RowReader(plan, corpus.readers, corpus.packed, pad_id=0)
    seen = Counter[str]()
    for position in range(plan.rows):
        row = rows.row(position)
        seen[plan.sources[row.source].name] += int((row.labels >= 0).sum())
    assert abs(seen["chat"] / seen.total() - 0.5) < 0.002
    planned = sum(s.supervised_tokens for p in plan.phases for s in p.sources if s.name == "chat")
    assert abs(planned - seen["chat"]) < 0.01 * planned


def test_erased_conversations_have_no_targets(tmp_path: Path) -> None:
    _, corpus, _ = chat_corpus(tmp_path)
    packed = corpus.packed["chat"]
    erased = packed.without(packed.document[:5])
    assert erased.hash == packed.hash
    gone = int(corpus.readers["chat"].targets[packed.document[:5]].sum())
    assert erased.supervised_tokens == packed.supervised_tokens - gone
    every = np.arange(packed.rows)
    assert erased.held(every)[1].tolist() == erased.supervised_per_row.tolist()


def test_hash_of_the_rows_covers_the_masks(tmp_path: Path) -> None:
    _, corpus, _ = chat_corpus(tmp_path)
    packed, targets = corpus.packed["chat"], corpus.readers["chat"].targets
    assert packed.hash == replace(packed, targets=None).with_masks(targets, packed.mask_hash).hash
    assert packed.hash != replace(packed, mask_hash="other").hash
    assert packed.hash != replace(packed, targets=None).hash


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2", "olmo2", "pythia_20b"])
def test_medquad_answers_are_what_is_supervised(
    name: str, shared_data: Path, tmp_path: Path
) -> None:
    path = medquad(shared_data, tmp_path / "medquad.jsonl", "prompt_response")
    tokenizer = load_tokenizer(str(shared_data / f"tokenizers/{name}.json"))
    backend = Tokenizer.from_str(tokenizer.json_text)
    source = a_source(path, format="prompt_response", max_bad=1.0)
    report = build(tmp_path / "store", source, tokenizer)
    assert report.ledger_balanced
    reader = open_source(tmp_path / "store", report.key)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    end = tokenizer.token_text(tokenizer.eos_id)
    for document in range(0, reader.documents, 7):
        row = rows[reader.provenance(document).line - 1]
        ids = reader.tokens(document)
        whole = f"User:\n{row['prompt'].strip()}\n\nAssistant:\n{row['response'].strip()}{end}"
        assert ids.tolist() == backend.encode(whole, add_special_tokens=False).ids
        read = supervised_texts(reader, document, backend)
        assert read == [row["response"].strip() + end]
