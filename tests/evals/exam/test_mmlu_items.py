"""MMLU's questions from CSV folders in either layout and from the hub, or what is refused."""

import json
import os
import random
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from eval_helpers import random_row, require_data, write_csv, write_exam
from places import ROOT

from configs.errors import UserError
from configs.evals import MmluTask
from evals.exam.mmlu_items import load_exam, read_items
from evals.exam.subjects import MMLU_CATEGORIES

HEADER = ["question", "choice0", "choice1", "choice2", "choice3", "answer"]
LETTERED = ["What?", "a", "b", "c", "d", "B"]
NUMBERED = ["What?", "a", "b", "c", "d", "1"]


def test_both_layouts_read_the_same(tmp_path):
    rng = random.Random(3)
    rows = [random_row(rng) for _ in range(20)]
    rows[3][0] = '  quoted, "text"\nover two lines '
    numbered = [[*row[:5], str("ABCD".index(row[5]))] for row in rows]
    write_csv(tmp_path / "plain.csv", rows)
    write_csv(tmp_path / "header.csv", [HEADER, *numbered])
    write_csv(tmp_path / "other_order.csv", [HEADER[::-1], *[row[::-1] for row in numbered]])
    plain = read_items(tmp_path / "plain.csv", "s")
    assert plain == read_items(tmp_path / "header.csv", "s")
    assert plain == read_items(tmp_path / "other_order.csv", "s")
    assert [item.index for item in plain] == list(range(20))
    assert plain[3].question == rows[3][0]
    assert "ABCD"[plain[7].answer] == rows[7][5]


@pytest.mark.parametrize(
    ("rows", "line", "words"),
    [
        ([LETTERED, ["What?", "a", "b", "c", "D"]], 2, "5 columns, not 6"),
        ([LETTERED, LETTERED, [*LETTERED[:5], "E"]], 3, "the answer is 'E'"),
        ([LETTERED, NUMBERED], 2, "the answer is '1'"),
        ([HEADER, NUMBERED, [*LETTERED[:5], "4"]], 3, "the answer is '4'"),
        ([HEADER, LETTERED], 2, "the answer is 'B'"),
        ([HEADER, NUMBERED[:5]], 2, "5 columns"),
        ([["question", "choice0", "choice1", "choice2", "answer"], NUMBERED[:5]], 1, "'choice3'"),
        ([LETTERED, ["What?", "a", " ", "c", "d", "A"]], 2, "choice1 is empty"),
        ([LETTERED, ["", "a", "b", "c", "d", "A"]], 2, "question is empty"),
    ],
)
def test_malformed_rows_are_named_by_file_and_line(tmp_path, rows, line, words):
    path = tmp_path / "s_test.csv"
    write_csv(path, rows)
    with pytest.raises(UserError) as error:
        read_items(path, "s")
    assert f"{path}:{line}:" in error.value.message
    assert words in error.value.message
    assert error.value.hint


