"""datasets.map over tokenizers. tokenize_datasets.py INPUT OUTPUT TOKENIZER WORKERS"""

import json
import sys
import time
from typing import Any

from datasets import load_dataset
from tokenizers import Tokenizer

TOKENIZER: Tokenizer | None = None


def encode(batch: dict[str, list[str]], path: str) -> dict[str, Any]:
    global TOKENIZER
    TOKENIZER = TOKENIZER or Tokenizer.from_file(path)
    return {"input_ids": [e.ids for e in TOKENIZER.encode_batch(batch["text"])]}


def main() -> None:
    folder, out, tokenizer, workers = sys.argv[1:]
    begin = time.perf_counter()
    data = load_dataset(
        "json", data_files=f"{folder}/*.jsonl.zst", split="train", cache_dir=f"{out}/cache"
    )
    loaded = time.perf_counter() - begin
    mapped = data.map(
        encode,
        batched=True,
        remove_columns=data.column_names,
        num_proc=int(workers),
        fn_kwargs={"path": tokenizer},
    )
    seconds = time.perf_counter() - begin
    print(json.dumps({"seconds": seconds, "load_s": loaded, "documents": len(mapped)}))


if __name__ == "__main__":
    main()
