"""Guesses are what they should be, and replies are the same with and without."""

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from turnsmith.errors import ModelError
from turnsmith.sample.drafts import DraftModel, PromptLookup
from turnsmith.sample.engine import LocalEngine
from turnsmith.sample.rows import Rows
from turnsmith.types import Sampling

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
}
PROMPTS = [[5, 6, 7], [9, 3, 4, 5, 6, 7, 8, 9, 10], [11], [40, 41, 42, 40, 41, 42, 40, 41]]


def llama(seed=0, vocabulary=67, **sizes):
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, **SIZES | sizes)).eval()


class Told:
    """Rows that only hold tokens."""

    def __init__(self, *tokens):
        self.tokens = [list(row) for row in tokens]


@pytest.mark.parametrize(
    ("held", "new", "guess"),
    [
        ([1, 2, 3, 4, 5, 1, 2], 3, [4, 5, 1]),  # three ids that came before
        ([7, 1, 2, 9, 8, 5, 1], 2, [9, 8, 5]),  # two of them
        ([1, 2, 3, 8, 1, 2, 3, 9, 1, 2], 3, [9, 1, 2]),  # the last time counts
        ([6, 1, 2, 3, 8, 7, 2, 3, 9, 1, 2], 3, [8, 7, 2]),  # a longer match before a later one
        ([1, 2, 3], 4, []),
        ([1, 1], 1, [1]),
        ([], 3, []),
    ],
)
def test_what_followed_the_last_time_is_guessed(held, new, guess):
    assert PromptLookup(most=3).guess(Told(held), [new], [], [Sampling()]) == [guess]


@pytest.mark.parametrize("sampling", [Sampling(0, max_new=40), Sampling(0.8, 0.95, max_new=40)])
@pytest.mark.parametrize("rows", [1, 3, 8])
def test_replies_are_the_same_with_and_without_guesses(sampling, rows):
    model, small = llama(), llama(seed=1, num_hidden_layers=1)
    given = {"sampling": sampling, "seeds": range(8)}
    prompts = PROMPTS * 2
    plain = LocalEngine(model, stop=[1, 60], rows=rows).generate(prompts, **given)
    for drafter in (PromptLookup(), DraftModel(small), DraftModel(model)):
        guessed = LocalEngine(model, stop=[1, 60], rows=rows, drafter=drafter).generate(prompts, **given)
        assert [one.ids for one in guessed] == [one.ids for one in plain]
        for one, other in zip(guessed, plain, strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
            assert one.finish == other.finish


@pytest.mark.parametrize("sampling", [Sampling(0, max_new=41), Sampling(0.8, max_new=41)])
def test_a_model_that_guesses_as_it_draws_is_always_right(monkeypatch, sampling):
    model = llama()
    drafter = DraftModel(model, most=4)
    passes = []
    read = Rows.read
    monkeypatch.setattr(
        Rows,
        "read",
        lambda self, rows, news, **options: (
            passes.append(self is not drafter.rows) or read(self, rows, news, **options)
        ),
    )
    LocalEngine(model, stop=[], drafter=drafter).generate([PROMPTS[1]], sampling=sampling, seeds=[3])
    # One pass for the prompt and the first id; then five ids with each, four guesses and the one behind them.
    assert sum(passes) == 1 + 40 / 5


def test_drawing_with_guesses_follows_the_probabilities():
    """Of 4,000 second tokens after one first token, as many of each as the model says; guesses are wrong
    often, since the smaller model is another one."""
    model, small = llama(vocabulary=12), llama(seed=5, vocabulary=12, num_hidden_layers=1)
    sampling = Sampling(1.0, max_new=3)
    drawn = LocalEngine(model, stop=[], drafter=DraftModel(small, most=2), rows=256).generate(
        [[5, 6, 7]] * 4000, sampling=sampling, seeds=range(4000)
    )
    pairs = np.zeros((12, 12))
    for one in drawn:
        pairs[one.ids[0], one.ids[1]] += 1
    with torch.no_grad():
        first = model(input_ids=torch.tensor([[5, 6, 7]])).logits[0, -1].softmax(0)
        second = model(input_ids=torch.tensor([[5, 6, 7, i] for i in range(12)])).logits[:, -1].softmax(1)
    expected = 4000 * (first[:, None] * second).numpy()
    likely = expected >= 5
    distance = ((pairs - expected) ** 2 / expected)[likely].sum()
    degrees = likely.sum() - 1
    # Chi-square with so many degrees exceeds its mean by four standard deviations once in ten thousand times.
    assert distance < degrees + 4 * (2 * degrees) ** 0.5


def test_another_vocabulary_is_refused():
    model, other = llama(), llama(vocabulary=66)
    local = LocalEngine(model, stop=[], drafter=DraftModel(other))
    with pytest.raises(ModelError, match="knows 66 ids and the one that decides 67"):
        local.generate([[5, 6]], sampling=Sampling(max_new=4), seeds=[0])
