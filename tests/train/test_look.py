"""Looking ahead of a step: what it gives, and that it leaves no trace."""

import copy

import pytest
import torch
from torch import nn

from turnsmith.data.batch import pack, pad
from turnsmith.data.stream import Stream
from turnsmith.errors import TrainingError
from turnsmith.models import forest
from turnsmith.models.score import Scoring
from turnsmith.objectives.labels import Reweighted, agreement, verbalised
from turnsmith.testing import Figures, model, tokens
from turnsmith.train.look import Ahead, gradient
from turnsmith.train.loop import fit
from turnsmith.train.method import Method
from turnsmith.train.options import Fit
from turnsmith.train.place import Place
from turnsmith.train.stop import Interrupted
from turnsmith.trainables.bottleneck import BottleneckAdapters
from turnsmith.trainables.install import Learner
from turnsmith.types import Loss, Rendered


def questions(count, seed=0):
    """Examples with two answers of one token, behind 20 others that both share; the target is random."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for number in range(count):
        prompt = torch.randint(3, 320, (20,), generator=generator).tolist()
        answers = tuple(tokens([*prompt, 40 + one], 1) for one in range(2))
        right = float(torch.rand((), generator=generator) < 0.5)
        made.append(Rendered(f"{seed}-{number}", {"labels": answers}, {"target": (right, 1 - right)}))
    return made


POOL, LABELLED = questions(12), questions(6, seed=1)


class Dropping(nn.Module):
    """A norm that drops some of what it gives, so that training draws random numbers."""

    def __init__(self, norm):
        super().__init__()
        self.norm, self.dropout = norm, nn.Dropout(0.1)

    def forward(self, states):
        return self.dropout(self.norm(states))


class Started:
    """A class made with a learner on a tiny model, and what `fit` needs beside it."""

    def __init__(self, objective, *, layout=pack, dropout=False, **fitted):
        whole = model()
        forest.attach(whole)
        self.learner = Learner(whole, BottleneckAdapters, {"size": 4}, seed=0)
        if dropout:
            whole.model.norm = Dropping(whole.model.norm)
        self.scoring = Scoring(self.learner.model)
        self.method = Method(objective, "example")
        base = {"steps": 4, "batch": 4, "lr": 1e-2, "schedule": "constant", "warmup": 0.0, "clip": 0.0}
        self.options = Fit(**base | fitted)
        self.layout = layout
        self.ahead = Ahead(
            self.scoring, self.method, self.options, {"labelled": LABELLED}, seed=0, layout=layout
        )

    def run(self, directory, *, ahead=True, stop=None):
        recorder = Figures(stop)
        fit(
            self.scoring,
            Stream(POOL, batch=self.options.batch, order="shuffled", seed=0),
            self.method,
            self.options,
            directory=directory,
            recorder=recorder,
            place=Place(device="cpu"),
            seed=0,
            layout=self.layout,
            learner=self.learner,
            ahead=self.ahead if ahead else None,
        )
        return {name: p.detach().clone() for name, p in self.learner.model.named_parameters()}, recorder.rows


def state(scoring, optimizer):
    """All that a look must leave as it is."""
    return copy.deepcopy(
        (
            scoring.state_dict(),
            [p.grad for p in scoring.parameters()],
            optimizer.state_dict(),
            torch.get_rng_state(),
            [module.training for module in scoring.modules()],
        )
    )


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def test_check_5_a_look_leaves_weights_gradients_optimiser_and_random_numbers_as_they_are():
    started = Started(Reweighted(after=0.0), dropout=True)
    started.scoring.train()
    optimizer = torch.optim.AdamW([p for p in started.scoring.parameters() if p.requires_grad], lr=1e-2)
    started.scoring(pack(POOL[:2])).logprobs.sum().backward()
    optimizer.step()  # there are moments, and gradients
    before = state(started.scoring, optimizer)
    window, flops = started.ahead.valued(POOL[:4], 2, 4, 1e-2)
    assert same(before, state(started.scoring, optimizer))
    assert flops > 0
    weights = [one.values["weight"] for one in window]
    assert min(weights) >= 0
    assert max(weights) > 1
    assert sum(weights) == pytest.approx(4, rel=0.05)
    assert [(one.id, one.parts) for one in window] == [(one.id, one.parts) for one in POOL[:4]]
    torch.manual_seed(9)
    again, _ = started.ahead.valued(POOL[:4], 2, 4, 1e-2)
    assert [one.values["weight"] for one in again] == weights  # without dropout, and the same labelled ones


def test_check_3_the_inner_product_is_how_much_a_virtual_step_along_one_loss_lowers_the_other():
    """Two parameters, real steps of size +-h along the gradient of each example's loss."""
    whole = model().double()
    scoring, lr, h = Scoring(whole).eval(), 0.1, 1e-4
    whole.requires_grad_(False)
    plane = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    generator = torch.Generator().manual_seed(3)
    ways = torch.randn(2, 32, generator=generator, dtype=torch.float64)
    start = whole.model.norm.weight.detach().clone()

    class Plane(nn.Module):
        """The last norm, its weight moved in a plane: all that there is to learn are two numbers."""

        def __init__(self, norm):
            super().__init__()
            self.norm, self.at = norm, plane

        def forward(self, states):
            return self.norm(states) * (1 + self.at @ ways / start)

    whole.model.norm = Plane(whole.model.norm)
    method = Method(verbalised, "example")
    batch = pad(LABELLED)

    def of(batch):
        (slope,) = gradient(scoring, [batch], method, [plane])
        return slope

    def labelled_loss():
        with torch.no_grad():
            return verbalised(scoring(batch)).values.mean().item()

    for example in POOL[:3]:
        one = pad([example])
        expected = lr * agreement([of(batch)], [of(one)])
        slope, losses = of(one), []
        for epsilon in (h, -h):
            with torch.no_grad():
                plane.copy_(-lr * epsilon * slope)  # one step of gradient descent on epsilon * l_u
            losses.append(labelled_loss())
        with torch.no_grad():
            plane.zero_()
        found = -(losses[0] - losses[1]) / (2 * h)
        assert abs(expected) > 1e-7
        assert found == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("row", "layout"), [(1, pack), (60, pack), (60, pad)])
