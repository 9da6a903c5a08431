"""A model that judges, by hand."""

from math import exp, log

import pytest
import torch

from turnsmith.data.batch import pack
from turnsmith.models import forest
from turnsmith.models.score import Scoring
from turnsmith.objectives.rank import reward
from turnsmith.testing import model, scores, tokens
from turnsmith.types import Rendered


def judged(*pairs):
    """Scores of pairs, given what the head says of the chosen and the rejected answer of each."""
    parts = {"chosen": [[-1.0]] * len(pairs), "rejected": [[-1.0]] * len(pairs)}
    return scores(parts, heads={"reward": [one for pair in pairs for one in pair]})


def test_the_loss_is_that_of_a_logistic_choice_between_both():
    loss = reward(judged((2.0, 0.5), (-1.0, 1.0)))
    assert loss.values.tolist() == pytest.approx([log(1 + exp(-1.5)), log(1 + exp(2.0))])
    assert loss.metrics["accuracy"].tolist() == [1.0, 0.0]
    assert loss.metrics["margin"].tolist() == [1.5, -2.0]


def test_only_the_difference_counts():
    assert torch.equal(reward(judged((2.0, 0.5))).values, reward(judged((12.0, 10.5))).values)


def test_identical_texts_give_log_2():
    """Check of card 11."""
    whole = model()
    forest.attach(whole)
    scoring = Scoring(whole, heads={"reward": ("last", 1)}).eval()
    one = tokens([5, 6, 8, 9], 2)
    with torch.no_grad():
        loss = reward(scoring(pack([Rendered("a", {"chosen": (one,), "rejected": (one,)})])))
    assert loss.values.item() == pytest.approx(log(2), abs=1e-6)
