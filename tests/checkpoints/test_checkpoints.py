"""Checkpoint folders: whole or not there, verified, retained; owners of tensors."""

import random
from pathlib import Path

import pytest
import torch
from model_folders import publish

from checkpoints import claims, folder, tensors
from checkpoints.retain import to_delete
from configs import UserError


def test_round_trip(tmp_path: Path) -> None:
    publish(tmp_path, 3)
    found, refused = folder.last_good(tmp_path)
    assert found is not None
    assert (found.step, found.state, refused) == (3, {"note": 3}, [])
    (name, tensor), *rest = tensors.read_tensors(found, tensors.WEIGHTS)
    assert (name, rest) == ("layer.a", [])
    assert torch.equal(tensor, torch.arange(6.0).view(2, 3) + 3)
    assert not list(tensors.read_tensors(found, tensors.EXP_AVG))


def test_who_may_read_the_folder_may_read_the_tensors(tmp_path: Path) -> None:
    (tmp_path / "step").mkdir(mode=0o750)
    path = tmp_path / "step" / tensors.file_name(0)
    tensors.write_tensors(path, {(tensors.WEIGHTS, "a"): torch.zeros(1)})
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "manifest", "keys"])
def test_damage_is_named_and_the_one_before_is_taken(tmp_path: Path, damage: str) -> None:
    publish(tmp_path, 1)
    newest = publish(tmp_path, 2)
    in_manifest = damage in ("manifest", "keys")
    victim = newest / (folder.MANIFEST if in_manifest else tensors.file_name(0))
    data = victim.read_bytes()
    if damage == "remove":
        victim.unlink()
    elif damage == "flip":
        victim.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "keys":
        victim.write_bytes(data.replace(b'"files"', b'"strange"'))
    else:
        victim.write_bytes(data[:-3])
    found, refused = folder.last_good(tmp_path)
    assert found is not None
    assert found.step == 1
    assert len(refused) == 1
    assert refused[0].startswith(str(victim))
    with pytest.raises(UserError, match=victim.name):
        folder.open_checkpoint(newest)


def test_a_half_written_folder_is_no_checkpoint(tmp_path: Path) -> None:
    publish(tmp_path, 1)
    staging = folder.begin(tmp_path, 2)
    (staging / "tensors_00000.safetensors").write_bytes(b"half")
    (tmp_path / folder.step_name(3)).write_text("a file of that name")
    assert folder.steps(tmp_path) == [1]
    again = folder.begin(tmp_path, 2)
    assert list(again.iterdir()) == []


def test_pinned_and_newest_stay() -> None:
    assert to_delete([10, 20, 30, 40, 50], {20, 50}, keep_last=2) == [10]
    assert to_delete([10, 20], set(), keep_last=2) == []
    assert to_delete([10, 20, 30], {30}, keep_last=1) == [10]


def test_what_a_run_went_back_behind_goes_first_and_counts_for_nothing() -> None:
    assert to_delete([1, 4, 5], set(), keep_last=2, abandoned={4, 5}) == [4, 5]
    assert to_delete([1, 3, 5, 6], set(), keep_last=2, abandoned={5}) == [5, 1]
    assert to_delete([1, 4, 5], {5}, keep_last=1, abandoned={4, 5}) == [4]


@pytest.mark.parametrize("seed", range(20))
def test_owners_cover_every_parameter_and_balance(seed: int) -> None:
    rng = random.Random(seed)
    numel = {f"p{i}": rng.randint(1, 1000) for i in range(rng.randint(1, 60))}
    ranks = rng.randint(1, 5)
    owner = tensors.owners(numel, ranks)
    assert owner.keys() == numel.keys()
    load = [sum(n for p, n in numel.items() if owner[p] == r) for r in range(ranks)]
    assert max(load) - min(load) <= max(numel.values())


def test_claims_that_cannot_be_followed_up_do_not_end_the_parent(tmp_path: Path) -> None:
    parent, branch = tmp_path / "parent", tmp_path / "branch"
    parent.mkdir()
    assert claims.claimed_steps(parent) == set()
    branch.mkdir()
    claims.claim(parent, 5, branch)
    # A folder that cannot be looked into, as another user's: its checkpoint is kept.
    claims.claim(parent, 7, tmp_path / ("n" * 300))
    (parent / "branches" / "mangled.json").write_text("{")
    assert claims.claimed_steps(parent) == {5, 7}
    publish(branch / "checkpoints", 1)
    assert claims.claimed_steps(parent) == {7}
