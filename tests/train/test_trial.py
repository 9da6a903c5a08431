"""A step that is tried leaves nothing behind, and says what a step would have done."""

import copy

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
from turnsmith.trainables.install import Learner

DATA = examples(6)  # epochs of two steps at three examples a step
NAMES = ["model.layers.1.mlp.up_proj.weight", "model.norm.weight"]


class Chooser:
    """Chooses among two parameters the one that a trial step says would lower the loss more."""

    redraw = True
    seen: list  # of each trial: what it said, and all weights before and after

    def select(self, model, draw):
        if draw.trial is None:
            return dict.fromkeys(NAMES, True)
        before = copy.deepcopy({name: p.detach() for name, p in model.named_parameters()})
        moved = draw.trial(dict.fromkeys(NAMES, True))
        after = {name: p.detach().clone() for name, p in model.named_parameters()}
        gains = {name: -float((one.gradient * one.change).sum()) for name, one in moved.items()}
        self.seen.append((draw.epoch, moved, before, after))
        return {max(gains, key=gains.__getitem__): True}


@pytest.fixture
def seen(monkeypatch):
    found = []
    monkeypatch.setattr(Chooser, "seen", found, raising=False)
    return found


def run(directory, component=Chooser, *, stop=None, dropout=0.0, **fitted):
    whole = model()
    whole.config.attention_dropout = dropout
    learner = Learner(whole, component, {}, seed=0)
    recorder = Figures(stop)
    totals = fit(
        Scoring(learner.model),
        Stream(DATA, batch=3, order="shuffled", seed=0),
        Method(sft, "token"),
        Fit(**{"steps": 6, "batch": 3, "lr": 1e-2, "weight_decay": 0.1, **fitted}),
        directory=directory,
        recorder=recorder,
        place=Place(device="cpu"),
        seed=0,
        layout=pad,
        learner=learner,
    )
    return dict(learner.model.named_parameters()), recorder.rows, totals


def test_it_is_tried_at_the_start_of_every_epoch(tmp_path, seen):
    run(tmp_path)
    assert [epoch for epoch, *_ in seen] == [0, 1, 2]


def test_after_so_many_epochs_where_that_is_asked_for(tmp_path, seen):
    class Rarely(Chooser):
        redraw = 2

    run(tmp_path, Rarely)
    assert [epoch for epoch, *_ in seen] == [0, 2]


def test_the_weights_are_bit_for_bit_as_before(tmp_path, seen):
    run(tmp_path)
    for _, _, before, after in seen:
        assert all(torch.equal(after[name], before[name]) for name in before)


def test_what_it_says_is_what_a_step_with_all_of_them_does(tmp_path, seen):
    """Against a run of one step that trains both, and the gradient at the weights that it ends with."""
    run(tmp_path / "tried", steps=1)
    (_, moved, before, _) = seen[0]

    def both(model, draw):
        return dict.fromkeys(NAMES, True)

    after, _, _ = run(tmp_path / "both", both, steps=1)
    for name in NAMES:
        torch.testing.assert_close(moved[name].change, after[name].detach() - before[name])
    whole = model()
    whole.load_state_dict({name: p.detach() for name, p in after.items()}, strict=False)
    scoring = Scoring(whole)
    batch = pad(Stream(DATA, batch=3, order="shuffled", seed=0).window(0))
    scores = scoring(batch)
    (-(scores.logprobs * scores.weights).sum() / batch.weights.sum()).backward()
    for name in NAMES:
        torch.testing.assert_close(moved[name].gradient, dict(whole.named_parameters())[name].grad)


def test_a_run_with_trials_is_one_in_which_the_choice_was_known(tmp_path, seen):
    """Neither weights, nor the optimiser's state, nor random numbers are touched by trying."""
    tried, rows, _ = run(tmp_path / "tried", dropout=0.2)

    class Known:
        redraw = True

        def select(self, model, draw):
            if draw.trial is None:
                return dict.fromkeys(NAMES, True)
            _, moved, _, _ = seen[draw.epoch]
            gains = {name: -float((one.gradient * one.change).sum()) for name, one in moved.items()}
            return {max(gains, key=gains.__getitem__): True}

    again, other, _ = run(tmp_path / "known", Known, dropout=0.2)
    assert all(torch.equal(again[name], tried[name]) for name in tried)
    assert [row["loss"] for row in other] == [row["loss"] for row in rows]


@pytest.mark.parametrize("stop", [1, 2, 3, 5])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(tmp_path, seen, stop):
    whole, _, totals = run(tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", stop=stop)
    again, rows, found = run(tmp_path / "cut")
    assert len(rows) == 6 - stop
    assert all(torch.equal(p, whole[name]) for name, p in again.items())
    assert found["flops"] == totals["flops"]


def test_what_trying_takes_is_counted(tmp_path, seen):
    _, rows, _ = run(tmp_path)
    with_trial, without = rows[0]["flops"], rows[1]["flops"]
    assert with_trial > 2.5 * without  # two passes with both parameters, and one with the chosen
