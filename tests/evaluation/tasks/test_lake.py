"""The distance to the optimal policy, of policies whose transitions are known."""

import pytest
import torch

from turnsmith.data.batch import pad
from turnsmith.data.render import Renderer
from turnsmith.errors import UsageError
from turnsmith.evaluation.suite import Subject
from turnsmith.evaluation.tasks.lake import FrozenLake
from turnsmith.models.networks.markov import markov
from turnsmith.models.score import Scoring


def subject(steps=()):
    """A chain that steps from one letter to another with the logit 50, and else anywhere alike."""
    model, words = markov(hidden=259)
    ids = {letter: words(letter)["input_ids"][0] for letter in "abcdefghijklmnop"}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(*model.model.embed_tokens.weight.shape))
        model.model.layer.weight.copy_(torch.eye(259))
        for at, to in steps:
            model.lm_head.weight[ids[to], ids[at]] = 50.0
    return Subject("chain", Scoring(model).eval(), Renderer(words), lambda *_, **__: [], pad)


def squared(steps):
    return {item.id: item.values for item in FrozenLake().measure(subject(steps), None)}


def test_a_policy_that_steps_anywhere_is_as_far_as_the_sixteenths_are_from_the_best_steps():
    found = squared([])
    assert list(found) == list("abcdegijkno")
    assert all(values["entries"] == 16 for values in found.values())
    for square, values in found.items():
        # From a and from j two steps are equally good, from e.g. o one is.
        best = [0.5, 0.5] if square in "aj" else [1.0]
        expected = sum((p - 1 / 16) ** 2 for p in best) + (16 - len(best)) / 16**2
        assert values["squared"] == pytest.approx(expected, abs=1e-6), square


def test_a_policy_of_the_best_steps_is_at_no_distance_and_half_of_a_tie_is_half_a_square_off():
    found = squared(["ae", "bc", "cg", "dc", "ei", "gk", "ij", "jn", "ko", "no", "op"])
    assert found.pop("a")["squared"] == found.pop("j")["squared"] == pytest.approx(0.5, abs=1e-6)
    assert [values["squared"] for values in found.values()] == pytest.approx([0.0] * 9, abs=1e-6)


def test_both_sides_of_a_tie_are_no_distance():
    found = squared(["ae", "ab", "jn", "jk"])
    assert found["a"]["squared"] == pytest.approx(0.0, abs=1e-6)
    assert found["j"]["squared"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("discount", [0.0, 1.0, -1.0])
def test_rewards_to_come_have_to_be_discounted(discount):
    with pytest.raises(UsageError, match="lake: discount is"):
        FrozenLake(discount=discount)