def test_the_result_is_the_same_however_windows_are_cut(tmp_path, row, layout):
    whole, rows = Started(Reweighted(after=0.5), row=10**6).run(tmp_path / "whole")
    cut, found = Started(Reweighted(after=0.5), row=row, layout=layout).run(tmp_path / "cut")
    for one, other in zip(rows, found, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-3)
    for name, weight in whole.items():
        torch.testing.assert_close(cut[name], weight, atol=2e-4, rtol=0)


def test_a_run_that_is_interrupted_goes_on_to_the_same_bits(tmp_path):
    straight, _ = Started(Reweighted(after=0.25), dropout=True).run(tmp_path / "straight")
    with pytest.raises(Interrupted):
        Started(Reweighted(after=0.25), dropout=True).run(tmp_path / "twice", stop=2)
    twice, rows = Started(Reweighted(after=0.25), dropout=True).run(tmp_path / "twice")
    assert [row["step"] for row in rows] == [3, 4]
    assert all(torch.equal(twice[name], weight) for name, weight in straight.items())


def test_until_the_weights_come_the_steps_are_those_of_the_plain_objective_to_the_bit(tmp_path):
    plain, _ = Started(verbalised, dropout=True).run(tmp_path / "plain", ahead=False)
    uniform, _ = Started(Reweighted(after=1.0), dropout=True).run(tmp_path / "uniform")
    weighed, _ = Started(Reweighted(after=0.0), dropout=True).run(tmp_path / "weighed")
    assert all(torch.equal(uniform[name], weight) for name, weight in plain.items())
    assert not all(torch.equal(weighed[name], weight) for name, weight in plain.items())


def test_labelled_examples_are_others_each_step_and_all_where_there_are_no_more(tmp_path):
    seen = []

    class Spy(Reweighted):
        def before_step(self, look):
            seen.append(([one.id for one in look.beside("labelled", 3)], len(look.beside("labelled", 99))))
            return {}

    Started(Spy()).run(tmp_path)
    assert [count for _, count in seen] == [6] * 4
    assert len({tuple(ids) for ids, _ in seen}) > 1
    assert all(len(set(ids)) == 3 for ids, _ in seen)


def test_elements_that_do_not_learn_are_no_part_of_a_gradient():
    whole = model()

    def corner(model, draw):
        weight = dict(model.named_parameters())["model.norm.weight"]
        return {"model.norm.weight": torch.arange(len(weight)) < 5}

    learner = Learner(whole, corner, {}, seed=0)
    seen = []

    class Spy:
        def before_step(self, look):
            seen.append(look.gradient(LABELLED[:2]))
            return {}

        def __call__(self, s):
            return verbalised(s)

    scoring = Scoring(whole)
    ahead = Ahead(scoring, Method(Spy(), "example"), Fit(steps=1), {}, seed=0, layout=pad, learner=learner)
    ahead.valued(POOL[:2], 0, 1, 1e-2)
    ((slope,),) = seen
    assert (slope[:5] != 0).all()
    assert (slope[5:] == 0).all()


def test_as_many_numbers_as_examples_or_an_error():
    class Short:
        def before_step(self, look):
            return {"weight": [1.0]}

        def __call__(self, s):
            return Loss(s.logprobs)

    with pytest.raises(
        TrainingError, match="step 1: the objective gives 1 numbers as 'weight' for 4 examples"
    ):
        Started(Short()).ahead.valued(POOL[:4], 0, 4, 1e-2)
