"""Training in which every epoch chooses anew what learns."""

import pytest
import torch

from turnsmith.data.batch import pad
from turnsmith.data.stream import Stream
from turnsmith.models.score import Scoring
from turnsmith.objectives.likelihood import sft
from turnsmith.testing import Figures, examples, model
from turnsmith.train.loop import fit
from turnsmith.train.method import Method
from turnsmith.train.options import Fit
from turnsmith.train.place import Place
from turnsmith.train.stop import Interrupted
from turnsmith.trainables.half import Half
from turnsmith.trainables.install import Learner, learning

OPTIONS = {"resample": "epoch"}
DATA = examples(6)  # epochs of two steps at three examples a step


class Watching(Figures):
    """A recorder that notes what learns at each step, and what every weight is after it."""

    def __init__(self, scoring, stop=None):
        super().__init__(stop)
        self.scoring = scoring
        self.learns, self.weights = [], []

    def step(self, values):
        self.learns.append(set(learning(self.scoring)))
        self.weights.append({name: p.detach().clone() for name, p in self.scoring.named_parameters()})
        super().step(values)


def run(directory, *, stop=None, validate=None, dtype=torch.float32):
    learner = Learner(model(layers=4).to(dtype), Half, OPTIONS, seed=0)
    scoring = Scoring(learner.model, autocast=dtype == torch.bfloat16)
    recorder = Watching(scoring, stop)
    fit(
        scoring,
        Stream(DATA, batch=3, order="shuffled", seed=0),
        Method(sft, "token"),
        Fit(steps=6, batch=3, lr=1e-2, weight_decay=0.1, evaluate=1 if validate else 0),
        directory=directory,
        recorder=recorder,
        place=Place(device="cpu"),
        seed=0,
        layout=pad,
        learner=learner,
        validate=validate,
    )
    return scoring, recorder


def test_what_learns_changes_with_the_epoch_and_only_then(tmp_path):
    _, seen = run(tmp_path)
    first, second, third = seen.learns[0], seen.learns[2], seen.learns[4]
    assert seen.learns == [first, first, second, second, third, third]
    assert len({frozenset(one) for one in (first, second, third)}) == 3


def test_what_is_frozen_in_an_epoch_stays_as_it_was_though_it_learned_before(tmp_path):
    _, seen = run(tmp_path)
    froze = seen.learns[0] - seen.learns[2]
    assert froze
    assert all(torch.equal(seen.weights[1][name], seen.weights[3][name]) for name in froze)
    moved = [name for name in seen.learns[2] if not torch.equal(seen.weights[1][name], seen.weights[3][name])]
    assert set(moved) == seen.learns[2]


@pytest.mark.parametrize("stop", [1, 2, 3, 5])
def test_a_run_that_was_stopped_in_any_epoch_goes_on_to_the_same_bits(tmp_path, stop):
    whole, _ = run(tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", stop=stop)
    again, seen = run(tmp_path / "cut")
    assert len(seen.rows) == 6 - stop
    expected = dict(whole.named_parameters())
    assert all(torch.equal(p, expected[name]) for name, p in again.named_parameters())


def test_what_learned_in_bf16_and_froze_keeps_its_digits_over_an_interruption(tmp_path):
    whole, _ = run(tmp_path / "whole", dtype=torch.bfloat16)
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", stop=3, dtype=torch.bfloat16)
    again, _ = run(tmp_path / "cut", dtype=torch.bfloat16)
    expected = dict(whole.named_parameters())
    assert all(torch.equal(p, expected[name]) for name, p in again.named_parameters())
    assert all(p.dtype == expected[name].dtype for name, p in again.named_parameters())


def test_what_goes_on_learning_keeps_its_optimiser_state_and_what_froze_has_lost_it(tmp_path):
    """Steps that the optimiser has counted: two for each epoch in a row, up to the last of three, that it
    learned."""
    _, seen = run(tmp_path)
    first, second, third = (seen.learns[at] for at in (0, 2, 4))
    kept = torch.load(tmp_path / "step-0000006/optimizer.pt", weights_only=True)["state"]
    found = sorted(int(state["step"]) for state in kept.values())
    expected = sorted(2 + 2 * (name in second) + 2 * (name in second & first) for name in third)
    assert found == expected
    assert set(found) == {2, 4, 6}


def test_the_best_state_is_that_of_all_weights(tmp_path):
    """Validation says that the second of six steps was best; by the end other weights have learned too."""
    values = iter([5.0, 4.0, 1.0, 3.0, 3.0, 3.0, 3.0])  # before the first step, and after each
    scoring, seen = run(tmp_path, validate=lambda: next(values))
    assert all(torch.equal(p, seen.weights[1][name]) for name, p in scoring.named_parameters())
