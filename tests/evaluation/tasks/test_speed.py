"""What is timed, and what memory counts."""

import pytest
import torch

from turnsmith.errors import UsageError
from turnsmith.evaluation.memory import peak_bytes
from turnsmith.evaluation.tasks.speed import Speed
from turnsmith.testing.tasks import subject


def test_rates_are_tokens_over_the_seconds_that_are_given_beside():
    items = Speed(count=2, reading=40, writing=6, repeats=1).measure(subject(), None)
    assert [item.id for item in items] == ["1", "2"]
    for item in items:
        values = item.values
        assert values["read_per_second"] == pytest.approx(40 / values["reading_seconds"])
        assert values["written_per_second"] == pytest.approx(6 / values["writing_seconds"])
        assert values["reading_seconds"] > 0
        assert values["writing_seconds"] > 0


def test_a_slower_model_reads_and_writes_more_slowly():
    fast, slow = subject(), subject()
    slow.scoring.base.register_forward_pre_hook(lambda *_: __import__("time").sleep(0.05))
    task = Speed(count=1, reading=20, writing=4, repeats=1)
    (one,), (other,) = task.measure(fast, None), task.measure(slow, None)
    assert other.values["reading_seconds"] >= 0.05
    assert other.values["writing_seconds"] >= 4 * 0.05
    assert other.values["written_per_second"] < one.values["written_per_second"]


def test_prompts_differ_and_have_the_length_that_is_asked_for():
    prompts = Speed(count=3, reading=50)._prompts(subject())
    assert [len(prompt) for prompt in prompts] == [50, 50, 50]
    assert len(set(map(tuple, prompts))) == 3


def test_memory_is_the_weights_and_the_most_that_was_held_at_once():
    model = torch.nn.Linear(4, 4, bias=False)  # 64 bytes

    def work():
        first = torch.zeros(1000)  # 4,000 bytes, freed before the next
        del first
        second, third = torch.zeros(500), torch.zeros(250)  # 2,000 and 1,000 bytes together
        return second.sum() + third.sum()

    found = peak_bytes(model, work)
    assert 64 + 4000 <= found < 64 + 4000 + 500  # allocators round up to some bytes


def test_weights_that_are_shared_count_once():
    tied = torch.nn.ModuleList([torch.nn.Linear(8, 8, bias=False), torch.nn.Linear(8, 8, bias=False)])
    tied[1].weight = tied[0].weight
    assert peak_bytes(tied, lambda: None) == 8 * 8 * 4


def test_nothing_cannot_be_timed():
    with pytest.raises(UsageError, match="must each be at least 1"):
        Speed(writing=0)
