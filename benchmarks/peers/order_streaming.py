"""MosaicML Streaming's order of an epoch, its default shuffle. order_streaming.py SAMPLES

What an epoch begins with on one node: the ids of all samples in the order of the partition, then
the shuffle of them, in shards of the size of llm-foundry's.
"""

import json
import os
import resource
import sys
import time

import numpy as np

sys.path.append(os.path.dirname(os.path.abspath(__file__)))
import streaming_base  # noqa: F401
from streaming.base.partition import get_partitions
from streaming.base.shuffle import get_shuffle

SHARD_SAMPLES = 4096
BLOCK = 1 << 18
"""Streaming's default shuffle_block_size is at least this."""


def main() -> None:
    samples = int(sys.argv[1])
    before = _peak_mb()
    begin = time.perf_counter()
    partition = get_partitions("relaxed", samples, 1, 1, 1, 1, 256, 0)
    shards = np.full(samples // SHARD_SAMPLES, SHARD_SAMPLES, np.int64)
    shards = np.append(shards, samples - int(shards.sum()))
    shuffled = get_shuffle("py1e", shards[shards > 0], 1, 0, 0, BLOCK)
    order = np.where(partition != -1, shuffled[partition], -1)
    seconds = time.perf_counter() - begin
    assert order.size >= samples
    print(json.dumps({"epoch_order_s": seconds, "peak_mb_above_start": _peak_mb() - before}))


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
