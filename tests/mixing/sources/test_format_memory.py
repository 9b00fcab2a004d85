"""Reading any format takes memory that does not grow with the file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from places import python_path

MEMORY = """
import random, sys
from pathlib import Path
from format_files import FORMATS
from ingest_helpers import a_source, build
name, megabytes, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
file, write = FORMATS[name]
if len(sys.argv) == 5:
    rng, words = random.Random(0), ["court", "may", "the", "of", "and", "1999", "section", "act"]
    texts = [" ".join(rng.choices(words, k=900)) for _ in range(1000)]
    many = [{"id": i, "text": f"{texts[i % 1000]} {i}"} for i in range(megabytes * 250)]
    write(folder / file, many)
else:
    report = build(folder / "store", a_source(folder / file))
    assert report.documents_written == megabytes * 250
    # Not ru_maxrss, which counts what the process had that started this one.
    status = Path("/proc/self/status").read_text().splitlines()
    print(next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="no peak memory in /proc")
@pytest.mark.parametrize("name", ["parquet", "arrow stream", "csv", "tsv.zst"])
def test_memory_does_not_grow_with_the_file(name: str, tmp_path: Path) -> None:
    """One row group as large as the file; peak resident memory of a build in one process."""
    peaks = []
    for megabytes in (40, 160):
        folder = tmp_path / str(megabytes)
        folder.mkdir()
        for extra in (["write"], []):
            done = subprocess.run(
                [sys.executable, "-c", MEMORY, name, str(megabytes), str(folder), *extra],
                env={**os.environ, "PYTHONPATH": python_path()},
                capture_output=True,
                text=True,
                check=True,
            )
        peaks.append(float(done.stdout))
    print(name, peaks)
    assert peaks[1] < 1.1 * peaks[0]
    assert peaks[1] < 600
