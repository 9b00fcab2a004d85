"""Models of the hub, from a server that speaks its API: revisions, weights of one, no answer."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from places import HELPERS
from tiny import tiny_recipe, write_recipe
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

STAGES = {"main": 2, "stage1-step100": 1}
"""Branches of the model on the stand-in hub, and the seeds of their weights."""


@pytest.fixture(scope="module")
def hub(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which ``org/words`` is a model with two branches."""
    root = tmp_path_factory.mktemp("hub")
    for branch, seed in STAGES.items():
        torch.manual_seed(seed)
        sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
        config = AutoConfig.for_model("llama", **sizes, num_attention_heads=2, vocab_size=401)
        folder = root / "models/org/words" / branch
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=str(tiny / "tokenizer.json"), eos_token="<|endoftext|>"
        )
        tokenizer.save_pretrained(folder)
        (folder / "pytorch_model.bin").write_bytes(b"pickled weights are never fetched")
    script = HELPERS / "hub_server.py"
    server = subprocess.Popen(
        [sys.executable, str(script), str(root)], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    endpoint = f"http://127.0.0.1:{server.stdout.readline().strip()}"
    yield {"HF_ENDPOINT": endpoint, "HF_HOME": str(root / "home"), "HF_HUB_OFFLINE": "0"}
    server.terminate()
    server.wait()
    server.stdout.close()


def nowhere(home: Path) -> dict[str, str]:
    """A hub at a port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return {"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}


def test_the_revisions_that_really_exist(hub: dict[str, str], alloy: Callable[..., Any]) -> None:
    done = alloy("catalog", "org/words", "--online", "--json", env=hub)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"catalog": None, "revisions": sorted(STAGES)}
    done = alloy("catalog", "org/words", "--online", env=hub)
    assert done.stdout.splitlines()[-1] == "on the hub: main, stage1-step100"


@pytest.mark.parametrize("model", ["org/nothing", "allenai/OLMo-2-0425-1B"])
def test_a_model_that_the_hub_has_not(
    model: str, hub: dict[str, str], alloy: Callable[..., Any]
) -> None:
    done = alloy("catalog", model, "--online", env=hub)
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot be asked for its revisions" in done.stderr
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_hub_that_does_not_answer(tmp_path: Path, alloy: Callable[..., Any]) -> None:
    done = alloy("catalog", "allenai/OLMo-2-0425-1B", "--online", env=nowhere(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    message, _, hint = done.stderr.strip().partition("\n")
    assert "the hub cannot be asked for its revisions" in message
    assert hint.strip() == "hint: without --online the catalog needs no network"


def base_of(tiny: Path, home: Path, revision: str | None) -> Path:
    tree = tiny_recipe(tiny, home, base={"model": "org/words", "revision": revision})
    tree["train"] = {"zero": 1, "precision": "fp32", "ranks": 1, "micro_batch_rows": 4}
    del tree["data"]["tokenizer"]
    tree["schedule"]["tokens"] = 2 * 8 * 32
    tree["schedule"]["warmup"] = 0.5
    return write_recipe(home / "recipe.yaml", {**tree, "name": "run"})


def test_weights_of_a_revision(
    tiny: Path, tmp_path: Path, hub: dict[str, str], alloy: Callable[..., Any]
) -> None:
    """A run starts from the branch's weights, not those of main, and says so."""
    done = alloy("train", base_of(tiny, tmp_path, "stage1-step100"), env=hub)
    assert done.returncode == 0, done.stderr
    assert "weights of org/words at stage1-step100" in done.stderr
    lineage = json.loads((tmp_path / "run/lineage.json").read_text())
    assert (lineage["base"], lineage["revision"]) == ("org/words", "stage1-step100")
    fetched = {p.name for p in Path(hub["HF_HOME"]).rglob("snapshots/*/*")}
    assert {"model.safetensors", "config.json"} <= fetched
    assert "pytorch_model.bin" not in fetched
    trained = AutoModelForCausalLM.from_pretrained(tmp_path / "run/export").state_dict()
    distance = {}
    for branch, seed in STAGES.items():
        torch.manual_seed(seed)
        config = AutoConfig.from_pretrained(tmp_path / "run/export")
        start = AutoModelForCausalLM.from_config(config).state_dict()
        distance[branch] = sum(float((trained[n] - t).square().sum()) for n, t in start.items())
    assert distance["stage1-step100"] < 0.1 * distance["main"]


@pytest.mark.parametrize(("revision", "part"), [("stage9", "at revision 'stage9'"), (None, "")])
def test_what_the_hub_has_not_is_one_line(
    revision: str | None,
    part: str,
    tiny: Path,
    tmp_path: Path,
    hub: dict[str, str],
    alloy: Callable[..., Any],
) -> None:
    """A revision that is not there; and a hub that does not answer, with nothing fetched yet."""
    surroundings = hub if revision else nowhere(tmp_path / "home")
    done = alloy("plan", base_of(tiny, tmp_path, revision), env=surroundings)
    assert done.returncode == 2, done.stderr
    assert part in done.stderr
    assert "not to be had from the hub" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 2, done.stderr
    assert "hint: check the name and the revision" in done.stderr
