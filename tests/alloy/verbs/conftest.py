"""A folder in which the examples of docstrings and of docs/python.md run."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from workshop import write_examples


@pytest.fixture(scope="module")
def workshop(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working directory of a module's tests, with recipe.yaml and sweep.yaml in it."""
    folder = tmp_path_factory.mktemp("workshop")
    write_examples(tiny, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("DS_ACCELERATOR", "cpu")  # DeepSpeed prints that it looked for a GPU
        yield folder
