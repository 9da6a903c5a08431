"""Heads on read-outs of a path: the state of its last token, or the weighted mean of its trained tokens'."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from turnsmith.data.batch import pack, pad
from turnsmith.models import forest, heads
from turnsmith.models.heads import Heads
from turnsmith.models.score import Scoring
from turnsmith.registry import Registry
from turnsmith.testing import OBJECTIVE, examples, method, model, tokens
from turnsmith.types import Rendered

SIZES = {"reward": ("last", 1), "kinds": ("mean", 3), "value": 1}


def weighed(*weights: float) -> Rendered:
    """A sequence whose last tokens have these weights."""
    one = tokens(list(range(3, 10)), 0)
    own = np.array([0.0] * (7 - len(weights)) + list(weights), np.float32)
    return Rendered("weighed", {"text": (replace(one, weights=own),)})


def test_a_head_on_the_last_state_and_one_on_the_mean_by_hand():
    scoring = Scoring(model(), heads=SIZES)
    scores = scoring(pad([weighed(1.0, 0.0, 3.0)]), reads=("mean", "last"))
    with torch.no_grad():
        (states,) = scoring.base.model(torch.arange(3, 10)[None]).last_hidden_state
        mean = (1 * states[4] + 3 * states[6]) / 4
        reward, kinds = scoring.heads["reward"], scoring.heads["kinds"]
        expected = {
            "reward": reward.weight @ states[6] + reward.bias,
            "kinds": kinds.weight @ mean + kinds.bias,
        }
    torch.testing.assert_close(scores.read["last"][0], states[6])
    torch.testing.assert_close(scores.read["mean"][0], mean)
    torch.testing.assert_close(scores.heads["reward"], expected["reward"])
    torch.testing.assert_close(scores.heads["kinds"][0], expected["kinds"])
    assert {name: tuple(values.shape) for name, values in scores.heads.items()} == {
        "reward": (1,),
        "kinds": (1, 3),
        "value": (2,),
    }


def test_read_outs_that_only_heads_ask_for_are_not_handed_on():
    assert Scoring(model(), heads=SIZES)(pad(examples(1))).read == {}


def test_the_mean_of_no_trained_token_is_zero():
    scoring = Scoring(model(), heads=SIZES)
    scores = scoring(pad([weighed()]), reads=("mean",))
    assert not scores.read["mean"].any()
    assert torch.equal(scores.heads["kinds"][0], scoring.heads["kinds"].bias)


def test_another_read_out_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="no read-out is called 'first'; there is 'last' and 'mean'"):
        Scoring(model())(pad(examples(1)), reads=("first",))


def test_values_and_gradients_are_the_same_in_a_forest_and_in_plain_rows():
    data = examples(3, parts=("chosen", "rejected"))
    whole = model()
    forest.attach(whole)
    scoring = Scoring(whole, heads=SIZES)
    found = []
    for layout in (pack, pad):
        scoring.zero_grad()
        scores = scoring(layout(data))
        values = torch.cat([scores.heads["reward"][:, None], scores.heads["kinds"]], 1)
        (values * torch.linspace(-1, 2, values.numel()).view_as(values)).sum().backward()
        slopes = {name: p.grad.clone() for name, p in scoring.named_parameters() if p.grad is not None}
        found.append((values.detach(), slopes))
    assert found[0][0].shape == (6, 4)
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)  # fp32, in another order


def test_they_come_back_from_beside_the_model(tmp_path):
    model().save_pretrained(tmp_path)
    first, again = (Heads(SIZES, hidden=8, vocabulary=9, seed=seed) for seed in (1, 2))
    heads.save(first, tmp_path)
    assert heads.load(again, str(tmp_path)) == []
    assert torch.equal(again["reward"].weight, first["reward"].weight)


MINE = '''
from turnsmith.registry import objective
from turnsmith.types import Loss, Scores

@objective("ranked", per="sequence", reads=("mean",), heads={"reward": ("last", 1), "kinds": ("mean", 2)})
def ranked(s: Scores) -> Loss:
    """Every reward towards 1, and of two kinds the first."""
    kinds = -s.heads["kinds"].log_softmax(1)[:, 0]
    return Loss((s.heads["reward"] - 1) ** 2 + kinds + 0.01 * s.read["mean"].pow(2).sum(1))
'''


@pytest.fixture
def ranked(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    registry = Registry(tmp_path / "index.json")
    registry.use(file)
    return method("ranked", registry=registry)


@pytest.mark.parametrize("check", OBJECTIVE, ids=lambda check: check.__name__)
def test_an_objective_with_heads_on_read_outs_keeps_the_contract(ranked, check):
    check(ranked, ("text",))
