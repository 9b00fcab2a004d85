"""MosaicML's StreamingDataset over the same tokens. loader_streaming.py PREFIX SEQ_LEN EOD PASSES

The tokens of the exported source, one stream cut every SEQ_LEN as llm-foundry does, are written as
uncompressed MDS first, outside of the timing. Positions run on over documents, and are made once.
"""

import json
import os
import sys
import tempfile
import time

import numpy as np

sys.path.append(os.path.dirname(os.path.abspath(__file__)))
import streaming_base  # noqa: F401
from streaming.base import MDSWriter, StreamingDataset


def main() -> None:
    prefix, seq_len, _, passes = sys.argv[1], *map(int, sys.argv[2:])
    tokens = np.fromfile(f"{prefix}.bin", np.uint16)
    rows = tokens[: len(tokens) // seq_len * seq_len].reshape(-1, seq_len).astype(np.int32)
    with tempfile.TemporaryDirectory() as folder:
        with MDSWriter(out=folder, columns={"tokens": f"ndarray:int32:{seq_len}"}) as out:
            for row in rows:
                out.write({"tokens": row})
        data = StreamingDataset(local=folder, shuffle=True, batch_size=1)
        seconds = [one_pass(data, np.arange(seq_len)) for _ in range(passes + 1)][1:]
    print(json.dumps([{"setting": "positions run on", "tokens": rows.size, "seconds": seconds}]))


def one_pass(data: StreamingDataset, positions: np.ndarray) -> float:
    begin, touched = time.perf_counter(), 0
    for sample in data:
        ids = sample["tokens"].astype(np.int64)
        touched += int(ids.sum()) + int(positions[-1])
    assert touched > 0
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
