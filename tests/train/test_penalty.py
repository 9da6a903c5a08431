"""What a trainable adds to the loss: its gradient is the same however a window is cut."""

import pytest
import torch
from torch import nn

from turnsmith.data.batch import pack, pad
from turnsmith.data.stream import Stream
from turnsmith.errors import TrainingError
from turnsmith.models import forest
from turnsmith.models.score import Scoring
from turnsmith.objectives.likelihood import sft
from turnsmith.testing import Figures, examples, model
from turnsmith.train.loop import fit
from turnsmith.train.method import Method
from turnsmith.train.options import Fit
from turnsmith.train.place import Place
from turnsmith.trainables.install import Learner
from turnsmith.types import Loss

DATA = examples(5)


class Gate(nn.Module):
    """A weight for each state after the last norm, which it leaves as it is."""

    def __init__(self, norm, size):
        super().__init__()
        self.norm, self.weight, self.last = norm, nn.Parameter(torch.linspace(-1, 1, size)), None

    def forward(self, states):
        out = self.norm(states)
        self.last = torch.sigmoid(out @ self.weight)  # (B, T)
        return out


class Even:
    """Penalises uneven gates: the squared coefficient of variation over paths of their sums."""

    def __init__(self, *, pull=1.0):
        self.pull = pull

    def attach(self, model):
        model.model.norm = Gate(model.model.norm, model.config.hidden_size)
        return model

    def select(self, model, draw):
        return {"model.norm.weight": True}

    def tally(self, model, batch):
        """(3,): sum, sum of squares and number of paths, each the sum of the gates on its trained tokens."""
        gates = model.model.norm.last.flatten()[batch.place]
        sums = gates.new_zeros(len(batch.paths)).index_add(0, batch.path, gates)
        return torch.stack([sums.sum(), sums.square().sum(), sums.new_tensor(float(len(sums)))])

    def penalty(self, model, total):
        first, second, count = total
        return self.pull * (second / count - (first / count) ** 2) / (first / count) ** 2


class Small:
    """Penalises the size of the weights that learn."""

    redraw = False

    def select(self, model, draw):
        return {"model.norm.weight": True}

    def penalty(self, model, total):
        assert total is None
        return model.model.norm.weight.square().sum()


def nothing(scores):
    """A loss of nothing, so that what moves the weights is the penalty."""
    return Loss(0.0 * scores.logprobs)


def run(directory, component, options=None, *, objective=nothing, layout=pack, place=None, **fitted):
    whole = model()
    forest.attach(whole)
    learner = Learner(whole, component, options or {}, seed=0)
    recorder = Figures()
    fit(
        Scoring(learner.model),
        Stream(DATA, batch=5, order="given", seed=0),
        Method(objective, "token"),
        Fit(
            **{
                "steps": 2,
                "batch": 5,
                "lr": 1e-2,
                "clip": 0.0,
                "schedule": "constant",
                "warmup": 0.0,
                **fitted,
            }
        ),
        directory=directory,
        recorder=recorder,
        place=place or Place(device="cpu"),
        seed=0,
        layout=layout,
        learner=learner,
    )
    return dict(learner.model.named_parameters()), recorder.rows


def test_a_penalty_of_the_weights_counts_once_however_many_micro_batches_there_are(tmp_path):
    size = model().config.hidden_size  # weights of 1: the penalty is their number, its gradient 2 for each
    for row in (1, 10**6):
        _, rows = run(tmp_path / str(row), Small, row=row)
        assert rows[0]["penalty"] == pytest.approx(size)
        assert rows[0]["gradient"] == pytest.approx(2 * size**0.5)
        assert rows[0]["loss"] == 0


@pytest.mark.parametrize(("row", "layout"), [(1, pack), (60, pack), (60, pad)])
def test_a_penalty_of_tallies_has_the_same_gradient_for_every_cut(tmp_path, row, layout):
    whole, rows = run(tmp_path / "whole", Even, row=10**6)
    cut, found = run(tmp_path / "cut", Even, row=row, layout=layout)
    for one, other in zip(rows, found, strict=True):
        assert one["penalty"] > 1e-4
        assert other["penalty"] == pytest.approx(one["penalty"], rel=1e-4)
        assert other["gradient"] == pytest.approx(one["gradient"], rel=1e-3)
    name = "model.norm.weight"
    torch.testing.assert_close(cut[name], whole[name], atol=1e-5, rtol=0)


def test_it_adds_to_the_loss(tmp_path):
    alone, _ = run(tmp_path / "alone", Even, {"pull": 0.0}, objective=sft)
    both, rows = run(tmp_path / "both", Even, {"pull": 3.0}, objective=sft)
    assert rows[0]["loss"] > 1
    assert not torch.equal(alone["model.norm.weight"], both["model.norm.weight"])


def test_the_first_pass_draws_the_same_random_numbers_as_the_second(tmp_path):
    seen = []

    class Noisy(Even):
        def tally(self, model, batch):
            found = super().tally(model, batch) * (1 + torch.rand(()))
            seen.append(float(found[0].detach()))
            return found

    run(tmp_path, Noisy, row=1, steps=1)
    assert len(seen) == 10
    assert seen[:5] == seen[5:]
    assert len(set(seen)) == 5


def test_a_tally_without_a_penalty_is_an_error(tmp_path):
    class Half:
        def select(self, model, draw):
            return {"model.norm.weight": True}

        def tally(self, model, batch):
            return torch.zeros(1)

    with pytest.raises(TrainingError, match="needs `penalty` as well"):
        run(tmp_path, Half, row=1)
