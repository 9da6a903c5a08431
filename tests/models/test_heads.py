"""Heads on read-outs of a path: the state of its last token, or the weighted mean of its trained tokens'."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from turnsmith.data.batch import pack, pad
from turnsmith.errors import ModelError
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
    with pytest.raises(
        ValueError, match="no read-out is called 'middle'; there is 'first', 'last' and 'mean'"
    ):
        Scoring(model())(pad(examples(1)), reads=("middle",))


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


# -------------------------------------------------------------------------------- hidden layers, copies

DEEP = {"v": ("mlp", 1), "q": ("mlp", "vocab")}


def test_a_head_behind_a_hidden_layer_by_hand():
    scoring, batch = Scoring(model(), heads=DEEP), pad(examples(2))
    states = scoring.hidden(batch)[batch.source][batch.entry]
    own = {}
    for name, head in scoring.heads.items():
        first, second = head[0], head[2]
        assert first.weight.shape == (64, 32)  # twice as wide as the states
        own[name] = torch.relu(states @ first.weight.T + first.bias) @ second.weight.T + second.bias
    scores = scoring(batch, needs=("q:logsumexp/0.5", "q:max"))
    torch.testing.assert_close(scores.heads["v"], own["v"][:, 0])
    taken = own["q"].gather(1, batch.targets[batch.entry][:, None])[:, 0]
    torch.testing.assert_close(scores.heads["q"], taken)
    torch.testing.assert_close(scores.reduced["q:logsumexp/0.5"], (own["q"] / 0.5).exp().sum(1).log())
    torch.testing.assert_close(scores.reduced["q:max"], own["q"].max(1).values)


@pytest.mark.parametrize("size", [("mlp", 0), ("mlp", "all"), ("last", "vocab")])
def test_a_hidden_layer_or_read_out_before_what_cannot_be_is_refused(size):
    with pytest.raises(ModelError, match="head 'v' has the size"):
        Heads({"v": size}, hidden=4, vocabulary=5)


@pytest.mark.parametrize("divisor", ["0", "-1", "x", ""])
def test_logits_are_divided_by_numbers_above_0_alone(divisor):
    with pytest.raises(ModelError, match="no reduction over the vocabulary is called"):
        Scoring(model(), heads=DEEP)(pad(examples(1)), needs=(f"q:max/{divisor}",))


def test_no_gradient_goes_into_a_copy_or_through_it():
    scoring = Scoring(model(), heads=DEEP, targets={"v": 0.5, "q": 0.5})
    scores = scoring(pad(examples(2)), needs=("q_target:max",))
    assert torch.equal(scores.heads["v_target"], scores.heads["v"])  # it begins where its head is
    assert torch.equal(scores.heads["q_target"], scores.heads["q"])
    for values in (scores.heads["v_target"], scores.heads["q_target"], scores.reduced["q_target:max"]):
        assert not values.requires_grad
    (scores.heads["v"] + scores.heads["v_target"]).sum().backward()
    assert all(copy.grad is None for copy in scoring.heads.copies.values())
    assert set(scoring.heads.copies) == {
        f"{name}_target.{layer}.{kind}" for name in "vq" for layer in "02" for kind in ("weight", "bias")
    }


@pytest.mark.parametrize(("rate", "expected"), [(0.0, 1.0), (0.25, 3.0), (1.0, 9.0)])
def test_a_copy_goes_its_share_of_the_way(rate, expected):
    """Card: rate 1 copies, rate 0 never changes; 1 + 0.25 (9 - 1) = 3."""
    made = Heads({"v": 1}, hidden=2, vocabulary=5, targets={"v": rate})
    with torch.no_grad():
        made["v"].weight.fill_(9.0)
        made["v_target"].weight.fill_(1.0)
    made.follow()
    assert made["v_target"].weight.tolist() == [[expected, expected]]
    assert made["v"].weight.tolist() == [[9.0, 9.0]]


@pytest.mark.parametrize(
    ("sizes", "targets"),
    [({"v": 1}, {"q": 0.1}), ({"v": 1, "v_target": 1}, {"v": 0.1}), ({"v": 1}, {"v": 1.5})],
)
def test_a_copy_that_cannot_be_is_refused(sizes, targets):
    with pytest.raises(ModelError, match="of the way to the head"):
        Heads(sizes, hidden=2, vocabulary=5, targets=targets)


def test_copies_are_saved_and_loaded_and_begin_at_their_heads_where_none_was_saved(tmp_path):
    model().save_pretrained(tmp_path)
    first = Heads({"v": ("mlp", 1)}, hidden=4, vocabulary=5, targets={"v": 0.5}, seed=1)
    with torch.no_grad():
        first["v_target"][0].bias.fill_(7.0)
    heads.save(first, tmp_path)
    again = Heads({"v": ("mlp", 1)}, hidden=4, vocabulary=5, targets={"v": 0.5}, seed=2)
    assert heads.load(again, str(tmp_path)) == []
    assert all(torch.equal(again.state_dict()[name], one) for name, one in first.state_dict().items())
    alone = Heads({"v": ("mlp", 1)}, hidden=4, vocabulary=5, seed=2)
    assert heads.load(alone, str(tmp_path)) == ["v_target"]
    heads.save(alone, tmp_path)
    assert heads.load(again, str(tmp_path)) == []
    assert torch.equal(again["v_target"][0].bias, alone["v"][0].bias)


def test_heads_and_copies_are_handed_to_decoders_as_they_were_saved(tmp_path):
    model().save_pretrained(tmp_path)
    sizes = {"v": ("mlp", 1), "q": ("mlp", "vocab"), "plain": 2}
    whole = Heads(sizes, hidden=4, vocabulary=5, targets={"q": 0.5}, seed=1)
    with torch.no_grad():
        whole["q_target"][2].bias.fill_(7.0)
    heads.save(whole, tmp_path)
    found = heads.projections(str(tmp_path), ["v", "q_target", "plain"])
    states = torch.randn(3, 4)
    assert {name: one.out_features for name, one in found.items()} == {"v": 1, "q_target": 5, "plain": 2}
    for name, one in found.items():
        assert torch.equal(one(states), whole[name](states)), name
        assert not any(parameter.requires_grad for parameter in one.parameters())
    with pytest.raises(ModelError, match=r"no head 'value' beside it \(plain, q, q_target, v\)"):
        heads.projections(str(tmp_path), ["value"])
