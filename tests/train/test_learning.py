"""What the optimiser holds of parameters that learn in part."""

import math

import pytest
import torch
from torch import nn

from turnsmith.data.batch import pad
from turnsmith.data.stream import Stream
from turnsmith.errors import ModelError
from turnsmith.models.score import Scoring
from turnsmith.objectives.likelihood import sft
from turnsmith.testing import Figures, examples, model
from turnsmith.train.learning import Learning
from turnsmith.train.loop import fit
from turnsmith.train.method import Method
from turnsmith.train.optim import adamw
from turnsmith.train.options import Fit
from turnsmith.train.place import Place
from turnsmith.train.stop import Interrupted
from turnsmith.trainables.install import Learner, install

DATA = examples(6)


class Some(nn.Module):
    """A matrix and a vector."""

    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        self.vector = nn.Parameter(torch.tensor([5.0, 6.0]))


ELEMENTS = {"matrix": torch.tensor([[False, True], [True, False]]), "vector": torch.tensor([False, True])}


def test_of_a_matrix_it_holds_a_column_and_of_a_vector_a_vector():
    held = Learning(Some(), ELEMENTS).parameters
    assert held["matrix"].tolist() == [[2.0], [3.0]]
    assert held["vector"].tolist() == [6.0]


def test_gradients_are_taken_from_the_whole_and_values_are_put_back_there():
    some = Some()
    learning = Learning(some, ELEMENTS)
    (some.matrix * torch.tensor([[10.0, 20.0], [30.0, 40.0]])).sum().backward()
    learning.gather()
    assert learning.parameters["matrix"].grad.tolist() == [[20.0], [30.0]]
    assert some.matrix.grad is None
    with torch.no_grad():
        learning.parameters["matrix"] += 0.5
    learning.scatter()
    assert some.matrix.tolist() == [[1.0, 2.5], [3.5, 4.0]]


def test_weight_decay_takes_from_the_elements_of_a_matrix_that_learn_and_from_nothing_else():
    """By hand: the first step of AdamW decays, then moves by the rate against the gradient's sign."""
    some = Some()
    learning = Learning(some, ELEMENTS)
    optimizer = adamw(learning.parameters.values(), Fit(steps=1, lr=0.1, weight_decay=0.5))
    (some.matrix.sum() + some.vector.sum()).backward()
    learning.gather()
    optimizer.step()
    learning.scatter()
    decayed = [2 * 0.95 - 0.1, 3 * 0.95 - 0.1]
    assert [some.matrix[0, 1].item(), some.matrix[1, 0].item()] == pytest.approx(decayed, abs=1e-6)
    assert [some.matrix[0, 0].item(), some.matrix[1, 1].item()] == [1.0, 4.0]
    assert some.vector.tolist() == pytest.approx([5.0, 6 - 0.1], abs=1e-6)


def checker(model, draw):
    """Every second element of one matrix."""
    weight = dict(model.named_parameters())["model.layers.0.mlp.up_proj.weight"]
    which = torch.zeros(weight.numel(), dtype=torch.bool)
    which[::2] = True
    return {"model.layers.0.mlp.up_proj.weight": which.view_as(weight)}


def run(directory, *, stop=None, validate=None, **options):
    learner = Learner(model(), checker, {}, seed=0)
    scoring = Scoring(learner.model)
    recorder = Figures(stop)
    chosen = Fit(**{"steps": 4, "batch": 3, "lr": 1e-2, "weight_decay": 0.1, **options})
    fit(
        scoring,
        Stream(DATA, batch=3, order="shuffled", seed=0),
        Method(sft, "token"),
        chosen,
        directory=directory,
        recorder=recorder,
        place=Place(device="cpu"),
        seed=0,
        layout=pad,
        learner=learner,
        validate=validate,
    )
    return dict(learner.model.named_parameters()), recorder.rows


def test_only_the_elements_that_learn_change_and_all_of_them_do(tmp_path):
    name = "model.layers.0.mlp.up_proj.weight"
    before = dict(model().named_parameters())
    after, _ = run(tmp_path)
    changed = {each: (after[each] != before[each]).flatten() for each in after}
    assert changed[name][::2].all()
    assert not changed[name][1::2].any()
    assert not any(which.any() for each, which in changed.items() if each != name)


def test_the_gradient_that_is_clipped_and_recorded_is_that_of_the_elements(tmp_path):
    scoring = Scoring(install(model(), checker, {}, seed=0)).train()
    window = Stream(DATA, batch=3, order="shuffled", seed=0).window(0)
    batch = pad(window)
    scores = scoring(batch)
    (-(scores.logprobs * scores.weights).sum() / batch.weights.sum()).backward()
    weight = dict(scoring.model.named_parameters())["model.layers.0.mlp.up_proj.weight"]
    expected = math.sqrt(float(weight.grad.flatten()[::2].square().sum()))
    _, rows = run(tmp_path)
    assert rows[0]["gradient"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("stop", [1, 3])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(tmp_path, stop):
    whole, _ = run(tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", stop=stop)
    again, rows = run(tmp_path / "cut")
    assert len(rows) == 4 - stop
    assert all(torch.equal(p, whole[name]) for name, p in again.items())


def test_a_checkpoint_holds_no_more_than_what_learns(tmp_path):
    from safetensors.torch import load_file

    run(tmp_path)
    held = load_file(tmp_path / "step-0000004/learning.safetensors")
    (one,) = held.values()
    assert one.shape == (dict(model().named_parameters())["model.layers.0.mlp.up_proj.weight"].numel() / 2, 1)


def test_the_best_state_is_put_back(tmp_path):
    values = iter([5.0, 1.0, 3.0])  # before the first step, after the second and the last
    best, _ = run(tmp_path, validate=lambda: next(values), evaluate=2)
    half, _ = run(tmp_path / "half", steps=4, evaluate=0, stop=None)
    first = next(iter(best))
    assert not all(torch.equal(best[name], half[name]) for name in best)
    assert torch.equal(best[first], half[first])  # what does not learn


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (lambda weight: torch.ones(3, dtype=torch.bool), r"shape \(3,\)"),
        (torch.ones_like, "torch.float32 tensor"),
    ],
)
def test_a_mask_of_another_shape_or_kind_is_refused(mask, reason):
    def wrong(model, draw):
        name = "model.norm.weight"
        return {name: mask(dict(model.named_parameters())[name])}

    with pytest.raises(ModelError, match=reason):
        install(model(), wrong, {}, seed=0)


def test_a_mask_without_an_element_selects_nothing():
    def none(model, draw):
        weight = dict(model.named_parameters())["model.norm.weight"]
        return {"model.norm.weight": torch.zeros_like(weight, dtype=torch.bool)}

    with pytest.raises(ModelError, match="nothing would learn"):
        install(model(), none, {}, seed=0)
