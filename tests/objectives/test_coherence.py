"""Objectives of models that judge coherence, by hand."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from turnsmith.data.batch import fill_rows, pad
from turnsmith.data.render import Renderer
from turnsmith.errors import DataError
from turnsmith.models.networks.encoder import encoder
from turnsmith.models.score import Scoring
from turnsmith.objectives.coherence import coherent, levels, levels_apart, rated, rated_near, rating
from turnsmith.registry import Registry
from turnsmith.testing import method, stage
from turnsmith.train.method import unit_weights, units
from turnsmith.train.passes import Passes
from turnsmith.types import Path, Rendered, Scores

REGISTRY = Registry()


def logits(numbers):
    return torch.tensor(
        [math.log(one / (1 - one)) for one in numbers], dtype=torch.float64, requires_grad=True
    )


def given(part, *examples, values, **more):
    """Scores of examples, each a list of what the model says of its replies, from 0 to 1."""
    flat = [one for ones in examples for one in ones]
    nothing = torch.full((len(flat),), torch.nan, dtype=torch.float64)
    return Scores(
        logprobs=nothing,
        weights=torch.ones(len(flat), dtype=torch.float64),
        turns=torch.zeros(len(flat), dtype=torch.long),
        path=torch.arange(len(flat)),
        paths=tuple(Path(owner, part, at) for owner, ones in enumerate(examples) for at in range(len(ones))),
        examples=len(examples),
        values={name: torch.tensor(ones) for name, ones in values.items()},
        heads={"rating": logits(flat)},
        **more,
    )


def ranked(*examples):
    """Examples as lists of (level, score)."""
    values = {"level": [level for ones in examples for level, _ in ones]}
    return given("replies", *[[score for _, score in ones] for ones in examples], values=values)


def two_each(best, middle, worst):
    return [(3.0, best), (3.0, best), (2.0, middle), (2.0, middle), (1.0, worst), (1.0, worst)]


def told(loss):
    return [loss.metrics[name].tolist() for name in ("separation", "compactness", "ordering")]


@pytest.mark.parametrize(
    ("scores", "terms"),
    [
        ((0.9, 0.6, 0.3), (0, 0, 0)),
        ((0.5, 0.5, 0.5), (0.3 + 0.3 + 0.6, 0, 0)),
        ((0.3, 0.6, 0.9), (0, 0, 0.3 + 0.3 + 0.6)),  # separation does not see the order
    ],
)
def test_levels_lie_apart_close_together_and_in_order(scores, terms):
    """Check 1 of card 36."""
    loss = levels(ranked(two_each(*scores)))
    assert [one for (one,) in told(loss)] == pytest.approx(terms, abs=1e-6)
    assert loss.values.tolist() == pytest.approx([sum(terms)], abs=1e-6)
    assert loss.metrics["in order"].tolist() == [float(scores == (0.9, 0.6, 0.3))]


def test_a_level_may_be_as_wide_as_the_mean_of_its_deviations_says():
    """Check 2 of card 36: 0.9 and 0.5 have the mean 0.7 and deviate by 0.2, 0.1 too much."""
    loss = levels(ranked([(3.0, 0.9), (3.0, 0.5), (1.0, 0.05)]))
    assert loss.metrics["compactness"].tolist() == pytest.approx([0.1])
    assert loss.metrics["separation"].tolist() == [0.0]  # 0.65 apart, where 0.6 is asked of two steps


def test_missing_replies_are_averaged_over_what_there_is_and_contexts_do_not_mix():
    """Check 6 of card 36, its last part."""
    whole = two_each(0.6, 0.5, 0.1)
    fewer = [(3.0, 0.6), (2.0, 0.5), (2.0, 0.5), (1.0, 0.1)]
    none = [(3.0, 0.6), (1.0, 0.1), (1.0, 0.1)]  # nothing of level 2: one pair, two steps apart
    loss = levels(ranked(whole, fewer, none))
    assert loss.values.tolist() == pytest.approx([0.2 + 0.1, 0.2 + 0.1, 0.1])


def test_the_order_of_replies_says_nothing():
    one = [(3.0, 0.8), (2.0, 0.7), (1.0, 0.4), (3.0, 0.5)]
    assert torch.allclose(levels(ranked(one)).values, levels(ranked(one[::-1])).values)


def test_margins_are_a_mean_over_pairs_of_replies():
    one = [(3.0, 0.8), (2.0, 0.6), (1.0, 0.7)]  # short by 0.1, 0.2 and 0.4
    assert levels_apart(ranked(one)).values.tolist() == pytest.approx([0.7 / 3])
    assert levels_apart(ranked([(3.0, 0.8), (3.0, 0.2)])).values.tolist() == [0.0]


def test_what_lies_between_the_levels_is_incoherent_to_the_binary_objective():
    loss = coherent(ranked([(3.0, 0.8), (2.0, 0.6)], [(1.0, 0.1)]))
    wanted = [-(math.log(0.8) + math.log(0.4)) / 2, -math.log(0.9)]
    assert loss.values.tolist() == pytest.approx(wanted)
    assert loss.metrics["accuracy"].tolist() == [0.5, 1.0]


def test_the_scale_is_that_of_people():
    """Check 5 of card 36: 0 is 1, and 1 is 5."""
    assert rating(torch.tensor([-math.inf, 0.0, math.inf])).tolist() == [1.0, 3.0, 5.0]
    loss = rated(given("text", [0.25], [0.75], values={"score": [4.0, 4.0]}))
    assert loss.values.tolist() == pytest.approx([4.0, 0.0], abs=1e-12)


@pytest.mark.parametrize("score", [0.9, 5.1])
def test_a_rating_off_the_scale_is_refused(score):
    with pytest.raises(DataError, match=f"{score:g} lies outside of 1 to 5"):
        rated(given("text", [0.5], values={"score": [score]}))


def test_the_distance_from_the_start_is_weighed_by_beta():
    before = {"start": {"rating": logits([0.5])}}
    apart = {"states:start": torch.tensor([0.25]), "attention:start": torch.tensor([0.125])}
    s = given("text", [0.75], values={"score": [3.0]}, others=before, apart=apart)
    loss = rated_near(s, alpha=2.0, beta=10.0)
    assert loss.values.tolist() == pytest.approx([2 * 1.0 + 10 * (0.25 + 0.125 + 0.0625)])


# ------------------------------------------------------------------------------ with a small encoder


@pytest.fixture(scope="module")
def judged():
    """A start model with a head, an encoder like it, and rendered replies with ratings."""
    torch.manual_seed(0)
    model, words = encoder(hidden=16, wide=32, layers=2)
    model.set_attn_implementation("eager")
    renderer = Renderer(words)
    found = [
        Rendered(one.id, {"text": (renderer.render(one.parts["text"], "last")[-1],)}, one.values)
        for one in stage("overlap_ratings", {"count": 6})([])
    ]
    return model, found


def twins(model):
    """The model that learns and its frozen start, with the same heads."""
    heads = method("rated_near", registry=REGISTRY).heads
    start = Scoring(copy.deepcopy(model), heads=heads).eval().requires_grad_(False)
    return Scoring(copy.deepcopy(model), heads=heads).eval(), start


def gradient(name, scoring, start, data, row=10**6, **options):
    """The loss of a window, a mean over its examples, and the gradient, cut into rows."""
    known = method(name, options, registry=REGISTRY)
    known = replace(known, others={"start": start} if known.needs else {})
    batches = [pad(run) for run in fill_rows(data, row, layout=pad)]
    scoring.zero_grad()
    total = 0.0
    for batch in batches:
        loss = Passes(scoring, scoring, batch, known, 1.0).loss()
        value = (loss.values * unit_weights(known.per, batch)).sum() / len(data)
        value.backward()
        total += value.item()
    assert sum(units(known.per, batch) for batch in batches) == len(data)
    flat = [p.grad.flatten() for p in scoring.parameters() if p.grad is not None]
    return total, torch.cat(flat)


def test_at_the_first_step_nothing_holds_the_model_back(judged):
    """Check 3 of card 36: without dropout the distance is 0, and its gradient too."""
    model, data = judged
    scoring, start = twins(model)
    plain, alone = gradient("rated", scoring, start, data)
    near, together = gradient("rated_near", scoring, start, data, beta=5.0)
    assert near == plain
    assert torch.equal(alone, together)
    assert alone.abs().max() > 0
    assert all(p.grad is None for p in start.parameters())


def learnt(model, data, steps=80, **options):
    """The scores after steps of a rate that falls to 0, and those of the start, which is as it was."""
    scoring, start = twins(model)
    before = {name: value.clone() for name, value in start.state_dict().items()}
    adam = torch.optim.Adam(scoring.parameters(), lr=1e-3)
    falling = torch.optim.lr_scheduler.LinearLR(adam, 1.0, 1e-3, total_iters=steps)
    for _ in range(steps):
        gradient("rated_near", scoring, start, data, **options)
        adam.step()
        falling.step()
    with torch.no_grad():
        said = [one(pad(data), words=False).heads["rating"].sigmoid() for one in (scoring, start)]
    assert all(torch.equal(value, before[name]) for name, value in start.state_dict().items())
    return said


def test_the_start_is_left_as_it_was_and_beta_says_how_far_the_model_may_go(judged):
    """Checks 3 and 4 of card 36."""
    model, data = judged
    held, start = learnt(model, data, beta=1e5)
    assert (held - start).abs().max() < 1e-3
    free, start = learnt(model, data, beta=0.0)
    assert (free - start).abs().max() > 0.05


def test_without_beta_it_is_plain_regression(judged):
    """Check 4 of card 36, at a model that has moved."""
    model, data = judged
    scoring, start = twins(model)
    with torch.no_grad():
        for parameter in scoring.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    plain, alone = gradient("rated", scoring, start, data)
    near, together = gradient("rated_near", scoring, start, data, beta=0.0)
    assert near == pytest.approx(plain)
    torch.testing.assert_close(together, alone)
    assert gradient("rated_near", scoring, start, data)[0] > plain


@pytest.mark.parametrize("name", ["rated", "rated_near"])
def test_the_gradient_is_the_same_however_the_window_is_cut(judged, name):
    model, data = judged
    scoring, start = twins(model)
    with torch.no_grad():
        for parameter in scoring.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    whole, expected = gradient(name, scoring, start, data)
    cut, found = gradient(name, scoring, start, data[::-1], row=1)
    assert cut == pytest.approx(whole, rel=1e-5)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)  # sums in another order, in fp32
