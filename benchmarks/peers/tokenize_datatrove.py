"""datatrove: JSONL folder to token files. tokenize_datatrove.py INPUT OUTPUT TOKENIZER WORKERS"""

import json
import sys
import time

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.tokens import DocumentTokenizer
from tokenizers import Tokenizer


def main() -> None:
    folder, out, tokenizer, workers = sys.argv[1:]
    begin = time.perf_counter()
    LocalPipelineExecutor(
        pipeline=[
            JsonlReader(folder, glob_pattern="*.jsonl.zst", compression="zstd"),
            DocumentTokenizer(
                output_folder=f"{out}/tokens",
                tokenizer_name_or_path=tokenizer,
                eos_token=_eos(tokenizer),
                shuffle_documents=False,
            ),
        ],
        tasks=int(workers),
        workers=int(workers),
        logging_dir=f"{out}/logs",
    ).run()
    print(json.dumps({"seconds": time.perf_counter() - begin}))


def _eos(tokenizer: str) -> str:
    special = [
        t.content for t in Tokenizer.from_file(tokenizer).get_added_tokens_decoder().values()
    ]
    return next(name for name in special if "endoftext" in name)


if __name__ == "__main__":
    main()
