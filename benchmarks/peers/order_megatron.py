"""Megatron-core's own helpers for the order of a blend.

order_megatron.py blend SAMPLES SOURCES      the blend of a run
order_megatron.py source SAMPLES             the indices of one source of as many rows
order_megatron.py sequences MIXES OUT        the blends of the mixes in a JSON file, to an .npz
"""

import json
import logging
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

from megatron.core.datasets import helpers  # noqa: E402
from megatron.core.datasets.gpt_dataset import (  # noqa: E402
    _build_document_index,
    _build_shuffle_index,
)

SEQ_LEN = 4096
DOCUMENT_TOKENS = 1250


def blend(weights: list[float], samples: int) -> tuple[np.ndarray, ...]:
    """Source and row within it of every sample, as BlendedDataset builds them."""
    dataset, within = np.zeros(samples, np.int16), np.zeros(samples, np.int64)
    helpers.build_blending_indices(dataset, within, weights, len(weights), samples, False)
    return dataset, within


def source(samples: int) -> tuple[np.ndarray, ...]:
    """Document, sample and shuffle index of one epoch, as GPTDataset builds them."""
    documents = samples * SEQ_LEN // DOCUMENT_TOKENS
    sizes = np.full(documents, DOCUMENT_TOKENS, np.int32)
    state = np.random.RandomState(0)
    order = _build_document_index(np.arange(documents, dtype=np.int32), 1, state, False)
    rows = helpers.build_sample_idx(sizes, order, SEQ_LEN, 1, int(sizes.sum(dtype=np.int64)))
    return order, rows, _build_shuffle_index(len(rows) - 1, len(rows) - 1, state)


def timed(build: Callable[[], tuple[np.ndarray, ...]]) -> dict[str, float]:
    before, begin = _peak_mb(), time.perf_counter()
    arrays = build()
    seconds = time.perf_counter() - begin
    size = sum(array.nbytes for array in arrays) / 1e6
    return {"seconds": seconds, "index_mb": size, "peak_mb_above_start": _peak_mb() - before}


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    what, *rest = sys.argv[1:]
    if what == "sequences":
        mixes = json.loads(Path(rest[0]).read_text())
        made = [blend((np.array(c) / sum(c)).tolist(), sum(c))[0] for c in mixes]
        np.savez(rest[1], *made)
        print(json.dumps({"mixes": len(mixes)}))
        return
    samples = int(rest[0])
    if what == "source":
        print(json.dumps(timed(lambda: source(samples))))
        return
    weights = np.random.default_rng(0).dirichlet(np.ones(int(rest[1]))).tolist()
    print(json.dumps(timed(lambda: blend(weights, samples))))


if __name__ == "__main__":
    main()
