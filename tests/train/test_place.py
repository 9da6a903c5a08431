"""Micro-batches are dealt out; arithmetic is chosen once; lone processes are refused."""

import json

import pytest
import torch

import turnsmith
from turnsmith.data.batch import pack
from turnsmith.errors import UsageError
from turnsmith.models.score import to
from turnsmith.testing import examples
from turnsmith.train.place import Place, arithmetic, faster_dtype, same_threads, untaken


def test_processes_that_were_started_but_did_not_join_are_refused(monkeypatch):
    Place(device="cpu")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="WORLD_SIZE says 2 processes, 1 joined: start with torchrun"):
        Place(device="cpu")


def test_one_process_gets_every_micro_batch_and_only_the_last_is_marked_so():
    batches = [pack([each]) for each in examples(3)]
    dealt = list(Place(device="cpu").mine(batches))
    assert [batch for batch, _, _ in dealt] == batches
    assert [(factor, last) for _, factor, last in dealt] == [(1.0, False), (1.0, False), (1.0, True)]


def test_a_batch_goes_to_another_device_whole():
    batch = pack(examples(2, parts=("chosen", "rejected")))
    moved = to(batch, torch.device("meta"))
    tensors = ("inputs", "positions", "source", "targets", "entry", "weights", "turns", "path", "reads")
    assert {getattr(moved, name).device.type for name in tensors} == {"meta"}
    assert moved.forest == batch.forest
    assert moved.paths == batch.paths


def test_the_arithmetic_asked_for_is_taken_without_measuring(tmp_path):
    assert arithmetic("bfloat16", tmp_path / "kept.json") == ("bfloat16", {})
    assert not (tmp_path / "kept.json").exists()


def test_what_was_measured_once_stays_chosen(tmp_path):
    file = tmp_path / "kept.json"
    chosen, seconds = arithmetic("auto", file)
    assert chosen == min(seconds, key=seconds.__getitem__)
    other = "float32" if chosen == "bfloat16" else "bfloat16"
    file.write_text(json.dumps({"dtype": other, "seconds": seconds}))
    assert arithmetic("auto", file) == (other, seconds)


@pytest.fixture
def threads():
    """As many as before, whatever the test chose."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_who_goes_on_computes_on_as_many_threads_as_when_it_began(tmp_path, threads):
    torch.set_num_threads(2)
    assert same_threads(tmp_path / "threads.json") == []
    assert same_threads(tmp_path / "threads.json") == []
    torch.set_num_threads(1)
    (said,) = same_threads(tmp_path / "threads.json")
    assert said == "computing on 2 threads, as it began, not on 1: the last bits depend on it"
    assert torch.get_num_threads() == 2


def test_who_goes_on_with_fewer_processes_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert same_threads(tmp_path / "threads.json") == []
    monkeypatch.delenv("WORLD_SIZE")
    (said,) = same_threads(tmp_path / "threads.json")
    assert said == "on 1 process, where it began on 2: the last bits will differ"


def test_what_accelerate_is_asked_for_and_is_said_elsewhere_here_is_told(monkeypatch):
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    assert untaken() == []
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    assert [line.partition(" of ")[0] for line in untaken()] == [
        "mixed_precision: bf16",
        "gradient_accumulation_steps: 4",
    ]


def test_steps_of_accumulation_in_accelerates_settings_divide_nothing(monkeypatch):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    weight = torch.ones(1, requires_grad=True)
    Place(device="cpu").backward(3 * weight.sum())
    assert weight.grad is not None
    assert weight.grad.item() == 3.0


def test_the_faster_dtype_is_the_one_whose_time_is_shorter():
    dtype, seconds = faster_dtype(repeats=1)
    assert set(seconds) == {"float32", "bfloat16"}
    assert seconds[dtype] == min(seconds.values())


def test_who_is_one_of_several_and_has_not_joined_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    Place(device="cpu")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="WORLD_SIZE says 2 processes, 1 joined: start with torchrun"):
        turnsmith.run(
            {
                "title": "Alone",
                "base": {"llama": {"layers": 1, "hidden": 8, "wide": 16}},
                "steps": [{"data": {"name": "asks", "stages": [{"sums": {"count": 4}}]}}],
            }
        )
    assert not list(tmp_path.iterdir())
