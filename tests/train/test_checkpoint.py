"""Checkpoints: what goes in comes out, what is broken is passed over, and a full disk loses nothing."""

import json
import resource
import shutil
import subprocess

import pytest
import torch

from turnsmith.errors import StorageError
from turnsmith.train import checkpoint


def trained(steps=2, size=(3, 4)):
    """A parameter and an AdamW that has taken some steps."""
    torch.manual_seed(0)
    parameter = torch.nn.Parameter(torch.randn(size))
    optimizer = torch.optim.AdamW([parameter], lr=0.1, fused=True)
    for _ in range(steps):
        parameter.grad = torch.randn(size)
        optimizer.step()
    return parameter, optimizer


def fresh(size=(3, 4)):
    parameter = torch.nn.Parameter(torch.zeros(size))
    return parameter, torch.optim.AdamW([parameter], lr=0.1, fused=True)


def save(directory, step, size=(3, 4), **others):
    parameter, optimizer = trained(step, size)
    checkpoint.save(
        directory, step, {"w": parameter}, optimizer, {"step": step, "tokens": 5, "best": None}, **others
    )
    return parameter, optimizer


def test_what_is_saved_is_loaded_bit_by_bit(tmp_path):
    best = {"w": torch.full((3, 4), 0.1)}
    parameter, optimizer = save(tmp_path, 2, best=best)
    other, empty = fresh()
    state, found = checkpoint.load(tmp_path, {"w": other}, empty)
    assert state["step"] == 2
    assert state["tokens"] == 5
    assert torch.equal(other, parameter)
    assert torch.equal(found["w"], best["w"])
    for name, value in optimizer.state[parameter].items():
        assert torch.equal(empty.state[other][name], value), name


def test_the_next_step_is_the_same_as_without_the_detour(tmp_path):
    parameter, optimizer = save(tmp_path, 2)
    other, empty = fresh()
    checkpoint.load(tmp_path, {"w": other}, empty)
    for one, its in ((parameter, optimizer), (other, empty)):
        one.grad = torch.ones(3, 4)
        its.step()
    assert torch.equal(parameter, other)


def test_without_a_checkpoint_there_is_nothing_to_load(tmp_path):
    other, empty = fresh()
    assert checkpoint.load(tmp_path / "absent", {"w": other}, empty) is None


def test_the_newest_two_are_kept(tmp_path):
    for step in (1, 2, 3):
        save(tmp_path, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-0000002", "step-0000003"]


def test_what_is_broken_of_later_steps_never_takes_the_place_of_a_whole_one(tmp_path):
    for step in (4, 5):
        save(tmp_path, step)
        (tmp_path / f"step-000000{step}" / "optimizer.pt").unlink()
    for step in (1, 2):  # as of a run that had to start anew
        save(tmp_path, step)
        assert checkpoint.newest(tmp_path) == step
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-0000001", "step-0000002"]


def test_the_best_state_is_kept_beside_the_last_one_however_long_ago_it_was(tmp_path):
    best = {"w": torch.full((3, 4), 0.1)}
    for step in range(1, 8):
        save(tmp_path, step, best=best)
    other, optimizer = fresh()
    state, found = checkpoint.load(tmp_path, {"w": other}, optimizer)
    assert state["step"] == 7
    assert torch.equal(found["w"], best["w"])


FILES = ["learning.safetensors", "optimizer.pt", "state.json", "sums.json"]


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, empty, flip, lambda path: path.unlink()])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(tmp_path, capsys, name, damage):
    parameter, _ = save(tmp_path, 1)
    save(tmp_path, 2)
    damage(tmp_path / "step-0000002" / name)
    other, optimizer = fresh()
    state, _ = checkpoint.load(tmp_path, {"w": other}, optimizer)
    assert state["step"] == 1
    assert torch.equal(other, parameter)
    said = capsys.readouterr().err
    assert "step-0000002 is broken (" in said
    assert "going back to the one before" in said


