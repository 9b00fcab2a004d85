"""A tiny corpus, tokenizer and recipe, made by seed, and the real data where it is present."""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from places import ALLOY, HELPERS, SHARED_DATA
from report_sweep import Tree, load, write_sweep
from tiny import random_row, train_tokenizer, write_base


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data, or a skip."""
    if not SHARED_DATA.is_dir():
        pytest.skip("no real data: ../shared/data is absent")
    return SHARED_DATA


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with domain.jsonl, general.jsonl, retention.jsonl, and tokenizer.json, config.json
    and a file of no weights, by which it is also a base that can be planned."""
    folder = tmp_path_factory.mktemp("tiny")
    rng = random.Random(7)
    for name, documents, longest in (
        ("domain", 120, 60),
        ("general", 200, 24),
        ("retention", 30, 40),
    ):
        rows = [random_row(name, i, rng, longest) for i in range(documents)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    train_tokenizer(folder / "tokenizer.json")
    write_base(folder, vocab_size=400)
    return folder


@pytest.fixture(scope="session")
def whole_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records of a synthetic sweep, read-only: tests that change files take ``own_sweep``."""
    folder = tmp_path_factory.mktemp("sweep")
    write_sweep(folder)
    return folder


@pytest.fixture(scope="session")
def whole_report(whole_sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """The report of ``whole_sweep``."""
    return load(whole_sweep, tmp_path_factory.mktemp("out"))


@pytest.fixture(scope="session")
def _smaller_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("smaller")
    write_sweep(folder, n=400)
    return folder


@pytest.fixture
def own_sweep(_smaller_sweep: Path, tmp_path: Path) -> Path:
    """A sweep of fewer questions that a test may change."""
    return Path(shutil.copytree(_smaller_sweep, tmp_path / "one"))


@pytest.fixture(scope="session")
def alloy() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the real command; keyword arguments go to subprocess.run."""

    def run(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [ALLOY, *map(str, arguments)],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **options.pop("env", {})},
            check=False,
            **options,
        )

    return run


@pytest.fixture
def serve_hub() -> Iterator[Callable[[Path], str]]:
    """Serve the datasets below a folder as the hub does; returns HF_ENDPOINT."""
    servers = []

    def serve(root: Path) -> str:
        script = HELPERS / "hub_server.py"
        command = [sys.executable, str(script), str(root)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        servers.append(server)
        assert server.stdout is not None
        return f"http://127.0.0.1:{server.stdout.readline().strip()}"

    yield serve
    for server in servers:
        server.terminate()
        server.wait()
        server.stdout.close()
