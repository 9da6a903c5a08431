"""A judge that writes critiques, by hand."""

from math import exp, log

import numpy as np
import pytest
import torch

from turnsmith.data.batch import pack, pad
from turnsmith.models import forest
from turnsmith.models.score import Scoring
from turnsmith.objectives.critic import critique
from turnsmith.testing import model, scores, tokens
from turnsmith.types import Rendered, Tokens


def judged(*pairs, tied=0.0, critiqued=1.0):
    """Critiques of two tokens and of one, of -0.5, -1.5 and -2; what the head says of each pair's answers."""
    count = len(pairs)
    parts = {"chosen": [[-0.5, -1.5]] * count, "rejected": [[-2.0]] * count}
    values = {"tied": [tied] * count, "critiqued": [critiqued] * count}
    return scores(parts, heads={"reward": [one for pair in pairs for one in pair]}, values=values)


def test_the_loss_by_hand():
    # Ranking log(1 + e^-1.5), centring (2 + 0.5)^2, critiques (0.5 + 1.5) / 2 + 2 = 3.
    found = critique(judged((2.0, 0.5)), ranking=2.0, centre=0.01, language=0.5)
    expected = 2 * log(1 + exp(-1.5)) + 0.01 * 6.25 + 0.5 * 3
    assert found.values.item() == pytest.approx(expected, abs=1e-12)
    assert found.metrics["nats_critique"].item() == 1.5


def test_tied_pairs_are_drawn_together_and_not_ranked():
    found = critique(judged((2.0, 0.5), (1.0, 1.0), tied=1.0, critiqued=0.0), tie=3.0, centre=0.0)
    assert found.values.tolist() == [3 * 1.5**2, 0.0]


def test_a_pair_without_critiques_has_no_words_to_learn():
    given = judged((0.0, 0.0), critiqued=0.0)
    found = critique(given, centre=0.0)
    assert found.values.item() == pytest.approx(log(2), abs=1e-12)
    found.values.sum().backward()
    assert given.logprobs.grad is None or not given.logprobs.grad.any()


def test_centring_is_least_where_numbers_sum_to_0_and_changes_no_gradient_there():
    def slope(centre):
        given = judged((0.7, -0.7), critiqued=0.0)
        critique(given, centre=centre).values.sum().backward()
        return given.heads["reward"].grad

    assert torch.equal(slope(0.0), slope(5.0))
    near = critique(judged((0.8, -0.7), (0.7, -0.7), (0.6, -0.7)), ranking=0.0, language=0.0, centre=1.0)
    assert near.values.tolist() == pytest.approx([0.01, 0.0, 0.01])


def test_the_number_is_read_at_the_last_token_however_much_padding_follows():
    whole = model()
    scoring = Scoring(whole, heads={"reward": ("last", 1)}).eval()
    short, long = tokens([5, 6, 8, 9], 2), tokens([7] * 30, 2)

    def said(*others, layout=pad):
        batch = layout([Rendered(str(at), {"text": (one,)}) for at, one in enumerate((short, *others))])
        with torch.no_grad():
            return scoring(batch).heads["reward"][0].item()

    alone = said()
    assert said(long) == pytest.approx(alone, abs=1e-6)
    changed = Tokens(np.array([5, 6, 8, 4], np.int32), short.targets, short.weights, short.turns)
    with torch.no_grad():
        other = scoring(pad([Rendered("a", {"text": (changed,)})])).heads["reward"][0].item()
    assert abs(other - alone) > 1e-4  # the last token counts
    forest.attach(whole)
    assert said(long, layout=pack) == pytest.approx(alone, abs=1e-6)
