"""Merges of models that are larger than half the memory: what is held, read and left alone."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from mapped import in_memory, own, written_over
from model_folders import model, published, trained
from safetensors.torch import load_file, save_file

from alloy.runs import merging
from alloy.runs.merging import average_steps, merge_between, merge_residual, open_part
from checkpoints import pretrained_model
from checkpoints.merge import between, mean, residual
from configs import UserError

Weights = dict[str, torch.Tensor]


def test_one_whole_model_is_held(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a merge has its result, whatever its parts are stored as."""
    base = published(tmp_path / "base", tiny, 1, torch.bfloat16)
    tuned = published(tmp_path / "tuned", tiny, 2, torch.float32)
    run = trained(tmp_path / "run", tiny, 3)
    parts = [open_part(str(path)) for path in (base, run, tuned)]
    whole = sum(p.numel() * p.element_size() for p in model(0).parameters())
    held: list[float] = []
    before = in_memory().keys()

    def counted(*_: Any) -> None:
        held.append((own(before) + written_over()) / whole)

    monkeypatch.setattr(merging, "export_folder", counted)
    monkeypatch.setattr(merging, "write_json", lambda *_: None)
    average_steps(run, [1, 2, 3], tmp_path / "mean")
    merge_residual(parts[0], parts[1], parts[2], 0.3, tmp_path / "residual")
    assert held == pytest.approx([1, 1], abs=0.05)  # in whole pages


def digests(root: Path) -> dict[Path, str]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_what_is_merged_stays_as_it_is(tiny: Path, tmp_path: Path) -> None:
    """Files are mapped, and the model that is written may be a view of its own."""
    sources = tmp_path / "sources"
    base, other = (published(sources / str(i), tiny, i, torch.float32) for i in (1, 2))
    run = trained(sources / "run", tiny, 2)
    before = digests(sources)
    parts = [open_part(str(path)) for path in (base, other, run)]
    merge_between(parts[0], parts[1], 0.5, tmp_path / "a")
    merge_between(parts[1], parts[2], 0.5, tmp_path / "b")
    merge_residual(parts[2], parts[0], parts[1], 0.5, tmp_path / "c")
    average_steps(run, [1, 2], tmp_path / "d")
    merge_between(parts[0], parts[1], 0.5, tmp_path / "again")
    assert digests(sources) == before
    files = [load_file(tmp_path / name / "model.safetensors") for name in ("a", "again")]
    assert all(tensor.equal(files[1][name]) for name, tensor in files[0].items())


def as_read(path: Path) -> Weights:
    return {name: p.detach() for name, p in pretrained_model(str(path)).named_parameters()}


@pytest.mark.parametrize(
    ("dtype", "tied"), [(torch.bfloat16, True), (torch.float16, False), (torch.float32, True)]
)
def test_a_merge_is_that_of_the_fp32_weights(
    dtype: torch.dtype, tied: bool, tiny: Path, tmp_path: Path
) -> None:
    """To the bit, whatever the folders are stored as: in 16 bits, in shards, with a tied head."""
    keys = {"max_shard_size": "20KB", "tied": tied}
    folders = [published(tmp_path / str(i), tiny, i, dtype, **keys) for i in range(3)]
    assert len(list(folders[0].glob("*.safetensors"))) > 2
    one, two, three = (open_part(str(path)) for path in folders)
    first, second, third = (as_read(path) for path in folders)
    merge_between(one, two, 0.3, tmp_path / "between")
    merge_residual(one, two, three, 0.7, tmp_path / "residual")
    for name, found in as_read(tmp_path / "between").items():
        a, b = first[name].double(), second[name].double()
        assert found.equal((b + (0.3 - 1) * (b - a)).float()), name
    for name, found in as_read(tmp_path / "residual").items():
        a, b, c = (w[name].double() for w in (first, second, third))
        assert found.equal((b + 0.7 * (c - a)).float()), name


def test_weights_of_mixed_types_are_not_rounded(tiny: Path, tmp_path: Path) -> None:
    """The config says bf16, and one weight is stored in fp32, as routers of experts are."""
    base, other = (published(tmp_path / str(i), tiny, i, torch.bfloat16) for i in (1, 2))
    fine = "model.layers.0.mlp.up_proj.weight"
    weights = load_file(base / "model.safetensors")
    weights[fine] = weights[fine].float() + 1e-5
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    assert not weights[fine].bfloat16().float().equal(weights[fine])
    merge_between(open_part(str(base)), open_part(str(other)), 0, tmp_path / "out")
    assert as_read(tmp_path / "out")[fine].equal(weights[fine])


@pytest.mark.parametrize("seed", range(12))
def test_sums_are_those_of_float64(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    scales = 10.0 ** torch.randint(-6, 3, (4, 1), generator=rng)
    parts = [{"w": torch.randn(4, 64, generator=rng) * scales} for _ in range(3 + seed % 5)]
    a, b, c = (part["w"].clone() for part in parts[:3])
    expected = torch.stack([part["w"].double() for part in parts]).mean(dim=0).float()
    assert mean(parts)["w"].equal(expected)
    assert mean(parts[::-1])["w"].equal(expected)
    line = (b.double() + (0.3 - 1) * (b.double() - a.double())).float()
    assert between(parts[0], parts[1], 0.3)["w"].equal(line)
    added = (a.double() + 0.3 * (c.double() - b.double())).float()
    assert residual(parts[0], parts[1], parts[2], 0.3)["w"].equal(added)
    assert all(part["w"].equal(kept) for part, kept in zip(parts[:3], (a, b, c), strict=True))


def test_a_folder_that_is_not_replaced_is_refused_before_models_are_read(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained(tmp_path / "run", tiny, 2)
    monkeypatch.setattr(merging, "model_from", lambda _: pytest.fail("a model was read"))
    with pytest.raises(UserError, match="something other than an exported model"):
        average_steps(run, [1, 2], tmp_path)
