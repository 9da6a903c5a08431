"""Objectives of several passes, through the loop."""

from dataclasses import replace

import pytest
import torch

from turnsmith.data.batch import pack, pad
from turnsmith.data.stream import Stream
from turnsmith.models import forest
from turnsmith.models.score import Scoring
from turnsmith.objectives.likelihood import sft
from turnsmith.testing import Figures, examples, model
from turnsmith.train.loop import fit
from turnsmith.train.method import Method
from turnsmith.train.options import Fit
from turnsmith.train.passes import Passes
from turnsmith.train.place import Place
from turnsmith.types import Loss

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


@pytest.mark.parametrize("row", [1, 10**6])
def test_a_pass_that_is_only_looked_at_changes_nothing_but_the_count_of_operations(tmp_path, row):
    plain, rows = trained(tmp_path / "plain", SFT, row=row)
    passed, found = trained(tmp_path / "twice", Method(twice, "token", forward=True), row=row)
    assert all(torch.equal(passed[name], plain[name]) for name in plain)
    for one, other in zip(rows, found, strict=True):
        assert other["flops"] == pytest.approx(one["flops"] * 4 / 3)  # 6 operations a weight, and 2 more
        assert other["loss"] == one["loss"]