@pytest.mark.parametrize("content", [b"", b"question,choice0,choice1,choice2,choice3,answer\n"])
def test_files_without_questions_are_refused(tmp_path, content):
    (tmp_path / "s.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"s\.csv"):
        read_items(tmp_path / "s.csv", "s")


def test_other_encodings_and_open_quotes_are_refused(tmp_path):
    (tmp_path / "latin.csv").write_bytes("caf\u00e9,a,b,c,d,A\n".encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8 at byte 3"):
        read_items(tmp_path / "latin.csv", "s")
    (tmp_path / "quote.csv").write_text('"what,a,b,c,d,A\n')
    with pytest.raises(UserError, match="not CSV"):
        read_items(tmp_path / "quote.csv", "s")


def test_shots_come_from_dev_rows_or_are_refused(tmp_path):
    write_exam(tmp_path, {"alpha": 3, "beta": 4})
    exam = load_exam(MmluTask(path=str(tmp_path), shots=2))
    assert [len(subject.shots) for subject in exam.subjects] == [2, 2]
    dev = tmp_path / "dev" / "beta_dev.csv"
    dev.write_text("\n".join(dev.read_text().splitlines()[:3]))
    with pytest.raises(UserError, match=r"beta_dev\.csv: 3 dev rows, 4 shots"):
        load_exam(MmluTask(path=str(tmp_path), shots=4))
    dev.unlink()
    with pytest.raises(UserError, match=r"beta_dev\.csv: no dev rows"):
        load_exam(MmluTask(path=str(tmp_path), shots=1))
    assert len(list(load_exam(MmluTask(path=str(tmp_path), shots=0)).items())) == 7
    with pytest.raises(UserError, match="no test/"):
        load_exam(MmluTask(path=str(tmp_path / "nowhere"), shots=0))


def test_categories(tmp_path):
    counts = {
        name: list(MMLU_CATEGORIES.values()).count(name) for name in set(MMLU_CATEGORIES.values())
    }
    assert counts == {"humanities": 13, "social_sciences": 12, "stem": 19, "other": 13}
    write_exam(tmp_path, {"anatomy": 1, "trees": 1, "seas": 1})
    (tmp_path / "categories.json").write_text('{"trees": "nature", "anatomy": "nature"}')
    exam = load_exam(MmluTask(path=str(tmp_path), shots=0))
    found = {subject.name: subject.category for subject in exam.subjects}
    assert found == {"anatomy": "stem", "trees": "nature", "seas": "other"}


def test_limit_keeps_the_first_questions_and_the_sidecar_names_all(tmp_path):
    write_exam(tmp_path, {"alpha": 3, "beta": 2})
    rows = [
        {"subject": subject, "index": index, "replayed": index == 0}
        for subject, n in (("alpha", 3), ("beta", 2))
        for index in range(n)
    ]
    sidecar = tmp_path / "items.jsonl"

    def load(some):
        sidecar.write_text("".join(json.dumps(row) + "\n" for row in some))
        task = MmluTask(path=str(tmp_path), shots=0, limit_per_subject=2, items=str(sidecar))
        return load_exam(task)

    exam = load(rows)
    assert [(i.subject, i.index) for i in exam.items()] == [
        ("alpha", 0), ("alpha", 1), ("beta", 0), ("beta", 1),
    ]  # fmt: skip
    assert exam.replayed is not None
    assert exam.replayed["alpha", 0]
    assert not exam.replayed["beta", 1]
    with pytest.raises(UserError, match="1 questions are not in it, the first alpha 2"):
        load(rows[:2] + rows[3:])
    with pytest.raises(UserError, match=r"items\.jsonl:6: alpha 0 is named twice"):
        load([*rows, rows[0]])
    with pytest.raises(UserError, match=r"items\.jsonl:1: the exam has no beta 9"):
        load([rows[3] | {"index": 9}, *rows])
    with pytest.raises(UserError, match=r"items\.jsonl:6: not an item"):
        load([*rows, {"subject": "alpha"}])


def test_the_real_exam_reads_whole():
    folder = require_data("mmlu")
    exam = load_exam(MmluTask(path=str(folder), shots=5))
    assert len(exam.subjects) == 57
    assert len(list(exam.items())) == 14_042
    assert {subject.name for subject in exam.subjects} == set(MMLU_CATEGORIES)
    answers = np.bincount([item.answer for item in exam.items()])
    assert answers.tolist() == [3222, 3462, 3582, 3776]


def write_parquet(folder, subjects, **columns):
    """The exam of ``write_exam`` in cais/mmlu's layout, and all of it once more under all/."""
    write_exam(folder / "csv", subjects)
    for name in subjects:
        for split in ("dev", "test"):
            items = read_items(folder / "csv" / split / f"{name}_{split}.csv", name)
            rows = [
                {"question": i.question, "subject": name, "choices": list(i.choices)}
                | {"answer": i.answer} | columns
                for i in items
            ]  # fmt: skip
            for part in (name, "all"):
                path = folder / "root/org/exam" / part / f"{split}-00000-of-00001.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                pq.write_table(pa.Table.from_pylist(rows), path)
    return folder / "root/org/exam"


LOAD = """
import json, sys
from dataclasses import asdict
from configs.errors import UserError
from configs.evals import MmluTask
from evals.exam.mmlu_items import load_exam
try:
    print(json.dumps(asdict(load_exam(MmluTask(**json.loads(sys.argv[1]))))))
except UserError as error:
    print(json.dumps({"error": error.message, "hint": error.hint}))
"""


def load_in_process(home, endpoint, **task):
    """What a process that knows this endpoint of the hub, and this cache, reads."""
    environment = os.environ | {
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "0",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", LOAD, json.dumps({"shots": 2, "hub": "org/exam"} | task)],
        env=environment | {"HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_hub_gives_what_the_csv_files_give(tmp_path, serve_hub):
    repo = write_parquet(tmp_path, {"anatomy": 5, "seas": 3})
    expected = load_exam(MmluTask(path=str(tmp_path / "csv"), shots=2))
    endpoint = serve_hub(tmp_path / "root")
    found = load_in_process(tmp_path / "home", endpoint)
    plain = json.loads(json.dumps([asdict(subject) for subject in expected.subjects]))
    assert found["subjects"] == plain
    assert found["origin"] == {"hub": "org/exam", "revision": "a" * 40}
    away = "http://127.0.0.1:9"  # nobody listens there
    assert load_in_process(tmp_path / "home", away) == found
    copied = load_exam(MmluTask(hub=str(repo), shots=2))
    assert copied.subjects == expected.subjects
    assert copied.origin == {"hub": str(repo), "revision": None}
    lost = load_in_process(tmp_path / "other", away)
    assert lost["error"].startswith("evals.mmlu: org/exam cannot be had")
    assert "\n" not in lost["error"]
    assert "evals.mmlu.path names a local folder" in lost["hint"]
    unknown = load_in_process(tmp_path / "home", endpoint, hub="org/none", revision="v9")
    assert unknown["error"].startswith("evals.mmlu: org/none at revision 'v9' cannot be had")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"answer": 4}, r"test-00000-of-00001\.parquet:1: the answer is '4'"),
        ({"answer": None}, r":1: the answer is ''"),
        ({"choices": ["a", "b", "c"]}, ":1: 5 columns, not 6"),
        ({"choices": ["a", "b", "c", " "]}, ":1: choice3 is empty"),
        ({"choices": None}, ":1: 2 columns, not 6"),
        ({"question": None}, ":1: question is empty"),
    ],
)
def test_malformed_rows_of_the_hub_are_named_by_file_and_row(tmp_path, change, words):
    repo = write_parquet(tmp_path, {"seas": 2}, **change)
    with pytest.raises(UserError, match=words):
        load_exam(MmluTask(hub=str(repo), shots=0))


