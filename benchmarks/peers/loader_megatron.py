"""Megatron-core's GPTDataset over an exported source. loader_megatron.py PREFIX SEQ_LEN EOD PASSES

Two settings: as it comes (positions run on over documents, and are made once), and with positions
that restart at each document, which is what Alloy gives.
"""

import json
import logging
import sys
import tempfile
import time
import warnings

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig  # noqa: E402
from megatron.core.datasets.utils import Split  # noqa: E402


class Ends:
    """As much of a tokenizer as GPTDataset asks for."""

    unique_identifiers = {"tokenizer": "bench"}  # noqa: RUF012
    vocab_size = None

    def __init__(self, eod: int) -> None:
        self.eod = eod
        self.pad = -1
        self.special_tokens_dict = {"eos_token": eod}


def main() -> None:
    prefix, seq_len, eod, passes = sys.argv[1], *map(int, sys.argv[2:])
    rows = []
    for reset in (False, True):
        with tempfile.TemporaryDirectory() as cache:
            config = GPTDatasetConfig(
                random_seed=1, sequence_length=seq_len, blend=([prefix], None), split="1,0,0",
                tokenizer=Ends(eod), path_to_cache=cache, reset_position_ids=reset,
                reset_attention_mask=False, eod_mask_loss=reset, create_attention_mask=False,
            )  # fmt: skip
            low = GPTDataset.build_low_level_dataset(prefix, config)
            everything = __import__("numpy").arange(len(low), dtype="int32")
            data = GPTDataset(low, prefix, everything, None, Split.train, config)
            seconds = [one_pass(data) for _ in range(passes + 1)][1:]
        name = "positions restart at documents" if reset else "positions run on"
        tokens = len(data) * seq_len
        rows.append({"setting": name, "tokens": tokens, "seconds": seconds})
    print(json.dumps(rows))


def one_pass(data: GPTDataset) -> float:
    begin, touched = time.perf_counter(), 0
    for index in range(len(data)):
        sample = data[index]
        touched += int(sample["tokens"].sum()) + int(sample["position_ids"][-1])
    assert touched > 0
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
