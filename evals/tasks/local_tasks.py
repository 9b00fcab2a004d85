"""lm-eval's gsm8k, ifeval, arc_easy and hellaswag from local files: whole task configs, no hub.

The fields are those of the built-in tasks of the same name; a dict that only names a built-in
does not inherit them. Multiple choice is read in the published layout or as {query, choices, gold},
whose query is then the prompt as it stands.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nltk

from configs import LmEvalTask, UserError

Rows = list[dict[str, Any]]
_NEEDED: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "gsm8k": (("question", "answer"),),
    "ifeval": (("key", "prompt", "instruction_id_list", "kwargs"),),
    "arc_easy": (("query", "choices", "gold"), ("question", "choices", "answerKey")),
    "hellaswag": (
        ("query", "choices", "gold"),
        ("activity_label", "ctx_a", "ctx_b", "endings", "label"),
    ),
}
LOCAL_TASKS = tuple(_NEEDED)
CHOICE_TASKS = ("arc_easy", "hellaswag")
_ACCURACIES = [
    {"metric": name, "aggregation": "mean", "higher_is_better": True}
    for name in ("acc", "acc_norm")
]


def require_ready(task: LmEvalTask) -> None:
    """Raises UserError for what would stop a task later: a file that cannot be read, and of ifeval
    the data of nltk that it counts sentences with."""
    if task.path is not None:
        if task.name not in LOCAL_TASKS:
            raise UserError(
                f"'{task.name}' cannot be read from a file", f"only {', '.join(LOCAL_TASKS)} can"
            )
        for path in filter(None, (task.path, task.fewshot_path)):
            read_rows(task.name, Path(path))
    if "ifeval" in task.name:
        _require_sentences(task)


def _require_sentences(task: LmEvalTask) -> None:
    """nltk looks in ``nltk_data`` first, and lm-eval must not begin to download."""
    if task.nltk_data is not None and task.nltk_data not in nltk.data.path:
        nltk.data.path.insert(0, task.nltk_data)
    try:
        nltk.data.find("tokenizers/punkt_tab/english/")
    except LookupError:
        where = f"{task.nltk_data} or " if task.nltk_data else ""
        raise UserError(
            f"{task.name} counts sentences with nltk's punkt_tab, which is not in {where}any "
            "folder of nltk's",
            "python -m nltk.downloader punkt_tab, or name the folder that holds "
            "tokenizers/punkt_tab/english: evals.lm_eval[].nltk_data",
        ) from None


def letters_caveat(task: LmEvalTask) -> list[str]:
    """A line where a file asks for letters of options that its prompts list, which is not what
    lm-eval's task of that name scores."""
    if task.path is None or task.name not in CHOICE_TASKS:
        return []
    rows = read_rows(task.name, Path(task.path))
    if not all("query" in r and all(len(str(c)) == 1 for c in r["choices"]) for r in rows):
        return []
    return [
        f"{task.name}: its rows ask for the letter of an option, where lm-eval's own {task.name} "
        "scores the options' texts: not comparable with published scores"
    ]


def read_rows(task: str, path: Path) -> Rows:
    """The rows of one file. Raises UserError naming file and line where a column is missing."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file", f"correct the path of {task}") from None
    rows = [_row(task, f"{path}:{n}", line) for n, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise UserError(f"{path}: no rows", "each line is a JSON object")
    return rows


def _row(task: str, where: str, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where}: not JSON: {error}", "one JSON object a line") from None
    layouts = _NEEDED[task]
    if isinstance(row, dict) and any(all(c in row for c in columns) for columns in layouts):
        return row
    names = list(row) if isinstance(row, dict) else []
    missing = next(c for c in layouts[0] if c not in names)
    raise UserError(
        f"{where}: no '{missing}'", " or ".join("{" + ", ".join(c) + "}" for c in layouts)
    )


def as_choices(task: str, row: Mapping[str, Any], clean: Any) -> dict[str, Any]:
    """A multiple-choice row as {query, choices, gold}; ``clean`` is hellaswag's own."""
    if "query" in row:
        return {key: row[key] for key in ("query", "choices", "gold")}
    if task == "arc_easy":
        return {
            "query": f"Question: {row['question']}\nAnswer:",
            "choices": row["choices"]["text"],
            "gold": row["choices"]["label"].index(row["answerKey"]),
        }
    context = row["ctx_a"] + " " + row["ctx_b"].capitalize()
    return {
        "query": clean(f"{row['activity_label']}: {context}"),
        "choices": [clean(ending) for ending in row["endings"]],
        "gold": int(row["label"]),
    }


def local_config(task: LmEvalTask, splits: Mapping[str, Any]) -> dict[str, Any]:
    """The whole config but for what needs lm-eval's own functions; ``splits``: test, and train
    where there are worked examples."""
    shared = {
        "task": task.name,
        "custom_dataset": lambda **_: dict(splits),
        "test_split": "test",
        "fewshot_split": "train" if task.shots else None,
        "num_fewshot": task.shots,
        "metadata": {"version": 1.0},
    }
    if task.name == "gsm8k":
        return shared | _GSM8K
    if task.name == "ifeval":
        return shared | _IFEVAL
    return shared | {
        "output_type": "multiple_choice",
        "doc_to_text": "{{query}}",
        "doc_to_target": "{{gold}}",
        "doc_to_choice": "choices",
        "metric_list": _ACCURACIES,
    }


def _regex(pattern: str, **more: Any) -> dict[str, Any]:
    return {"function": "regex", "regex_pattern": pattern, **more}


_TAKE_FIRST: Sequence[dict[str, Any]] = ({"function": "take_first"},)
_GSM8K: dict[str, Any] = {
    "output_type": "generate_until",
    "doc_to_text": "Question: {{question}}\nAnswer:",
    "doc_to_target": "{{answer}}",
    "metric_list": [
        {
            "metric": "exact_match",
            "aggregation": "mean",
            "higher_is_better": True,
            "ignore_case": True,
            "ignore_punctuation": False,
            "regexes_to_ignore": [",", "\\$", "(?s).*#### ", "\\.$"],
        }
    ],
    "generation_kwargs": {
        "until": ["Question:", "</s>", "<|im_end|>"],
        "do_sample": False,
        "temperature": 0.0,
    },
    "repeats": 1,
    "filter_list": [
        {
            "name": "strict-match",
            "filter": [_regex("#### (\\-?[0-9\\.\\,]+)"), *_TAKE_FIRST],
        },
        {
            "name": "flexible-extract",
            "filter": [
                _regex("(-?[$0-9.,]{2,})|(-?[0-9]+)", group_select=-1),
                *_TAKE_FIRST,
            ],
        },
    ],
}
_IFEVAL: dict[str, Any] = {
    "output_type": "generate_until",
    "doc_to_text": "prompt",
    "doc_to_target": 0,
    "generation_kwargs": {
        "until": [],
        "do_sample": False,
        "temperature": 0.0,
        "max_gen_toks": 1280,
    },
}
