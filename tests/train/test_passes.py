"""Objectives of several passes, through the loop."""

from dataclasses import replace

import pytest
import torch

from turnsmith.data.batch import pack, pad
from turnsmith.data.stream import Stream
from turnsmith.models import forest
from turnsmith.models.score import Scoring
from turnsmith.objectives.likelihood import sft
from turnsmith.testing import Figures, examples, model, tokens
from turnsmith.train.loop import fit
from turnsmith.train.method import Method
from turnsmith.train.options import Fit
from turnsmith.train.passes import Passes
from turnsmith.train.place import Place
from turnsmith.types import Loss, Rendered

DATA = examples(4)
SFT = Method(sft, "token")


def scoring():
    whole = model()
    forest.attach(whole)
    return Scoring(whole)


def test_embeddings_from_the_table_are_what_the_ids_are_read_as():
    subject, batch = scoring(), pack(DATA)
    run = Passes(subject, subject, batch, SFT, 1.0)
    torch.testing.assert_close(run(run.table(run.inputs)).logprobs, run().logprobs)
    assert not run.table(run.inputs).requires_grad


def test_other_embeddings_are_other_inputs():
    """Those of the ids plus one, against a batch that has these ids as inputs."""
    subject, batch = scoring(), pack(DATA)
    run = Passes(subject, subject, batch, SFT, 1.0)
    other = replace(batch, inputs=(batch.inputs + 1) % 300)
    torch.testing.assert_close(run(run.table(other.inputs)).logprobs, subject(other).logprobs)


@pytest.mark.parametrize("layout", [pack, pad])
def test_place_and_position_are_those_of_the_trained_tokens(layout):
    subject, batch = scoring(), layout(DATA)
    run = Passes(subject, subject, batch, SFT, 1.0)
    tokens = [one for example in DATA for one in example.parts["text"]]
    expected = {(int(one.targets[at]), at) for one in tokens for at in one.weights.nonzero()[0]}
    found = {(int(i), int(p)) for i, p in zip(run.inputs.flatten()[run.place], run.position, strict=True)}
    assert found == expected


def twice(run):
    """A pass without gradients, then SFT."""
    first = run(gradients=False, needs=("argmax",))
    assert not first.logprobs.requires_grad
    assert first.reduced["argmax"].shape == first.logprobs.shape
    return Loss(-run().logprobs)


def trained(directory, method, **fitted):
    subject, recorder = scoring(), Figures()
    fit(
        subject,
        Stream(DATA, batch=4, order="given", seed=0),
        method,
        Fit(**{"steps": 2, "batch": 4, "lr": 1e-2, **fitted}),
        directory=directory,
        recorder=recorder,
        place=Place(device="cpu"),
        seed=0,
    )
    return dict(subject.named_parameters()), recorder.rows


@pytest.mark.parametrize("forward", [False, True])
def test_no_gradient_goes_through_metrics(forward):
    def told(given):
        logprobs = (given() if forward else given).logprobs
        return Loss(-logprobs, {"logprobs": logprobs})

    subject = scoring()
    loss = Passes(subject, subject, pack(DATA), Method(told, "token", forward=forward), 1.0).loss()
    assert loss.values.requires_grad
    assert not loss.metrics["logprobs"].requires_grad
    assert torch.equal(loss.metrics["logprobs"], -loss.values)


@pytest.mark.parametrize("row", [1, 10**6])
def test_a_pass_that_is_only_looked_at_changes_nothing_but_the_count_of_operations(tmp_path, row):
    plain, rows = trained(tmp_path / "plain", SFT, row=row)
    passed, found = trained(tmp_path / "twice", Method(twice, "token", forward=True), row=row)
    assert all(torch.equal(passed[name], plain[name]) for name in plain)
    for one, other in zip(rows, found, strict=True):
        assert other["flops"] == pytest.approx(one["flops"] * 4 / 3)  # 6 operations a weight, and 2 more
        assert other["loss"] == one["loss"]


# ------------------------------------------------------------------- objectives that ask the model itself


@pytest.mark.parametrize("layout", [pack, pad])
def test_rows_are_the_ids_of_each_path(layout):
    """Two that share twenty tokens, which a packed row has once, and shorter ones."""
    shared = list(range(3, 23))
    ones = [tokens([*shared, 40, 41], 1), tokens([*shared, 50, 51, 52], 1), tokens([7, 8], 1)]
    data = [Rendered("a", {"text": tuple(ones[:2])}), Rendered("b", {"text": (ones[2],)})]
    batch, subject = layout(data), scoring()
    assert layout is pad or batch.tokens == 27
    found = Passes(subject, subject, batch, SFT, 1.0).rows()
    assert found.tolist() == [[*shared, 40, 41, -1], [*shared, 50, 51, 52], [7, 8, *[-1] * 21]]


def test_what_is_drawn_is_of_the_seed_the_example_and_the_purpose():
    subject = scoring()

    def drawn(data, seed=0, purpose="one"):
        return Passes(subject, subject, pad(data), SFT, 1.0, seed=seed).uniform(purpose, 2, 3)

    all_of = drawn(DATA)
    assert all_of.shape == (4, 2, 3)
    assert torch.equal(drawn(DATA[2:3])[0], all_of[2])
    others = [drawn(DATA, seed=1), drawn(DATA, purpose="other"), all_of.roll(1, 0)]
    assert all((one != all_of).all() for one in others)


def test_a_network_is_asked_itself_and_draws_anew_at_each_step(tmp_path):
    """The loss is the sum of the embeddings of what each row begins with, times what is drawn."""
    seen = []

    def objective(model, run):
        drawn = run.uniform("draw", 1)[:, 0]
        seen.append(drawn.tolist())
        first = model.get_input_embeddings().weight[run.rows()[:, 0]]
        return Loss(first.sum(1) * drawn)

    subject = scoring()
    before = subject.base.get_input_embeddings().weight.detach().clone()
    fit(
        subject,
        Stream(DATA, batch=4, order="given", seed=0),
        Method(objective, "example", network="llama"),
        Fit(steps=2, batch=4, lr=1e-2, dtype="float32"),
        directory=tmp_path,
        recorder=Figures(),
        place=Place(device="cpu"),
        seed=0,
    )
    moved = (subject.base.get_input_embeddings().weight != before).any(1).nonzero()[:, 0].tolist()
    first = {int(one.parts["text"][0].inputs[0]) for one in DATA}
    assert set(moved) == first
    assert len(seen) == 2
    assert seen[0] != seen[1]
