"""Rewards, lengths and divergences of answers, against plain transformers."""

import pytest
import torch

from turnsmith.errors import UsageError
from turnsmith.evaluation.tasks.rewarded import Rewarded, divergences
from turnsmith.testing import TinyBench, conversations
from turnsmith.types import Example


@pytest.fixture(scope="module")
def bench():
    return TinyBench({"chats": conversations(3)})


def length(conversations, examples):
    assert all(one.values["cut"] in (0.0, 1.0) for one in examples)
    return [float(len(one.messages[-1].ids)) for one in conversations]


def test_an_item_is_the_mean_over_a_prompts_answers(bench):
    items = Rewarded(on="chats", reward=length, n=3, max_new=5).measure(bench.tuned, bench)
    assert [item.id for item in items] == ["chat-0", "chat-1", "chat-2"]
    for item in items:
        assert item.values["reward"] == pytest.approx(item.values["tokens"])
        assert 1 <= item.values["tokens"] <= 5
        assert item.values["kl"] > 0


def test_the_start_has_not_diverged_from_itself(bench):
    items = Rewarded(on="chats", reward=length, max_new=5).measure(bench.start(), bench)
    assert {item.values["kl"] for item in items} == {0.0}


def test_a_prompt_ends_before_the_last_answer(bench):
    (item, *_) = Rewarded(on="chats", reward=length, max_new=5).measure(bench.tuned, bench)
    assert [turn["role"] for turn in item.shown["prompt"]] == ["user", "assistant", "user"]


def test_the_divergence_is_that_of_both_distributions_at_each_token_drawn(bench):
    seen = []

    def note(conversations, examples):
        seen.extend(examples)
        return [0.0] * len(examples)

    items = Rewarded(on="chats", reward=note, max_new=5).measure(bench.tuned, bench)
    for item, example in zip(items, seen, strict=True):
        said = example.parts["text"]
        prompt = bench.tuned.renderer.prompt(said.upto(-1))
        ids = torch.tensor([[*prompt, *said.messages[-1].ids]])
        with torch.no_grad():
            own, start = (
                one.scoring.model(input_ids=ids).logits[0].double().log_softmax(-1)
                for one in (bench.tuned, bench.start())
            )
        places = slice(len(prompt) - 1, ids.shape[1] - 1)
        expected = (own.exp() * (own - start)).sum(-1)[places].sum()
        assert item.values["kl"] == pytest.approx(float(expected), rel=1e-4)


def test_an_answer_that_cannot_be_judged_fails(bench):
    items = Rewarded(on="chats", reward=lambda said, ones: [None] * len(ones), max_new=2).measure(
        bench.tuned, bench
    )
    assert {item.failed for item in items} == {"could not be judged"}


def test_no_answers_have_no_divergence_and_none_are_refused(bench):
    assert divergences(bench.tuned, bench.start(), list[Example]()) == []
    with pytest.raises(UsageError, match="n is 0"):
        Rewarded(on="chats", reward=length, n=0)