def test_copies_of_the_hub_that_are_not_whole_are_refused(tmp_path, monkeypatch):
    repo = write_parquet(tmp_path, {"anatomy": 2, "seas": 2})
    with pytest.raises(UserError, match="which has no revision 'main'"):
        load_exam(MmluTask(hub=str(repo), revision="main", shots=0))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cais").mkdir()
    (tmp_path / "cais/mmlu").symlink_to(repo)
    with pytest.raises(UserError, match="2 of MMLU's 57 subjects, the first that it lacks is abst"):
        load_exam(MmluTask(shots=0))
    path = repo / "seas/test-00000-of-00001.parquet"
    pq.write_table(pq.read_table(path).drop(["answer"]), path)
    with pytest.raises(UserError, match=r"parquet: no column 'answer'"):
        load_exam(MmluTask(hub=str(repo), shots=0))
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    path.write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"parquet: not Parquet"):
        load_exam(MmluTask(hub=str(repo), shots=0))
    path.with_name("test-00001-of-00002.parquet").touch()
    with pytest.raises(UserError, match="several test files"):
        load_exam(MmluTask(hub=str(repo), shots=0))
    (repo / "anatomy/dev-00000-of-00001.parquet").unlink()
    path.with_name("test-00001-of-00002.parquet").unlink()
    with pytest.raises(UserError, match="no dev rows for 1 shots"):
        load_exam(MmluTask(hub=str(repo), shots=1))
    with pytest.raises(UserError, match="has no <subject>/test"):
        load_exam(MmluTask(hub=str(tmp_path), shots=0))
    with pytest.raises(ValueError, match="path or hub, not both"):
        MmluTask(path="x", hub="org/exam")