def test_a_file_in_the_place_of_a_checkpoint_is_named_and_gives_way_to_a_whole_one(tmp_path, capsys):
    save(tmp_path, 1)
    (tmp_path / "step-0000002").write_text("not a directory")
    other, optimizer = fresh()
    assert checkpoint.load(tmp_path, {"w": other}, optimizer)[0]["step"] == 1
    assert "step-0000002 is broken (NotADirectoryError" in capsys.readouterr().err
    save(tmp_path, 2)
    assert checkpoint.newest(tmp_path) == 2


def test_a_file_in_the_place_of_all_checkpoints_is_an_error_and_not_a_start_from_nothing(tmp_path):
    (tmp_path / "checkpoints").write_text("not a directory")
    other, optimizer = fresh()
    with pytest.raises(StorageError, match=r"checkpoints holds the checkpoints, and is a file: remove it"):
        checkpoint.load(tmp_path / "checkpoints", {"w": other}, optimizer)
    with pytest.raises(StorageError, match="a checkpoint could not be written to"):
        save(tmp_path / "checkpoints", 1)


def test_a_number_changed_in_the_state_is_seen(tmp_path):
    save(tmp_path, 1)
    state = tmp_path / "step-0000001" / "state.json"
    state.write_text(state.read_text().replace('"tokens": 5', '"tokens": 7'))
    other, optimizer = fresh()
    assert checkpoint.load(tmp_path, {"w": other}, optimizer) is None


@pytest.mark.parametrize("content", ["[]", "{}", '"text"', json.dumps({"state.json": 3})])
def test_sums_that_are_no_sums_are_a_broken_checkpoint(tmp_path, content):
    save(tmp_path, 1)
    (tmp_path / "step-0000001" / "sums.json").write_text(content)
    other, optimizer = fresh()
    assert checkpoint.load(tmp_path, {"w": other}, optimizer) is None


def test_what_a_kill_left_half_written_is_passed_over_and_replaced(tmp_path):
    save(tmp_path, 1)
    (tmp_path / "step-0000002.partial").mkdir()
    (tmp_path / "step-0000002.partial" / "learning.safetensors").write_bytes(b"half")
    other, optimizer = fresh()
    assert checkpoint.load(tmp_path, {"w": other}, optimizer)[0]["step"] == 1
    save(tmp_path, 2)
    assert checkpoint.load(tmp_path, {"w": other}, optimizer)[0]["step"] == 2


def test_a_write_that_fails_keeps_the_checkpoint_before_and_leaves_no_half_one(tmp_path):
    parameter, _ = save(tmp_path, 1)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limit[1]))  # longer files fail with "File too large"
    try:
        with pytest.raises(StorageError, match="a checkpoint could not be written to"):
            save(tmp_path, 2, size=(100, 100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000001"]
    other, optimizer = fresh()
    assert checkpoint.load(tmp_path, {"w": other}, optimizer)[0]["step"] == 1
    assert torch.equal(other, parameter)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of a few hundred kB; skipped where we may not make one."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "none", tmp_path]
    if not shutil.which("mount") or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs root")
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)  # a torn file may still be held open


@pytest.mark.parametrize("floats", [40_000, 110_000])  # the second file does not fit; the first does not
def test_a_full_disk_is_called_so_and_keeps_the_checkpoint_before(small_disk, floats):
    save(small_disk, 1)
    with pytest.raises(StorageError, match=r"the disk is full: .* The one before is whole; free some space"):
        save(small_disk, 2, size=(floats, 1))
    assert [path.name for path in small_disk.iterdir()] == ["step-0000001"]
    other, optimizer = fresh()
    assert checkpoint.load(small_disk, {"w": other}, optimizer)[0]["step"] == 1


def test_a_disk_that_became_read_only_keeps_the_last_checkpoint_and_takes_new_ones_once_it_may(small_disk):
    parameter, _ = save(small_disk, 1)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(StorageError, match=r"could not be written to .*Read-only file system"):
        save(small_disk, 2)
    other, optimizer = fresh()
    assert checkpoint.load(small_disk, {"w": other}, optimizer)[0]["step"] == 1
    assert torch.equal(other, parameter)
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    save(small_disk, 2)
    assert checkpoint.newest(small_disk) == 2
