"""One process, two or three give the same run, each with all parameters or with a part of them."""

import os
import runpy
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

MANY = Path(__file__).with_name("many.py")
EVERY = (
    "tokens", "tokens-full", "pairs", "pairs-full", "window", "window-full", "rows", "even",
    "heads", "taught", "skipped", "refused",
)  # fmt: skip
SHARDED = tuple(f"{name}-shard" for name in EVERY[:8])
THREE = (*EVERY[:6], "tokens-full-shard", "pairs-shard", "window-shard")  # what three processes do as well


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


def start(directory: Path, world: int, *runs: str) -> None:
    """The runs in so many processes, as torchrun starts them."""
    directory.mkdir(exist_ok=True)
    shared = os.environ | {
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    ranks = [
        {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}
        for rank in range(world)
    ]
    started = [
        subprocess.Popen(
            [sys.executable, str(MANY), str(directory), *runs], env=shared | rank, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for rank in ranks
    ]  # fmt: skip
    try:
        for process in started:
            output, _ = process.communicate(timeout=400)
            assert process.returncode == 0, output
    finally:
        for process in started:
            process.kill()


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("one")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(MANY), str(directory), *EVERY, "best-shard", "moved"])
        runpy.run_path(str(MANY), run_name="__main__")
    return directory


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("two")
    start(directory, 2, *EVERY, *SHARDED, "refused-shard", "stopped", "best-shard", "moved-shard")
    return directory


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("three")
    start(directory, 3, *THREE)
    return directory


def compare(one: Path, other: Path, name: str, world: int) -> None:
    """Steps and weights of all processes with those of one alone."""
    before = torch.load(one / f"{name.removesuffix('-shard')}-0.pt")
    for rank in range(world):
        found = torch.load(other / f"{name}-{rank}.pt")
        for first, second in zip(before["rows"], found["rows"], strict=True):
            assert second == pytest.approx(first, abs=1e-5, rel=1e-5, nan_ok=True)
            for figure in ("loss", "gradient"):
                assert second[figure] == pytest.approx(first[figure], rel=1e-6, abs=0, nan_ok=True)
        torch.testing.assert_close(found["weights"], before["weights"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [*EVERY, *SHARDED])
def test_two_processes_give_the_gradients_and_the_weights_of_one(alone, two, name):
    compare(alone, two, name, 2)


@pytest.mark.parametrize("name", THREE)
def test_three_processes_give_the_gradients_and_the_weights_of_one(alone, three, name):
    compare(alone, three, name, 3)


@pytest.mark.parametrize("name", [*SHARDED, "best-shard"])
def test_of_what_is_shared_each_process_holds_a_part(two, name):
    for rank in (0, 1):
        assert set(torch.load(two / f"{name}-{rank}.pt")["held"]) == {"DTensor"}
    assert set(torch.load(two / "tokens-full-0.pt")["held"]) == {"Parameter"}


def test_the_best_state_of_parameters_in_shards_is_what_the_model_is_left_with(alone, two):
    best = torch.load(alone / "best-shard-0.pt")
    assert [row["validation"] for row in best["rows"]] == [1.0, 2.0, 2.5, 2.25]
    last = torch.load(alone / "tokens-0.pt")["weights"]
    assert not torch.allclose(best["weights"], last, rtol=0, atol=1e-4)
    for rank in (0, 1):
        found = torch.load(two / f"best-shard-{rank}.pt")["weights"]
        torch.testing.assert_close(found, best["weights"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("made", "name", "world", "then"),
    [
        ("two", "moved-shard", 3, "moved-shard"),
        ("two", "moved-shard", 1, "moved"),
        ("alone", "moved", 2, "moved-shard"),
    ],
)
def test_as_many_processes_as_one_likes_go_on_from_a_checkpoint(
    request, tmp_path, alone, made, name, world, then
):
    shutil.copytree(request.getfixturevalue(made) / name, tmp_path / then)
    start(tmp_path, world, then)
    stopped = torch.load(request.getfixturevalue(made) / f"{name}-0.pt")["rows"]
    assert [row["step"] for row in stopped] == [1, 2]
    whole = torch.load(alone / "tokens-full-0.pt")
    for rank in range(world):
        found = torch.load(tmp_path / f"{then}-{rank}.pt")
        assert [row["loss"] for row in found["rows"]] == pytest.approx(
            [row["loss"] for row in whole["rows"][2:]], rel=1e-6
        )
        torch.testing.assert_close(found["weights"], whole["weights"], rtol=0, atol=1e-5)


def test_when_one_process_is_asked_to_stop_all_stop_at_the_same_step_with_one_checkpoint(two):
    rows = [torch.load(two / f"stopped-{rank}.pt")["rows"] for rank in (0, 1)]
    assert [len(each) for each in rows] == [2, 2]
    assert [path.name for path in (two / "stopped").iterdir()] == ["step-0000002"]


@pytest.mark.parametrize("name", ["refused", "refused-shard"])
def test_when_a_step_is_refused_all_processes_name_the_same_example_and_keep_one_state(alone, two, name):
    said = [(two / f"{name}-{rank}.txt").read_text() for rank in (0, 1)]
    assert said[0] == said[1] == (alone / "refused-0.txt").read_text()
    (step,) = {len(torch.load(two / f"{name}-{rank}.pt")["rows"]) for rank in (0, 1)}
    assert [path.name for path in (two / name).iterdir()] == [f"step-{step:07d}"]
    skipped = torch.load(two / "skipped-1.pt")["rows"]
    assert [row["step"] for row in skipped if "skipped" in row] == [step + 1]


def test_processes_that_end_while_something_is_on_its_way_end_well(tmp_path):
    start(tmp_path, 2, "early")
