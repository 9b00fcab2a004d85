"""The documents of an exported dataset, read by Megatron-core: read_megatron.py PREFIX"""

import json
import logging
import sys
import warnings
from itertools import pairwise

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

from megatron.core.datasets.indexed_dataset import IndexedDataset  # noqa: E402


def main() -> None:
    data = IndexedDataset(sys.argv[1])
    firsts = data.document_indices.tolist()
    documents = [
        [token for sequence in range(first, end) for token in data[sequence].tolist()]
        for first, end in pairwise(firsts)
    ]
    lengths = data.sequence_lengths.tolist()
    print(json.dumps({"documents": documents, "sequence_lengths": lengths}))


if __name__ == "__main__":
    main()
