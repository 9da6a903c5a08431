"""GreenTrainer in the loop: trials leave no trace, what is frozen stays, interruptions do not show."""

import pytest
import torch

from turnsmith.data.batch import pack
from turnsmith.data.stream import Stream
from turnsmith.errors import TrainingError
from turnsmith.models import forest
from turnsmith.models.backward import costs
from turnsmith.models.cost import work
from turnsmith.models.lower import blocks
from turnsmith.models.score import Scoring
from turnsmith.objectives.likelihood import sft
from turnsmith.testing import Figures, examples, model, tokens
from turnsmith.train.loop import fit
from turnsmith.train.method import Method
from turnsmith.train.options import Fit
from turnsmith.train.place import Place
from turnsmith.train.stop import Interrupted
from turnsmith.trainables.adaptive import Green
from turnsmith.trainables.install import Learner, learning
from turnsmith.types import Rendered

DATA = examples(6)  # epochs of two steps at three examples a step
SHARE = 0.6


class Noted(Green):
    """Green, which notes in which epochs it chose with a trial, and whether all weights are as before it."""

    asked = ()

    def select(self, model, draw):
        if draw.trial is None:
            return super().select(model, draw)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        mask = super().select(model, draw)
        same = all(torch.equal(p, before[name]) for name, p in model.named_parameters())
        self.asked = [*self.asked, (draw.epoch, same)]
        return mask


class Watching(Figures):
    """A recorder that notes what learns at each step, and what every weight is after it."""

    def __init__(self, scoring, stop=None):
        super().__init__(stop)
        self.scoring = scoring
        self.learns, self.weights = [], []

    def step(self, values):
        self.learns.append(set(learning(self.scoring.model)))
        self.weights.append({n: p.detach().clone() for n, p in self.scoring.model.named_parameters()})
        super().step(values)


def run(directory, *, stop=None, data=DATA, every=1, lr=1e-2, share=SHARE):
    learner = Learner(model(layers=4), Noted, {"share": share, "every": every}, seed=0)
    forest.attach(learner.model)
    scoring = Scoring(learner.model)
    recorder = Watching(scoring, stop)
    fit(
        scoring,
        Stream(data, batch=3, order="shuffled", seed=0),
        Method(sft, "token", linear=True),
        Fit(steps=6, batch=3, lr=lr, weight_decay=0.1),
        directory=directory,
        recorder=recorder,
        place=Place(device="cpu"),
        seed=0,
        learner=learner,
    )
    return learner, recorder


def test_weights_after_the_trial_are_bit_for_bit_those_before(tmp_path):
    learner, _ = run(tmp_path)
    assert learner.part.asked == [(0, True), (1, True), (2, True)]


def test_the_choice_is_made_at_the_start_and_after_every_so_many_epochs(tmp_path):
    learner, _ = run(tmp_path, every=2)
    assert [epoch for epoch, _ in learner.part.asked] == [0, 2]


def test_what_is_not_chosen_stays_bit_identical_and_what_is_chosen_moves(tmp_path):
    _, seen = run(tmp_path)
    start = {name: p.detach() for name, p in model(layers=4).named_parameters()}
    for learns, before, after in zip(seen.learns, [start, *seen.weights], seen.weights, strict=False):
        moved = {name for name in after if not torch.equal(after[name], before[name])}
        assert moved == learns
        assert 0 < len(learns) < len(after)


def test_no_gradient_comes_below_the_first_that_is_chosen(tmp_path):
    """The blocks below it give states without a history."""
    learner, seen = run(tmp_path, share=0.5)
    whole, batch = learner.model, pack(DATA[:3])
    found = costs(whole, work([batch]))
    first = next(name for name in found.names if name in seen.learns[-1])
    lowest = int(first.split(".")[2])
    assert 0 < lowest < 4
    scoring, given = Scoring(whole).train(), []
    for block in blocks(whole)[1]:
        block.register_forward_hook(lambda module, inputs, output: given.append(output))
    scoring(batch).logprobs.sum().backward()
    assert [one.requires_grad for one in given] == [number >= lowest for number in range(4)]
    with_gradient = {name for name, p in whole.named_parameters() if p.grad is not None}
    assert with_gradient == seen.learns[-1]


def test_each_step_keeps_to_its_share_of_what_full_tuning_takes_over_the_window_that_was_tried(tmp_path):
    learner, seen = run(tmp_path)
    stream = Stream(DATA, batch=3, order="shuffled", seed=0)
    for step in (0, 2, 4):
        found = costs(learner.model, work([pack(stream.window(step))]))
        spent, full = found.forward + found.backward(seen.learns[step]), found.forward + found.total
        assert spent <= SHARE * full + 2 * len(found.names) * found.total / 10_000


def test_the_trial_is_counted_where_it_was_made(tmp_path):
    """Two more passes over the window, forward and backward: before steps 1, 3 and 5."""
    _, seen = run(tmp_path)
    flops = [row["flops"] / row["tokens"] for row in seen.rows]
    assert all(flops[at] > 2 * flops[at + 1] for at in (0, 2, 4))


@pytest.mark.parametrize("stop", [1, 2, 3, 5])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits_and_the_same_choice(tmp_path, stop):
    whole, expected = run(tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", stop=stop)
    again, seen = run(tmp_path / "cut")
    weights = dict(whole.model.named_parameters())
    assert all(torch.equal(p, weights[name]) for name, p in again.model.named_parameters())
    assert seen.learns == expected.learns[stop:]


def test_where_no_weight_moves_one_tensor_learns(tmp_path, capsys):
    """At a rate of 0 nothing has any importance."""
    _, seen = run(tmp_path, lr=0.0)
    assert [len(learns) for learns in seen.learns] == [1] * 6
    assert "no tensor promises a lower loss" in capsys.readouterr().err


def test_a_window_without_a_trained_token_is_an_error_before_anything_moves(tmp_path):
    """Data without any never come so far: they are left out and counted when they are prepared."""
    bare = [Rendered(f"bare-{n}", {"text": (tokens([5, 6, 7], 0),)}) for n in range(3)]
    with pytest.raises(TrainingError, match="a step without a trained token: bare-"):
        run(tmp_path, data=bare)
