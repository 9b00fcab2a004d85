"""Real corpora in the shape that a test wants them in."""

import json
from pathlib import Path
from typing import Literal

import zstandard


def medquad(shared: Path, out: Path, schema: Literal["messages", "prompt_response"]) -> Path:
    """MedQuAD's questions and answers as conversations; some questions have no answer."""
    corpus = shared / "corpora/medicine_medquad.jsonl.zst"
    with zstandard.open(corpus, "rt", encoding="utf-8") as lines, out.open("w") as file:
        for line in lines:
            row = json.loads(line)
            question, _, answer = row["text"].partition("\nAnswer: ")
            turns = [("user", question.removeprefix("Question: ")), ("assistant", answer)]
            if schema == "messages":
                talk = {"messages": [{"role": role, "content": text} for role, text in turns]}
            else:
                talk = dict(zip(("prompt", "response"), (text for _, text in turns), strict=True))
            file.write(json.dumps({"id": row["id"], **talk}) + "\n")
    return out
